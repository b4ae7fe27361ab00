//! The PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2): headers read and written.
//!
//! Not here: who is trusted, and what a server is told (`crate::proxy`). Invariants: a header is
//! read whole or not at all, and has at most [`HEADER_MAX`] bytes; one that breaks its
//! specification is refused as soon as that can be seen; what it said besides addresses is kept as
//! it was said.

mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};
use ringlane_core::parsed::Parsed;
use ringlane_core::settings::SendProxy;

/// Bytes of the longest header that is read, as HAProxy's `tune.bufsize`: details about a client's
/// certificate may need some.
pub const HEADER_MAX: usize = 16 * 1024;

/// The ends of a connection as its first proxy saw them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ends {
    /// Who speaks.
    pub client: SocketAddr,
    /// To whom it connected.
    pub server: SocketAddr,
}

impl Ends {
    /// The ends, IPv4 addresses as such even where they came in the form of IPv6.
    pub fn new(client: SocketAddr, server: SocketAddr) -> Self {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self { client: canonical(client), server: canonical(server) }
    }

    /// As a header names them: an IPv4 address beside an IPv6 address is written as one.
    fn of_one_family(self) -> Self {
        let mapped = |end: SocketAddr| match end.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
            IpAddr::V6(_) => end,
        };
        if self.client.is_ipv4() == self.server.is_ipv4() {
            return self;
        }
        Self { client: mapped(self.client), server: mapped(self.server) }
    }
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
pub fn read(bytes: &[u8]) -> Parsed<(usize, Option<Proxied>)> {
    let begins_with = |start: &[u8]| {
        let len = start.len().min(bytes.len());
        bytes[..len] == start[..len]
    };
    if begins_with(v1::START) {
        match v1::read(bytes) {
            Parsed::Whole((len, ends)) => {
                Parsed::Whole((len, ends.map(|ends| Proxied { ends, tlvs: Vec::new() })))
            }
            Parsed::Part => Parsed::Part,
            Parsed::Invalid => Parsed::Invalid,
        }
    } else if begins_with(v2::START) {
        v2::read(bytes)
    } else {
        Parsed::Invalid
    }
}

/// The header that tells of `ends`; without them, that nobody is spoken for. `tlvs`, of less than
/// 64 KiB, are for version 2.
pub fn write(send: SendProxy, ends: Option<Ends>, tlvs: Vec<Tlv<'_>>) -> Vec<u8> {
    let about = ends.map(Ends::of_one_family);
    let about = about.map(|ends| ProxiedAddress::stream(ends.client, ends.server));
    let mut bytes = Vec::new();
    let encoded = match send {
        SendProxy::V1 => ProxyHeader::with_tlvs(about, []).encode_v1(&mut bytes),
        SendProxy::V2(_) => ProxyHeader::with_tlvs(about, tlvs).encode_v2(&mut bytes),
    };
    // Fails only for more than fits: what is passed on is bounded above.
    debug_assert!(encoded.is_ok());
    bytes
}

#[cfg(test)]
mod tests;
