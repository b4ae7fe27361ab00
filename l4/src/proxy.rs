//! The PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2): who the client really is.
//!
//! Read before a session's first byte, from clients whose word is trusted; written before the first
//! byte to a server. The format itself is the crate's. Invariants: a header is read whole or not at
//! all, within its timeout and [`HEADER_MAX`]; what came behind it is kept for the relay.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader};
use ringlane_core::close::{Cause, Close, Phase};
use ringlane_core::reactor::{Receiver, Stream};
use ringlane_core::snapshot::{AcceptProxy, SendProxy};
use ringlane_core::sys::Buffer;

/// Bytes of the longest header that is read; HAProxy's fit into 536.
const HEADER_MAX: usize = 4096;

/// The ends of a connection as its first proxy saw them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// What was read: the ends, unless the proxy speaks for itself, and what came behind the header.
pub(crate) struct Header {
    pub(crate) ends: Option<Ends>,
    pub(crate) rest: Option<Buffer>,
}

/// Whether a client's word is to be heard.
pub(crate) fn is_trusted(accept: &AcceptProxy, client: Option<IpAddr>) -> bool {
    // Who comes over a unix socket has no address; the socket's permissions let it in.
    accept.trusted.is_empty()
        || client.is_none_or(|client| accept.trusted.iter().any(|net| net.contains(&client)))
}

/// Reads a header; what ends the session if there is none.
pub(crate) async fn read(receiver: &mut Receiver<'_>) -> Result<Header, Close> {
    let ended = |cause| Close { cause, phase: Phase::Request };
    let mut header: Vec<u8> = Vec::new();
    loop {
        let received = receiver.next().await.map_err(|_| ended(Cause::Client))?;
        let Some(mut buffer) = received else { return Err(ended(Cause::Client)) };
        let before = header.len();
        let room = HEADER_MAX - before;
        header.extend_from_slice(&buffer.bytes()[..buffer.len().min(room)]);
        match ProxyHeader::parse(&header, ParseConfig::default()) {
            Ok((parsed, len)) => {
                let ends = parsed.proxied_address();
                let ends = ends.map(|to| Ends { client: to.source, server: to.destination });
                buffer.consume(len - before);
                let rest = Some(buffer).filter(|rest| !rest.is_empty());
                return Ok(Header { ends, rest });
            }
            Err(Error::BufferTooShort) if header.len() < HEADER_MAX => {}
            Err(_) => return Err(ended(Cause::Refused)),
        }
    }
}

/// The header that tells a server of `ends`; without them, that nobody is spoken for.
pub(crate) fn write(version: SendProxy, ends: Option<Ends>) -> Vec<u8> {
    let about = ends.filter(|ends| ends.client.is_ipv4() == ends.server.is_ipv4());
    let header = about.map_or_else(ProxyHeader::with_local, |ends| {
        ProxyHeader::with_address(ProxiedAddress::stream(ends.client, ends.server))
    });
    let mut bytes = Vec::new();
    let encoded = match version {
        SendProxy::V1 => header.encode_v1(&mut bytes),
        SendProxy::V2 => header.encode_v2(&mut bytes),
    };
    // Fails only for addresses of two families, which are no ends of one connection.
    debug_assert!(encoded.is_ok());
    bytes
}

/// The ends of a connection as the kernel sees them; `None` for unix sockets.
pub(crate) fn ends_of(client: &Stream) -> Option<Ends> {
    Some(Ends { client: client.peer_address()?, server: client.own_address()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_the_protocol_says() {
        let ends = Ends {
            client: "192.0.2.1:40000".parse().unwrap(),
            server: "192.0.2.9:5432".parse().unwrap(),
        };
        let v1 = write(SendProxy::V1, Some(ends));
        assert_eq!(v1, b"PROXY TCP4 192.0.2.1 192.0.2.9 40000 5432\r\n");
        assert_eq!(write(SendProxy::V1, None), b"PROXY UNKNOWN\r\n");
        let v2 = write(SendProxy::V2, Some(ends));
        assert!(v2.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"), "{v2:?}");
        assert!(write(SendProxy::V2, None).starts_with(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"));
        let two_families = Ends { server: "[::1]:1".parse().unwrap(), ..ends };
        assert_eq!(write(SendProxy::V1, Some(two_families)), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn only_named_networks_are_trusted() {
        let accept = |nets: &[&str]| AcceptProxy {
            trusted: nets.iter().map(|net| net.parse().unwrap()).collect(),
            timeout: std::time::Duration::from_secs(1),
        };
        let from = |ip: &str| Some(ip.parse().unwrap());
        assert!(is_trusted(&accept(&[]), from("192.0.2.1")));
        let some = accept(&["10.0.0.0/8", "2001:db8::/32"]);
        assert!(is_trusted(&some, from("10.9.8.7")) && is_trusted(&some, from("2001:db8::1")));
        assert!(!is_trusted(&some, from("11.0.0.1")) && is_trusted(&some, None));
    }
}
