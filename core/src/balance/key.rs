//! What a session is recognised by: its client becomes one number.
//!
//! Policies by hash and the affinity table go by this number. The client is whom the PROXY header
//! names, where there is one. Invariant: equal clients give equal keys on every shard, in every
//! process and version, since tables may outlive a process.

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::snapshot::HashKey;

/// The number that a session of this client is recognised by; 0 for one on a unix socket.
pub fn key(kind: HashKey, client: Option<SocketAddr>) -> u64 {
    let Some(client) = client else { return 0 };
    match kind {
        HashKey::ClientIp => address(client.ip()),
        HashKey::Client => xxh3_64_with_seed(&client.port().to_le_bytes(), address(client.ip())),
    }
}

/// The key of the client that an operator names, in the form of what such clients are recognised by;
/// `None` when the text is no such thing.
pub fn key_of(kind: HashKey, text: &str) -> Option<u64> {
    let client = match kind {
        HashKey::ClientIp => SocketAddr::new(text.parse().ok()?, 0),
        HashKey::Client => text.parse().ok()?,
    };
    Some(key(kind, Some(client)))
}

/// The number of a client for limits: its IPv4 address, or the /64 network of its IPv6 address, which
/// is what one subscriber has (RFC 6177).
pub fn subscriber(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => address(v4.into()),
        IpAddr::V6(v6) => xxh3_64(&v6.octets()[..8]),
    }
}

/// An IPv4 client is the same whichever kind of socket took it.
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
        let by_ip = |client: &str| key(HashKey::ClientIp, client.parse().ok());
        let by_port = |client: &str| key(HashKey::Client, client.parse().ok());
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
