//! What a session is recognised by: facts of it become one number.
//!
//! Policies by hash and the affinity table go by this number. What a session does not have (a name
//! in TLS, a user) is replaced by the client's address, so that such sessions are spread as well.
//! Not here: where the facts come from. Invariant: equal facts give equal keys on every shard, in
//! every process and version, since tables may outlive a process.

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::snapshot::HashKey;

/// What is known of a session before its server is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyFacts<'a> {
    /// Where its connection comes from; `None` for a unix socket.
    pub client: Option<SocketAddr>,
    /// The name that it asks for in TLS.
    pub sni: Option<&'a str>,
    /// Whom the PROXY header names as its client.
    pub proxied: Option<SocketAddr>,
    /// The user that it logs in as.
    pub user: Option<&'a str>,
}

impl KeyFacts<'_> {
    /// The number that a session with these facts is recognised by.
    pub fn key(&self, kind: HashKey) -> u64 {
        let text = |text: &str| xxh3_64(text.as_bytes());
        let client = || self.client.map_or(0, |client| address(client.ip()));
        match kind {
            HashKey::ClientIp => client(),
            HashKey::Client => self.client.map_or(0, |client| {
                xxh3_64_with_seed(&client.port().to_le_bytes(), address(client.ip()))
            }),
            HashKey::Sni => self.sni.map_or_else(client, |name| text(&name.to_ascii_lowercase())),
            HashKey::Proxy => self.proxied.map_or_else(client, |client| address(client.ip())),
            HashKey::User => self.user.map_or_else(client, text),
        }
    }
}

/// The key of the client that an operator names, in the form of what such clients are recognised by;
/// `None` when the text is no such thing.
pub fn key_of(kind: HashKey, text: &str) -> Option<u64> {
    let address = || text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    let mut facts = KeyFacts::default();
    match kind {
        HashKey::ClientIp => facts.client = Some(address()?),
        HashKey::Client => facts.client = Some(text.parse().ok()?),
        HashKey::Sni => facts.sni = Some(text),
        HashKey::Proxy => facts.proxied = Some(address()?),
        HashKey::User => facts.user = Some(text),
    }
    Some(facts.key(kind))
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

    fn rich(facts: KeyFacts<'static>) -> KeyFacts<'static> {
        KeyFacts {
            sni: Some("Db.Example"),
            proxied: "192.0.2.1:7".parse().ok(),
            user: Some("app"),
            ..facts
        }
    }

    #[test]
    fn a_key_is_of_what_was_asked_for() {
        let client = |text: &str| KeyFacts { client: text.parse().ok(), ..KeyFacts::default() };
        let [one, same_ip] = ["10.0.0.1:1", "10.0.0.1:2"].map(client);
        assert_eq!(one.key(HashKey::ClientIp), same_ip.key(HashKey::ClientIp));
        assert_eq!(
            one.key(HashKey::ClientIp),
            client("[::ffff:10.0.0.1]:9").key(HashKey::ClientIp)
        );
        assert_ne!(one.key(HashKey::Client), same_ip.key(HashKey::Client));
        assert_ne!(one.key(HashKey::ClientIp), client("10.0.0.2:1").key(HashKey::ClientIp));
        for kind in [HashKey::Sni, HashKey::Proxy, HashKey::User] {
            assert_eq!(
                one.key(kind),
                one.key(HashKey::ClientIp),
                "{kind:?}: without it, the address"
            );
            let rich = rich(one);
            assert_ne!(rich.key(kind), one.key(kind), "{kind:?}");
            assert_eq!(rich.key(kind), KeyFacts { client: None, ..rich }.key(kind), "{kind:?}");
        }
        for (kind, text) in [
            (HashKey::ClientIp, "10.0.0.1"),
            (HashKey::Client, "10.0.0.1:1"),
            (HashKey::Proxy, "192.0.2.1"),
            (HashKey::Sni, "db.example"),
            (HashKey::User, "app"),
        ] {
            assert_eq!(key_of(kind, text), Some(rich(one).key(kind)), "{kind:?}");
        }
        assert_eq!(
            (key_of(HashKey::ClientIp, "app"), key_of(HashKey::Client, "10.0.0.1")),
            (None, None)
        );
        let sni = |name| KeyFacts { sni: Some(name), ..one }.key(HashKey::Sni);
        assert_eq!(sni("DB.example"), sni("db.example"), "names have no case");
    }
}
