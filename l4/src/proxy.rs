//! The PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2): who the client really is.
//!
//! Read before a session's first byte, from clients whose word is trusted; written before the first
//! byte to a server. The format itself is the crate's. Invariants: a header is read whole or not at
//! all, within its timeout and [`HEADER_MAX`]; what came behind it is kept for the relay; what it
//! said besides addresses is said to the server again.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader, Tlv};
use ringlane_core::close::{Cause, Close, Phase};
use ringlane_core::reactor::{Elapsed, Receiver, Stream};
use ringlane_core::snapshot::{AcceptProxy, ProxyDetails, SendProxy};
use ringlane_core::sys::Buffer;

use crate::clients::{self, REFUSED, Refused};
use crate::session::Account;

/// Bytes of the longest header that is read; HAProxy's fit into 536.
const HEADER_MAX: usize = 4096;

/// Bytes of the longest name or protocol that is passed on: a name of DNS has 255 at most.
const DETAIL_MAX: usize = 255;

/// The ends of a connection as its first proxy saw them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// What a header said.
#[derive(Debug)]
pub(crate) struct Proxied {
    pub(crate) ends: Ends,
    /// What else it said, as it was said.
    tlvs: Vec<Tlv<'static>>,
}

/// What was read: nothing of a proxy that speaks for itself; and what came behind the header.
struct Header {
    proxied: Option<Proxied>,
    rest: Option<Buffer>,
}

/// Hears a PROXY header, where one is expected: what came behind it.
pub(crate) async fn hear(
    receiver: &mut Receiver<'_>,
    account: &mut Account,
) -> Result<Option<Buffer>, Close> {
    let (shard, client) = (Rc::clone(&account.shard), receiver.stream());
    let Some(accept) = &account.frontend().accept_proxy else { return Ok(None) };
    if !is_trusted(accept, client.peer_address().map(|address| address.ip())) {
        return Ok(None);
    }
    let deadline = shard.reactor.now() + accept.timeout;
    let header = shard.reactor.timeout_at(deadline, read(receiver)).await;
    let late = Close { cause: Cause::ClientTimeout, phase: Phase::Request };
    let Header { proxied, rest } = header.map_err(|Elapsed| late)??;
    if let Some(proxied) = proxied {
        let place = clients::enter(&shard, account.frontend_id(), proxied.ends.client.ip());
        let place = place.map_err(|Refused| {
            if clients::is_reset(&shard, account.frontend_id()) {
                client.reset_on_close();
            }
            REFUSED
        })?;
        account.is_for(proxied, place);
    }
    Ok(rest)
}

/// Whether a client's word is to be heard.
pub(crate) fn is_trusted(accept: &AcceptProxy, client: Option<IpAddr>) -> bool {
    // Who comes over a unix socket has no address; the socket's permissions let it in.
    accept.trusted.is_empty()
        || client.is_none_or(|client| accept.trusted.iter().any(|net| net.contains(&client)))
}

/// Reads a header; what ends the session if there is none.
async fn read(receiver: &mut Receiver<'_>) -> Result<Header, Close> {
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
                let proxied = parsed.proxied_address().map(|to| Proxied {
                    ends: Ends { client: to.source, server: to.destination },
                    tlvs: kept(&parsed),
                });
                buffer.consume(len - before);
                let rest = Some(buffer).filter(|rest| !rest.is_empty());
                return Ok(Header { proxied, rest });
            }
            Err(Error::BufferTooShort) if header.len() < HEADER_MAX => {}
            Err(_) => return Err(ended(Cause::Refused)),
        }
    }
}

/// What a header said besides addresses, but for what is about its own bytes.
fn kept(header: &ProxyHeader<'_>) -> Vec<Tlv<'static>> {
    let about_itself = |tlv: &Tlv<'_>| matches!(tlv, Tlv::Crc32c(_) | Tlv::Noop(_));
    let tlvs = header.tlvs().filter_map(Result::ok).filter(|tlv| !about_itself(tlv));
    tlvs.map(Tlv::into_owned).collect()
}

/// The header that tells a server who the client of a session is.
pub(crate) fn header(send: SendProxy, account: &Account, client: &Stream) -> Vec<u8> {
    let proxied = account.proxied();
    let ends = proxied.map(|proxied| proxied.ends).or_else(|| ends_of(client));
    let mut tlvs = proxied.map(|proxied| proxied.tlvs.clone()).unwrap_or_default();
    if let SendProxy::V2(details) = send {
        for tlv in said(details, account) {
            // What the first proxy said counts.
            if tlvs.iter().all(|known| known.kind() != tlv.kind()) {
                tlvs.push(tlv);
            }
        }
    }
    write(send, ends, tlvs)
}

/// What is known of a session, of what a server is to be told.
fn said(details: ProxyDetails, account: &Account) -> impl Iterator<Item = Tlv<'static>> {
    let said = account.known().said;
    let authority = said.filter(|_| details.authority).and_then(|said| said.sni.clone());
    let authority = authority.filter(|name| name.len() <= DETAIL_MAX);
    let alpn = said.filter(|_| details.alpn).and_then(|said| said.alpn.first().cloned());
    let alpn = alpn.filter(|protocol| protocol.len() <= DETAIL_MAX);
    let id = details.unique_id.then(|| account.unique_id().to_string().into_bytes());
    let tlvs = [
        authority.map(|name| Tlv::Authority(name.into())),
        alpn.map(|protocol| Tlv::Alpn(protocol.into())),
        id.map(|id| Tlv::UniqueId(id.into())),
    ];
    tlvs.into_iter().flatten()
}

/// The header that tells of `ends`; without them, that nobody is spoken for.
fn write(send: SendProxy, ends: Option<Ends>, tlvs: Vec<Tlv<'_>>) -> Vec<u8> {
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

/// The ends of a connection as the kernel sees them; `None` for unix sockets.
fn ends_of(client: &Stream) -> Option<Ends> {
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
