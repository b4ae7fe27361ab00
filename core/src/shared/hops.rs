//! Connections of this process to its own listeners, by which sessions that go round are
//! recognised.
//!
//! A chain of own frontends meets each of them once at most. So a session behind which there are as
//! many hops as there are frontends has come back to one: it goes round. A hop is known by the
//! address from which it was made, which the next session meets as its client's. The table is
//! small, of one word per place, and written only where a server's address is that of a listener:
//! by name, or since an address came to this machine later (`config` refuses what a file shows).
//! Asked before a session connects, so that a round ends there; and after it, since a hop may be
//! read before it is written, or be overwritten by another one: both make a round longer, not
//! endless. Not here: ways through other programs, which nothing shows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::machine::Address;
use crate::settings::Frontend;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Hops that are remembered at once. At the bound one replaces another.
const PLACES: usize = 1024;

/// How long a hop is remembered: longer than a session takes to be accepted and connected.
const KEPT_MS: u64 = 60_000;

/// Bits of a word: the time in milliseconds (16 months), the hops, and part of the address's hash.
const TIME_BITS: u32 = 35;
const HOPS_BITS: u32 = 9;
const TAG_SHIFT: u32 = TIME_BITS + HOPS_BITS;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const HOPS_MAX: u32 = (1 << HOPS_BITS) - 1;

/// The hops of a process.
#[derive(Debug)]
pub struct Hops {
    /// Where it listens, sorted.
    listeners: Box<[SocketAddr]>,
    /// As many hops as a chain that does not lead back can have.
    most: u32,
    made: Arc<Made>,
}

/// What was made, whatever is configured.
#[derive(Debug)]
struct Made {
    /// Whether any hop was ever made: in most processes none is.
    is_used: AtomicBool,
    places: Box<[AtomicU64]>,
}

impl Made {
    fn nothing() -> Arc<Self> {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { is_used: AtomicBool::new(false), places })
    }
}

impl Hops {
    /// Of a process that has made none.
    pub fn new(frontends: &[Frontend]) -> Self {
        Self::follow(frontends, None)
    }

    /// With other frontends than before.
    pub fn follow(frontends: &[Frontend], older: Option<&Self>) -> Self {
        let binds = frontends.iter().flat_map(|frontend| &frontend.bind);
        let inet = |bind: &Address| match bind {
            Address::Inet(inet) if inet.port() != 0 => Some(*inet),
            _ => None,
        };
        let mut listeners: Vec<SocketAddr> = binds.filter_map(inet).collect();
        listeners.sort_unstable_by_key(|listener| (listener.port(), listener.ip()));
        let most = u32::try_from(frontends.len()).unwrap_or(u32::MAX).min(HOPS_MAX);
        Self {
            listeners: listeners.into(),
            most,
            made: older.map_or_else(Made::nothing, |older| Arc::clone(&older.made)),
        }
    }

    /// Whether one of its listeners may be at this address: itself, or all of its family.
    pub fn may_listen_at(&self, address: SocketAddr) -> bool {
        let first = self.listeners.partition_point(|own| own.port() < address.port());
        let same_port = self.listeners[first..].iter().take_while(|o| o.port() == address.port());
        same_port.into_iter().any(|own| {
            own.ip() == address.ip()
                || own.ip().is_unspecified() && own.is_ipv4() == address.is_ipv4()
        })
    }

    /// Whether a session goes round whose client is at the address that `client` gives.
    pub fn goes_round(&self, client: impl FnOnce() -> Option<SocketAddr>, now_ms: u64) -> bool {
        self.made.is_used.load(Ordering::Relaxed)
            && client().is_some_and(|client| self.made_by(client, now_ms) >= self.most)
    }

