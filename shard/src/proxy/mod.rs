//! The PROXY protocol in a session: who the client really is.
//!
//! Read before a session's first byte, from clients that are trusted, within
//! `accept_proxy.timeout`; sent before the first byte to a server. Not here: the headers themselves
//! (`header`). Invariants: what came behind a header is kept for the carrier; what it told besides
//! addresses is passed on.

pub mod header;

use std::net::IpAddr;

use proxy_header::Tlv;
use ringlane_core::counters::{Cause, Close, Phase, Reason, UniqueId};
use ringlane_core::machine::reactor::{Elapsed, Receiver, Stream};
use ringlane_core::machine::sys::Buffer;
use ringlane_core::parsed::Parsed;
use ringlane_core::settings::{AcceptProxy, ClientHints, ProxyDetails, SendProxy};

use crate::ends::{LEFT, REFUSED};
pub(crate) use header::Proxied;
use header::{Ends, HEADER_MAX};

/// Bytes of the longest name or protocol that is passed on: a name of DNS has 255 at most.
const DETAIL_MAX: usize = 255;

/// What was read: nothing if the proxy connects for itself; and what came behind the header.
pub(crate) struct Header {
    pub(crate) proxied: Option<Proxied>,
    pub(crate) rest: Option<Buffer>,
}

/// Whether PROXY headers of a client count.
pub(crate) fn is_trusted(accept: &AcceptProxy, client: Option<IpAddr>) -> bool {
    // A client on a unix socket has no address; the socket's permissions let it in.
    accept.trusted.is_empty()
        || client.is_none_or(|client| accept.trusted.iter().any(|net| net.contains(&client)))
}

/// Reads a header in time; how the session ends if there is none, and why.
pub(crate) async fn receive(
    accept: &AcceptProxy,
    receiver: &mut Receiver<'_>,
) -> Result<Header, (Close, Option<Reason>)> {
    let reactor = receiver.stream().reactor();
    let deadline = reactor.now() + accept.timeout;
    let late = Close { cause: Cause::ClientTimeout, phase: Phase::Request };
    let mut header = Vec::new();
    let read = reactor.timeout_at(deadline, read(receiver, &mut header)).await;
    read.unwrap_or_else(|Elapsed| Err((late, header.is_empty().then_some(Reason::Empty))))
}

async fn read(
    receiver: &mut Receiver<'_>,
    header: &mut Vec<u8>,
) -> Result<Header, (Close, Option<Reason>)> {
    loop {
        let Ok(Some(mut buffer)) = receiver.next().await else {
            return Err((LEFT, header.is_empty().then_some(Reason::Empty)));
        };
        let before = header.len();
        let room = HEADER_MAX - before;
        header.extend_from_slice(&buffer.bytes()[..buffer.len().min(room)]);
        match header::read(header) {
            Parsed::Whole((len, proxied)) => {
                buffer.consume(len - before);
                let rest = Some(buffer).filter(|rest| !rest.is_empty());
                return Ok(Header { proxied, rest });
            }
            Parsed::Part => {}
            Parsed::Invalid => return Err((REFUSED, Some(Reason::ProxyHeader))),
        }
    }
}

/// What a server is told about the client of a session.
pub(crate) struct Introduction<'a> {
    /// What a proxy told.
    pub(crate) proxied: Option<&'a Proxied>,
    /// What the client's first message told.
    pub(crate) hints: Option<&'a ClientHints>,
    pub(crate) unique_id: Option<UniqueId>,
}

impl Introduction<'_> {
    /// The header.
    pub(crate) fn header(&self, send: SendProxy, client: &Stream) -> Vec<u8> {
        let ends = self.proxied.map(|proxied| proxied.ends).or_else(|| ends_of(client));
        let mut tlvs = self.proxied.map(|proxied| proxied.tlvs.clone()).unwrap_or_default();
        if let SendProxy::V2(details) = send {
            for tlv in self.details(details) {
                // What the first proxy told counts.
                if tlvs.iter().all(|known| known.kind() != tlv.kind()) {
                    tlvs.push(tlv);
                }
            }
        }
        header::write(send, ends, tlvs)
    }

    fn details(&self, wanted: ProxyDetails) -> impl Iterator<Item = Tlv<'static>> {
        let authority = self.hints.filter(|_| wanted.authority);
        let authority = authority.and_then(|hints| hints.sni.clone());
        let authority = authority.filter(|name| name.len() <= DETAIL_MAX);
        let alpn = self.hints.filter(|_| wanted.alpn);
        let alpn = alpn.and_then(|hints| hints.alpn.first().cloned());
        let alpn = alpn.filter(|protocol| protocol.len() <= DETAIL_MAX);
        let id = self.unique_id.filter(|_| wanted.unique_id);
        let tlvs = [
            authority.map(|name| Tlv::Authority(name.into())),
            alpn.map(|protocol| Tlv::Alpn(protocol.into())),
            id.map(|id| Tlv::UniqueId(id.to_string().into_bytes().into())),
        ];
        tlvs.into_iter().flatten()
    }
}

/// The ends of a connection as the kernel sees them; `None` for unix sockets.
fn ends_of(client: &Stream) -> Option<Ends> {
    Some(Ends::new(client.peer_address()?, client.own_address()?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
