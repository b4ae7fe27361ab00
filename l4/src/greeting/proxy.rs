//! The PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2): headers read and written.
//!
//! The format itself is the crate's; here is what is kept of it. Not here: who is trusted, and what a
//! server is told (`crate::proxy`). Invariants: a header is read whole or not at all, and has at most
//! [`HEADER_MAX`] bytes; what it said besides addresses is kept as it was said.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader, Tlv};
use ringlane_core::snapshot::SendProxy;

use super::Progress;

/// Bytes of the longest header that is read; HAProxy's fit into 536.
pub const HEADER_MAX: usize = 4096;

/// The ends of a connection as its first proxy saw them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ends {
    /// Who speaks.
    pub client: SocketAddr,
    /// To whom it connected.
    pub server: SocketAddr,
}

/// What a header said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxied {
    /// Whom it spoke of.
    pub ends: Ends,
    /// What else it said, as it was said.
    pub tlvs: Vec<Tlv<'static>>,
}

/// Reads a header: how long it is, and what it said; nothing if the proxy speaks for itself.
pub fn read(bytes: &[u8]) -> Progress<(usize, Option<Proxied>)> {
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        Ok((header, len)) if len <= HEADER_MAX => {
            let proxied = header.proxied_address().map(|to| Proxied {
                ends: Ends { client: to.source, server: to.destination },
                tlvs: kept(&header),
            });
            Progress::Done((len, proxied))
        }
        Err(Error::BufferTooShort) if bytes.len() < HEADER_MAX => Progress::More,
        _ => Progress::Not,
    }
}

/// What a header said besides addresses, but for what is about its own bytes.
fn kept(header: &ProxyHeader<'_>) -> Vec<Tlv<'static>> {
    let about_itself = |tlv: &Tlv<'_>| matches!(tlv, Tlv::Crc32c(_) | Tlv::Noop(_));
    let tlvs = header.tlvs().filter_map(Result::ok).filter(|tlv| !about_itself(tlv));
    tlvs.map(Tlv::into_owned).collect()
}

/// The header that tells of `ends`; without them, that nobody is spoken for. `tlvs`, of less than 64 KiB,
/// are for version 2.
pub fn write(send: SendProxy, ends: Option<Ends>, tlvs: Vec<Tlv<'_>>) -> Vec<u8> {
    let about = ends.filter(|ends| ends.client.is_ipv4() == ends.server.is_ipv4());
    let about = about.map(|ends| ProxiedAddress::stream(ends.client, ends.server));
    let mut bytes = Vec::new();
    let encoded = match send {
        SendProxy::V1 => ProxyHeader::with_tlvs(about, []).encode_v1(&mut bytes),
        SendProxy::V2(_) => ProxyHeader::with_tlvs(about, tlvs).encode_v2(&mut bytes),
    };
    // Fails only for addresses of two families, which are no ends of one connection, and for more
    // than fits: what is passed on is bounded above.
    debug_assert!(encoded.is_ok());
    bytes
}

#[cfg(test)]
mod tests {
    use ringlane_core::snapshot::ProxyDetails;

    use super::*;

    #[test]
    fn writes_what_the_protocol_says() {
        let ends = Ends {
            client: "192.0.2.1:40000".parse().unwrap(),
            server: "192.0.2.9:5432".parse().unwrap(),
        };
        let v2 = SendProxy::V2(ProxyDetails::default());
        let write = |send, ends| write(send, ends, Vec::new());
        let v1 = write(SendProxy::V1, Some(ends));
        assert_eq!(v1, b"PROXY TCP4 192.0.2.1 192.0.2.9 40000 5432\r\n");
        assert_eq!(write(SendProxy::V1, None), b"PROXY UNKNOWN\r\n");
        let of_both = write(v2, Some(ends));
        assert!(of_both.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"), "{of_both:?}");
        assert!(write(v2, None).starts_with(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"));
        let two_families = Ends { server: "[::1]:1".parse().unwrap(), ..ends };
        assert_eq!(write(SendProxy::V1, Some(two_families)), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn what_a_header_says_besides_addresses_is_kept() {
        let said = [
            Tlv::Authority("db.example.org".into()),
            Tlv::Noop(5),
            Tlv::Custom(0xEA, b"aws"[..].into()),
            Tlv::Crc32c(7),
        ];
        let header = ProxyHeader::with_tlvs(None, said.clone());
        assert_eq!(kept(&header), [said[0].clone(), said[2].clone()]);
        let bytes = write(SendProxy::V2(ProxyDetails::default()), None, kept(&header));
        let (again, len) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        assert_eq!((again.authority(), len), (Some("db.example.org"), bytes.len()));
    }
}