    /// A session whose client is at `client` has connected from `own` to `to`, which may be a
    /// listener; `false` if it goes round.
    #[must_use]
    pub fn pass(&self, client: SocketAddr, own: SocketAddr, to: SocketAddr, now_ms: u64) -> bool {
        // From this machine to itself the kernel takes one address for both ends.
        let is_local = |ip: IpAddr| ip.is_loopback() || ip == own.ip();
        if !is_local(to.ip()) {
            return true;
        }
        let hops = self.made_by(client, now_ms);
        // The next session is there already, and must not go on either.
        let with_this = (hops + 1).min(self.most);
        let (place, tag) = place(own);
        let word = tag << TAG_SHIFT | u64::from(with_this) << TIME_BITS | now_ms & TIME_MASK;
        self.made.places[place].store(word, Ordering::Relaxed);
        self.made.is_used.store(true, Ordering::Relaxed);
        hops < self.most
    }

    /// The hops behind a connection that comes from this address.
    fn made_by(&self, client: SocketAddr, now_ms: u64) -> u32 {
        let (place, tag) = place(client);
        let word = self.made.places[place].load(Ordering::Relaxed);
        let age = now_ms.wrapping_sub(word) & TIME_MASK;
        let is_it = word >> TAG_SHIFT == tag && word != 0 && age < KEPT_MS;
        // Masked to 9 bits.
        if is_it { (word >> TIME_BITS) as u32 & HOPS_MAX } else { 0 }
    }
}

/// Where an address has its place, and what tells it from others there.
fn place(address: SocketAddr) -> (usize, u64) {
    let port = u64::from(address.port());
    let hash = match address.ip() {
        IpAddr::V4(ip) => xxh3_64_with_seed(&ip.octets(), port),
        IpAddr::V6(ip) => xxh3_64_with_seed(&ip.octets(), port),
    };
    (hash as usize % PLACES, hash >> TAG_SHIFT)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn hops(binds: &[&str]) -> Hops {
        let frontend =
            |bind: &&str| Frontend { bind: vec![Address::Inet(at(bind))], ..Frontend::default() };
        Hops::new(&binds.iter().map(frontend).collect::<Vec<_>>())
    }

    #[test]
    fn listeners_are_found_by_address_and_by_family() {
        let hops = hops(&["10.0.0.1:80", "0.0.0.0:81", "[::]:82", "127.0.0.1:0"]);
        for (address, expected) in [
            ("10.0.0.1:80", true),
            ("10.0.0.2:80", false),
            ("10.0.0.2:81", true),
            ("[::1]:81", false),
            ("[::1]:82", true),
            ("127.0.0.1:0", false),
            ("10.0.0.1:79", false),
        ] {
            assert_eq!(hops.may_listen_at(at(address)), expected, "{address}");
        }
    }

    #[test]
    fn a_chain_may_meet_every_frontend_once() {
        let hops = hops(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83"]);
        let to = at("127.0.0.1:81");
        let own = |n: u16| SocketAddr::from(([127, 0, 0, 1], n));
        let goes_round = |client| hops.goes_round(|| Some(client), 1003);
        assert!(!goes_round(own(5002)), "nothing was made");
        assert!(hops.pass(at("10.0.0.9:4000"), own(5000), to, 1000));
        assert!(hops.pass(own(5000), own(5001), to, 1001));
        assert!(hops.pass(own(5001), own(5002), to, 1002));
        assert!(!goes_round(own(5001)) && goes_round(own(5002)));
        assert!(!hops.pass(own(5002), own(5003), to, 1003), "the fourth of three");
        assert!(goes_round(own(5003)), "nor does the next go on");
        assert!(hops.pass(own(5002), own(5003), to, 1002 + KEPT_MS), "another one by now");
    }

    #[test]
    fn connections_to_other_machines_are_no_hops() {
        let hops = hops(&["0.0.0.0:80"]);
        for n in 0..9 {
            let own = SocketAddr::from(([10, 0, 0, 1], 5000 + n));
            let client = SocketAddr::from(([10, 0, 0, 1], 4999 + n));
            assert!(hops.pass(client, own, at("10.0.0.2:80"), 1000));
        }
    }
}
