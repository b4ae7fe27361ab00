//! The first message of PostgreSQL clients (protocol 3, chapters "Message Flow" and "Formats").
//!
//! A request for encryption, a cancel, or a startup with user and database; and the errors that
//! such clients understand. Not here: what follows in a session (`transactions::postgres`).

use std::ops::RangeInclusive;

use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::parsed::Parsed;
use ringlane_core::settings::RoleWanted;

use super::client_hello::HANDSHAKE;
use super::reader::Reader;

/// Bytes of the longest startup packet, as in the server.
const STARTUP_MAX: usize = 10_000;

/// The answer to [`First::Gss`]: not offered. The client goes on in clear text or asks for TLS.
pub const NOT_OFFERED: &[u8] = b"N";

/// The answer to [`First::Ssl`]: go on with TLS.
pub const OFFERED: &[u8] = b"S";

/// The request for TLS, as a client sends it.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

const CANCEL: usize = 80_877_102;
const SSL: usize = 80_877_103;
const GSS: usize = 80_877_104;

/// What a client says first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum First {
    /// It asks for TLS ([`SSL_REQUEST`]) and waits for the answer.
    Ssl,
    /// It asks for encryption by GSSAPI, in 8 bytes, and waits for the answer.
    Gss,
    /// It begins with TLS at once (PostgreSQL 17).
    Tls,
    /// It wants a query cancelled, and says nothing else.
    Cancel(Key),
    /// It wants a session.
    Startup {
        /// The user's name.
        user: String,
        /// The database's name; the user's if it names none.
        database: String,
    },
}

/// By what a query is cancelled: the server process and its secret.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Bytes of the shortest and of the longest: the process and a secret of 4 (protocol 3.0) to
    /// 256 bytes (3.2).
    const LENGTHS: RangeInclusive<usize> = 8..=260;

    /// A key of these bytes, process first; `None` if it can be none.
    fn new(bytes: &[u8]) -> Option<Self> {
        Self::LENGTHS.contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// The packet that cancels by it.
    pub fn cancel_request(&self) -> Vec<u8> {
        let len = 8 + self.0.len();
        let mut packet = Vec::with_capacity(len);
        packet.extend((len as u32).to_be_bytes());
        packet.extend((CANCEL as u32).to_be_bytes());
        packet.extend(&self.0);
        packet
    }
}

/// Reads the first message from what a client has sent, and how long it is. TLS has its own parser.
pub fn first(bytes: &[u8]) -> Parsed<(First, usize)> {
    if bytes.first() == Some(&HANDSHAKE) {
        return Parsed::Whole((First::Tls, 0));
    }
    let mut reader = Reader(bytes);
    let Some(len) = reader.number(4) else { return Parsed::Part };
    if !(8..=STARTUP_MAX).contains(&len) {
        return Parsed::Invalid;
    }
    let Some(code) = reader.number(4) else { return Parsed::Part };
    let is_session = code >> 16 == 3;
    match (code, len) {
        (SSL, 8) => return Parsed::Whole((First::Ssl, len)),
        (GSS, 8) => return Parsed::Whole((First::Gss, len)),
        (CANCEL, _) if Key::LENGTHS.contains(&(len - 8)) => {}
        _ if is_session => {}
        _ => return Parsed::Invalid,
    }
    let Some(body) = reader.take(len - 8) else { return Parsed::Part };
    let first = if is_session { startup(Reader(body)) } else { Key::new(body).map(First::Cancel) };
    first.map_or(Parsed::Invalid, |first| Parsed::Whole((first, len)))
}

fn startup(mut parameters: Reader<'_>) -> Option<First> {
    let (mut user, mut database) = (None, None);
    loop {
        let name = parameters.text()?;
        if name.is_empty() {
            break;
        }
        let value = parameters.text()?;
        match name {
            b"user" => user = Some(value),
            b"database" => database = Some(value),
            _ => {}
        }
    }
    let user = user.filter(|user| !user.is_empty())?;
    let database = database.filter(|database| !database.is_empty()).unwrap_or(user);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(First::Startup { user: text(user), database: text(database) })
}

