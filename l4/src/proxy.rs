//! The PROXY protocol in a session: who the client really is.
//!
//! Heard before a session's first byte, from clients whose word is trusted, and within its timeout; said
//! before the first byte to a server. Not here: the headers themselves (`greeting::proxy`). Invariants:
//! what came behind a header is kept for the relay; what it said besides addresses is said to the server
//! again.

use std::net::IpAddr;
use std::rc::Rc;

use proxy_header::Tlv;
use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::machine::reactor::{Elapsed, Receiver, Stream};
use ringlane_core::machine::sys::Buffer;
use ringlane_core::settings::{AcceptProxy, ProxyDetails, SendProxy};

use crate::clients::{self, REFUSED, Refused};
use crate::greet::LEFT;
use crate::greeting::Progress;
use crate::greeting::proxy::{self as greeting, Ends, HEADER_MAX, Proxied};
use crate::session::Account;

/// Bytes of the longest name or protocol that is passed on: a name of DNS has 255 at most.
const DETAIL_MAX: usize = 255;

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
    let header = header.map_err(|Elapsed| late)?.map_err(|(close, reason)| {
        account.reason = reason;
        close
    })?;
    let Header { proxied, rest } = header;
    if let Some(proxied) = proxied {
        let place = clients::enter(&shard, account.frontend_id(), proxied.ends.client.ip());
        let place = place.map_err(|Refused(why)| {
            account.because(why);
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

/// Reads a header; what ends the session if there is none, and why.
async fn read(receiver: &mut Receiver<'_>) -> Result<Header, (Close, Option<Reason>)> {
    let mut header: Vec<u8> = Vec::new();
    loop {
        let Ok(Some(mut buffer)) = receiver.next().await else {
            return Err((LEFT, header.is_empty().then_some(Reason::Empty)));
        };
        let before = header.len();
        let room = HEADER_MAX - before;
        header.extend_from_slice(&buffer.bytes()[..buffer.len().min(room)]);
        match greeting::read(&header) {
            Progress::Done((len, proxied)) => {
                buffer.consume(len - before);
                let rest = Some(buffer).filter(|rest| !rest.is_empty());
                return Ok(Header { proxied, rest });
            }
            Progress::More => {}
            Progress::Not => return Err((REFUSED, Some(Reason::ProxyHeader))),
        }
    }
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
    greeting::write(send, ends, tlvs)
}

/// What is known of a session, of what a server is to be told.
fn said(details: ProxyDetails, account: &Account) -> impl Iterator<Item = Tlv<'static>> {
    let said = account.known().said;
    let authority = said.filter(|_| details.authority).and_then(|said| said.sni.clone());
    let authority = authority.filter(|name| name.len() <= DETAIL_MAX);
    let alpn = said.filter(|_| details.alpn).and_then(|said| said.alpn.first().cloned());
    let alpn = alpn.filter(|protocol| protocol.len() <= DETAIL_MAX);
    let id = account.unique_id().filter(|_| details.unique_id);
    let tlvs = [
        authority.map(|name| Tlv::Authority(name.into())),
        alpn.map(|protocol| Tlv::Alpn(protocol.into())),
        id.map(|id| Tlv::UniqueId(id.to_string().into_bytes().into())),
    ];
    tlvs.into_iter().flatten()
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
