//! The hash key of a session: a number made of its client, or of the client's first message.
//!
//! Used by hash policies and the affinity table. The client is the one in the PROXY header, if
//! there is one. Invariant: equal clients have equal keys on every shard, in every process and
//! version, since tables may outlive a process.

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::settings::{ClientHints, HashKey};

/// The properties of a session that a key can be made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The client's address; `None` on a unix socket.
    pub client: Option<SocketAddr>,
    /// Fields of the first message, if it was read.
    pub hints: Option<&'a ClientHints>,
}

/// Hash key of a session; falls back to the client's address if the configured field is absent, and
/// to 0 for a client on a unix socket.
pub fn key(kind: HashKey, known: Known<'_>) -> u64 {
    let text = match kind {
        HashKey::Sni => known.hints.and_then(|hints| hints.sni.as_deref()),
        HashKey::User => known.hints.and_then(|hints| hints.user.as_deref()),
        HashKey::ClientIp | HashKey::Client => None,
    };
    match (text, known.client) {
        (Some(text), _) => xxh3_64(text.as_bytes()),
        (None, None) => 0,
        (None, Some(client)) if kind == HashKey::Client => {
            xxh3_64_with_seed(&client.port().to_le_bytes(), address(client.ip()))
        }
        (None, Some(client)) => address(client.ip()),
    }
}

/// The key of a client given by an operator, in the form that belongs to `kind`; `None` if the text
/// does not have that form.
pub fn key_of(kind: HashKey, text: &str) -> Option<u64> {
    let client = match kind {
        HashKey::ClientIp => SocketAddr::new(text.parse().ok()?, 0),
        HashKey::Client => text.parse().ok()?,
        HashKey::Sni | HashKey::User => return Some(xxh3_64(text.as_bytes())),
    };
    Some(key(kind, Known { client: Some(client), hints: None }))
}

/// The key of a client for limits: its IPv4 address, or the /64 network of its IPv6 address, the
/// usual assignment to one subscriber (RFC 6177).
pub fn subscriber(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => address(v4.into()),
        IpAddr::V6(v6) => xxh3_64(&v6.octets()[..8]),
    }
}

/// An IPv4 client has the same key on IPv4 and IPv6 sockets.
fn address(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => xxh3_64(&v4.octets()),
        IpAddr::V6(v6) => xxh3_64(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_what_was_asked_for() {
        let by =
            |kind, client: &str, hints| key(kind, Known { client: client.parse().ok(), hints });
        let by_ip = |client: &str| by(HashKey::ClientIp, client, None);
        let by_port = |client: &str| by(HashKey::Client, client, None);
        let hints = ClientHints { sni: Some("a.example".to_owned()), ..ClientHints::default() };
        let by_name = by(HashKey::Sni, "10.0.0.1:1", Some(&hints));
        assert_eq!(by_name, by(HashKey::Sni, "10.0.0.2:1", Some(&hints)));
        assert_eq!(key_of(HashKey::Sni, "a.example"), Some(by_name));
        assert_eq!(by(HashKey::User, "10.0.0.1:1", Some(&hints)), by_ip("10.0.0.1:1"), "no user");
        assert_eq!(by_ip("10.0.0.1:1"), by_ip("10.0.0.1:2"));
        assert_eq!(by_ip("10.0.0.1:1"), by_ip("[::ffff:10.0.0.1]:9"));
        assert_ne!(by_ip("10.0.0.1:1"), by_ip("10.0.0.2:1"));
        assert_ne!(by_port("10.0.0.1:1"), by_port("10.0.0.1:2"));
        assert_eq!(key_of(HashKey::ClientIp, "10.0.0.1"), Some(by_ip("10.0.0.1:7")));
        assert_eq!(key_of(HashKey::Client, "10.0.0.1:7"), Some(by_port("10.0.0.1:7")));
        assert_eq!(key_of(HashKey::ClientIp, "app"), None);
        let subscriber = |ip: &str| subscriber(ip.parse().unwrap());
        assert_eq!(subscriber("2001:db8::1"), subscriber("2001:db8::2:1"));
        assert_ne!(subscriber("2001:db8::1"), subscriber("2001:db8:0:1::1"));
        assert_ne!(subscriber("10.0.0.1"), subscriber("10.0.0.2"));
        assert_eq!(key_of(HashKey::Client, "10.0.0.1"), None);
    }
}