/// The message that ends a session with an error that clients know how to take (`ErrorResponse`).
pub fn error(code: &str, message: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
        fields.push(field);
        fields.extend(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let mut packet = vec![b'E'];
    packet.extend((fields.len() as u32 + 4).to_be_bytes());
    packet.extend(fields);
    packet
}

/// What a client reads when its session is ended, after the words of the server itself.
pub fn farewell(why: Reason) -> String {
    let what = match why {
        Reason::Drained => "its server is drained by an operator",
        Reason::Maintenance => "its server is put into maintenance by an operator",
        Reason::Stopped => "the load balancer is stopping",
        Reason::Down => "its server is down",
        Reason::Conflict => "more than one server claims to be the primary",
        Reason::Lag => "its server lags too far behind the primary",
        Reason::Demoted => "its server is no longer the primary",
        Reason::Promoted => "its server is no longer a replica",
        // No other reason ends a session that lives.
        _ => "its server has changed",
    };
    format!("terminating connection: {what}")
}

/// What a client reads when no server was found for its session; nothing if it, or an order, ended
/// it.
pub fn unavailable(close: Close, reason: Option<Reason>, role: RoleWanted) -> Option<&'static str> {
    let is_one_open = reason != Some(Reason::NoServer);
    Some(match (close.cause, close.phase, role) {
        (Cause::Refused, Phase::Queue, _) => {
            "all servers are at their limit of connections, and too many clients wait already"
        }
        (Cause::ServerTimeout, Phase::Queue, _) => {
            "no server had room for another connection in time"
        }
        (Cause::Server, _, RoleWanted::Primary) if !is_one_open => {
            "no primary server is available at the moment"
        }
        (Cause::Server, _, RoleWanted::Replica) if !is_one_open => {
            "no replica server is available at the moment"
        }
        (Cause::Server, _, _) if !is_one_open => "no server is available at the moment",
        (Cause::Server, _, _) => "no server accepts connections at the moment",
        (Cause::ServerTimeout, _, _) => "no server answered in time",
        (Cause::Resource, _, _) => "the load balancer has run out of resources",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 4).to_be_bytes();
        [&[kind][..], &len, body].concat()
    }

    fn startup_packet(parameters: &[u8]) -> Vec<u8> {
        let len = (parameters.len() as u32 + 8).to_be_bytes();
        [&len[..], &[0, 3, 0, 0], parameters].concat()
    }

    #[test]
    fn the_first_message_is_read_in_any_pieces() {
        let packet = startup_packet(b"user\0app\0application_name\0x\0database\0shop\0\0");
        for len in 0..packet.len() {
            assert_eq!(first(&packet[..len]), Parsed::Part);
        }
        let wanted = First::Startup { user: "app".to_owned(), database: "shop".to_owned() };
        assert_eq!(first(&packet), Parsed::Whole((wanted, packet.len())));
        let short = startup_packet(b"user\0app\0\0");
        let wanted = First::Startup { user: "app".to_owned(), database: "app".to_owned() };
        assert_eq!(first(&short), Parsed::Whole((wanted, short.len())));
        assert_eq!(first(&SSL_REQUEST), Parsed::Whole((First::Ssl, 8)));
        assert_eq!(first(&[0, 0, 0, 8, 4, 210, 22, 48]), Parsed::Whole((First::Gss, 8)));
        assert_eq!(first(&[22, 3]), Parsed::Whole((First::Tls, 0)));
    }

    #[test]
    fn a_cancel_is_written_as_it_was_read() {
        for secret in [4, 32, 256] {
            let key = Key((0..4 + secret).map(|n| n as u8).collect());
            let packet = key.cancel_request();
            assert_eq!(first(&packet[..packet.len() - 1]), Parsed::Part);
            assert_eq!(first(&packet), Parsed::Whole((First::Cancel(key), packet.len())));
        }
        let none = [&[0, 0, 0, 15, 4, 210, 22, 46][..], &[0; 7]].concat();
        assert_eq!(first(&none), Parsed::Invalid);
    }

    #[test]
    fn nothing_else_is_waited_for() {
        for bytes in
            [&b"GET / HTTP/1.1"[..], &[0, 0, 0, 7], &[0, 0, 0x27, 0x11], &[0, 0, 0, 9, 0, 2, 0, 0]]
        {
            assert_eq!(first(bytes), Parsed::Invalid, "{bytes:?}");
        }
        for parameters in [&b"\0"[..], b"user\0\0\0", b"user\0app\0", b"database\0d\0\0", b"user"] {
            assert_eq!(first(&startup_packet(parameters)), Parsed::Invalid, "{parameters:?}");
        }
    }

    #[test]
    fn an_error_is_what_clients_take() {
        let packet = error("57P01", "gone");
        assert_eq!(packet, message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0"));
    }
}
