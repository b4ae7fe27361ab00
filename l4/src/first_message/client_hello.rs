//! The first message of a TLS client (RFC 8446, section 4.1.2): which name and protocols it wants.
//!
//! Not a TLS implementation: nothing is decrypted, answered or checked but the form. The message
//! may be split over records (section 5.1) and packets. Names are those of RFC 6066, section 3, and
//! protocols those of RFC 7301, section 3.1.

use ringlane_core::parsed::Parsed;

use super::GREETING_MAX;
use super::reader::Reader;

/// The content type of a record that holds handshake messages.
pub const HANDSHAKE: u8 = 22;

/// The longest record (RFC 8446, section 5.1).
const RECORD_MAX: usize = 1 << 14;

/// Protocols that are looked at; a client that offers more is routed by the first ones.
const PROTOCOLS_MAX: usize = 32;

const CLIENT_HELLO: usize = 1;
const SERVER_NAME: usize = 0;
const ALPN: usize = 16;

/// What a client asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHello {
    /// The name of the server that it wants, in lower case and without a dot at the end.
    pub server_name: Option<String>,
    /// The protocols that it offers, the one that it likes best first.
    pub protocols: Vec<Vec<u8>>,
}

/// Reads the first message from all bytes that a client has sent.
pub fn read(bytes: &[u8]) -> Parsed<ClientHello> {
    let mut records = Reader(bytes);
    let mut message = Vec::new();
    loop {
        match next_record(&mut records) {
            Parsed::Whole(payload) => message.extend_from_slice(payload),
            Parsed::Part if bytes.len() >= GREETING_MAX => return Parsed::Invalid,
            Parsed::Part => return Parsed::Part,
            Parsed::Invalid => return Parsed::Invalid,
        }
        let mut whole = Reader(&message);
        let (Some(kind), Some(len)) = (whole.number(1), whole.number(3)) else { continue };
        if kind != CLIENT_HELLO || len > GREETING_MAX {
            return Parsed::Invalid;
        }
        if let Some(body) = whole.take(len) {
            return parse(Reader(body)).map_or(Parsed::Invalid, Parsed::Whole);
        }
    }
}

/// The payload of the next record, once it is whole.
fn next_record<'a>(records: &mut Reader<'a>) -> Parsed<&'a [u8]> {
    let mut record = *records;
    match (record.number(1), record.number(1)) {
        (None, _) | (Some(22), None) => return Parsed::Part,
        (Some(22), Some(3)) => {}
        _ => return Parsed::Invalid,
    }
    let (Some(_minor), Some(len)) = (record.number(1), record.number(2)) else {
        return Parsed::Part;
    };
    if len == 0 || len > RECORD_MAX {
        return Parsed::Invalid;
    }
    let Some(payload) = record.take(len) else { return Parsed::Part };
    *records = record;
    Parsed::Whole(payload)
}

fn parse(mut hello: Reader<'_>) -> Option<ClientHello> {
    let _version_and_random = hello.take(2 + 32)?;
    let _session_id = hello.vector(1)?;
    let _cipher_suites = hello.vector(2)?;
    let _compression = hello.vector(1)?;
    let mut found = ClientHello::default();
    if hello.0.is_empty() {
        // Before TLS 1.3 there may be no extensions.
        return Some(found);
    }
    let mut extensions = hello.vector(2)?;
    while !extensions.0.is_empty() {
        let (kind, body) = (extensions.number(2)?, extensions.vector(2)?);
        match kind {
            SERVER_NAME => found.server_name = server_name(body)?,
            ALPN => found.protocols = protocols(body)?,
            _ => {}
        }
    }
    Some(found)
}

/// The host name among the names; `None` inside if there is none that could be one.
fn server_name(mut extension: Reader<'_>) -> Option<Option<String>> {
    let mut names = extension.vector(2)?;
    while !names.0.is_empty() {
        let (kind, name) = (names.number(1)?, names.vector(2)?);
        if kind == 0 {
            return Some(host_name(name.0));
        }
    }
    Some(None)
}

fn host_name(bytes: &[u8]) -> Option<String> {
    let is_of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.iter().all(is_of_a_name))?;
    let name = text.strip_suffix('.').unwrap_or(text);
    (1..=255).contains(&name.len()).then(|| name.to_ascii_lowercase())
}

fn protocols(mut extension: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = extension.vector(2)?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() && protocols.len() < PROTOCOLS_MAX {
        protocols.push(list.vector(1)?.0.to_vec());
    }
    Some(protocols)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello with these extensions, as the payload of records.
    fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        let mut all = Vec::new();
        for (kind, bytes) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((bytes.len() as u16).to_be_bytes());
            all.extend(bytes);
        }
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn records(message: &[u8], of: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let mut record = vec![HANDSHAKE, 3, 1];
            record.extend((part.len() as u16).to_be_bytes());
            record.extend(part);
            record
        };
        message.chunks(of).flat_map(record).collect()
    }

    fn name(text: &str) -> (u16, Vec<u8>) {
        let len = text.len() as u16;
        let mut bytes = (len + 3).to_be_bytes().to_vec();
        bytes.push(0);
        bytes.extend(len.to_be_bytes());
        bytes.extend(text.as_bytes());
        (0, bytes)
    }

    #[test]
    fn name_and_protocols_are_found_whatever_the_records_and_pieces() {
        let alpn = (16, b"\0\x0c\x02h2\x08http/1.1".to_vec());
        let message = message(&[(0x2a2a, vec![]), name("DB1.Example.org."), alpn]);
        let wanted = ClientHello {
            server_name: Some("db1.example.org".to_owned()),
            protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        for size in [1, 3, 50, 4000] {
            let bytes = records(&message, size);
            for len in 0..bytes.len() {
                assert_eq!(read(&bytes[..len]), Parsed::Part, "{len} of {}", bytes.len());
            }
            assert_eq!(read(&bytes), Parsed::Whole(wanted.clone()));
            let more = [&bytes[..], b"\x14\x03\x03\x00\x01\x01"].concat();
            assert_eq!(read(&more), Parsed::Whole(wanted.clone()), "what follows is not ours");
        }
    }

    #[test]
    fn what_is_no_client_hello_is_told_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"\x16\x04",
            b"\x15\x03\x03",
        ] {
            assert_eq!(read(bytes), Parsed::Invalid, "{bytes:?}");
        }
        assert_eq!(read(b"\x16\x03\x01\x00\x00"), Parsed::Invalid, "an empty record");
        assert_eq!(read(b"\x16\x03\x01\x40\x01"), Parsed::Invalid, "too long a record");
        assert_eq!(read(b"\x16\x03\x01\x00\x04\x02\0\0\0"), Parsed::Invalid, "a ServerHello");
        assert_eq!(read(b"\x16\x03\x01\x00\x04\x01\0\x41\0"), Parsed::Invalid, "too long");
        let broken = records(&[1, 0, 0, 3, 3, 3, 7], 4000);
        assert_eq!(read(&broken), Parsed::Invalid);
    }

    #[test]
    fn a_name_that_can_be_none_is_no_name() {
        let long = "a".repeat(256);
        for text in ["", ".", "a b", "b\u{fc}cher.example", "a/b", "a\0b", &long] {
            let bytes = records(&message(&[name(text)]), 4000);
            assert_eq!(read(&bytes), Parsed::Whole(ClientHello::default()), "{text:?}");
        }
        let without = records(&message(&[]), 4000);
        assert_eq!(read(&without), Parsed::Whole(ClientHello::default()));
    }
}
