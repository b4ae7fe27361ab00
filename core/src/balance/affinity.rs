//! Affinity of clients to servers: one bounded table for all shards of one backend.
//!
//! Looked up before the policy: a known client returns to its server for as long as that server is
//! eligible. The table is set-associative: the hash of a client's key selects a set of [`WAYS`]
//! entries. An entry is one 64-bit word (part of the hash, server, expiry), read as a whole and
//! replaced by a compare-and-exchange: no locks, no allocation, no ordering between words. Two
//! shards that get sessions of a new client at once agree on one server, since both try to fill the
//! same entry and the second sees the first. In a full set the entry that expires first is evicted.
//! Not here: reading a clock, eligibility of servers, counting hits. The price of one word per
//! entry: only 28 bits of the hash are kept besides the set, so about one lookup in 16 million
//! takes a new client for a known one.

use std::time::Duration;

use super::{below, identity, mix};
use crate::settings::{Affinity, Server};
use crate::sync::{AtomicU64, Ordering};

/// Entries in a set: two cache lines. Smaller sets fill up earlier while others have room.
#[cfg(not(all(loom, test)))]
const WAYS: usize = 16;

/// Loom tries every order of accesses to each entry, so the sets are small there.
#[cfg(all(loom, test))]
const WAYS: usize = 2;

/// Steps into which the time to live is divided: an entry is written once per step, not per
/// session.
const STEPS: u64 = 1024;

/// Bits of an entry that hold its expiry in steps. They wrap around after 1,024 times to live;
/// [`Table::sweep`] must be called more often, or expired entries would become live again.
const EXPIRY_BITS: u32 = 20;
const EXPIRY_MASK: u64 = (1 << EXPIRY_BITS) - 1;

/// Bits of an entry that hold its server's index plus one, so that no entry is 0. A server beyond
/// that many is not stored.
const SERVER_BITS: u32 = 16;
const SERVER_MASK: u64 = (1 << SERVER_BITS) - 1;

/// The remaining bits hold part of the hash.
const TAG_SHIFT: u32 = EXPIRY_BITS + SERVER_BITS;

/// The affinity table of a backend.
#[derive(Debug)]
pub struct Table {
    affinity: Affinity,
    entries: Box<[AtomicU64]>,
    /// Length of a step in milliseconds.
    step_ms: u64,
    /// Identity of each server, by index; equal in every generation.
    servers: Vec<u64>,
}

/// The outcome of assigning a server to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Assigned {
    /// The server of the client now: the given one, or the one that another shard assigned a moment
    /// before.
    pub server: usize,
    /// Whether the entry of another client was evicted before its expiry.
    pub evicted: bool,
}

/// A live entry of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AffinityEntry {
    /// Its index in the table. The key of the client is not stored.
    pub place: usize,
    /// The index of its server in the backend.
    pub server: usize,
    /// Time until it expires.
    pub left: Duration,
}

impl Table {
    /// An empty table for a backend with these servers.
    pub fn new(affinity: Affinity, servers: &[Server]) -> Self {
        let sets = (affinity.size as usize).div_ceil(WAYS).max(1);
        let ttl_ms = u64::try_from(affinity.ttl.as_millis()).unwrap_or(u64::MAX);
        Self {
            affinity,
            entries: (0..sets * WAYS).map(|_| AtomicU64::new(0)).collect(),
            step_ms: ttl_ms.div_ceil(STEPS).max(1),
            servers: servers.iter().map(|server| identity(&server.name)).collect(),
        }
    }

    /// The settings of the table.
    pub fn affinity(&self) -> Affinity {
        self.affinity
    }

    /// Number of entries.
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// The server of the client with this key, if there is an entry and `keeps` accepts the server.
    /// The entry is renewed: it expires one time to live after `now_ms`.
    pub fn find(&self, key: u64, now_ms: u64, keeps: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = mix(key);
        for entry in self.set(hash) {
            let word = entry.load(Ordering::Relaxed);
            if is_of(word, hash) && self.left(word, now_ms).is_some() && keeps(server(word)) {
                let renewed = self.word(hash, server(word), now_ms);
                if renewed != word {
                    // If another shard was faster, it has renewed the entry or reassigned it.
                    let _ =
                        entry.compare_exchange(word, renewed, Ordering::Relaxed, Ordering::Relaxed);
                }
                return Some(server(word));
            }
        }
        None
    }

    /// The server of the client with this key, if there is an entry; nothing is changed.
    pub fn peek(&self, key: u64, now_ms: u64) -> Option<usize> {
        let hash = mix(key);
        let words = self.set(hash).iter().map(|entry| entry.load(Ordering::Relaxed));
        let mut own = words.filter(|&word| is_of(word, hash) && self.left(word, now_ms).is_some());
        own.next().map(server)
    }

    /// Assigns `server` to the client with this key at `now_ms`, unless it has another one by now
    /// that `keeps` accepts.
    pub fn assign(
        &self,
        key: u64,
        server: usize,
        now_ms: u64,
        keeps: impl Fn(usize) -> bool,
    ) -> Assigned {
        let hash = mix(key);
        let word = self.word(hash, server, now_ms);
        let nothing_lost = Assigned { server, evicted: false };
        if server >= SERVER_MASK as usize {
            return nothing_lost;
        }
        // Each failure means that another shard wrote the entry; after so many, give up this time.
        for _ in 0..WAYS {
            let (entry, old) = self.entry_for(hash, now_ms);
            let is_live = self.left(old, now_ms).is_some();
            let is_own = is_of(old, hash);
            if is_own && is_live && keeps(self::server(old)) {
                return Assigned { server: self::server(old), evicted: false };
            }
            let replace = entry.compare_exchange(old, word, Ordering::Relaxed, Ordering::Relaxed);
            if replace.is_ok() {
                return Assigned { server, evicted: is_live && !is_own };
            }
        }
        nothing_lost
    }

    /// Removes the entry of the client with this key; whether there was a live one.
    pub fn forget(&self, key: u64, now_ms: u64) -> bool {
        let hash = mix(key);
        self.forget_where(self.set(hash), |word| {
            is_of(word, hash).then(|| self.left(word, now_ms).is_some())
        }) > 0
    }

    /// Removes all entries; returns how many were live.
    pub fn clear(&self, now_ms: u64) -> usize {
        self.forget_where(&self.entries, |word| Some(self.left(word, now_ms).is_some()))
    }

    /// Removes expired entries. Must be called at least once in a few hundred times to live.
    pub fn sweep(&self, now_ms: u64) {
        self.forget_where(&self.entries, |word| self.left(word, now_ms).is_none().then_some(false));
    }

    /// All live entries.
    pub fn entries(&self, now_ms: u64) -> impl Iterator<Item = AffinityEntry> {
        self.entries.iter().enumerate().filter_map(move |(place, entry)| {
            let word = entry.load(Ordering::Relaxed);
            let left = Duration::from_millis(self.left(word, now_ms)? * self.step_ms);
            Some(AffinityEntry { place, server: server(word), left })
        })
    }

    /// Copies the entries of another generation's table whose servers still exist, by name. Only
    /// tables of equal size place clients alike; from others nothing is copied.
    pub fn inherit(&self, older: &Self, their_now_ms: u64, now_ms: u64) {
        if self.entries.len() != older.entries.len() {
            return;
        }
        for (own, theirs) in self.entries.iter().zip(&older.entries) {
            let word = theirs.load(Ordering::Relaxed);
            let Some(left) = older.left(word, their_now_ms) else { continue };
            let Some(name) = older.servers.get(server(word)) else { continue };
            let Some(index) = self.servers.iter().position(|own| own == name) else { continue };
            if index >= SERVER_MASK as usize {
                continue;
            }
            let steps = (left * older.step_ms / self.step_ms).min(self.ttl_steps());
            let expiry = (now_ms / self.step_ms + steps) & EXPIRY_MASK;
            let kept = word >> TAG_SHIFT << TAG_SHIFT | (index as u64 + 1) << EXPIRY_BITS | expiry;
            // An entry written by a session in the meantime is more recent.
            let _ = own.compare_exchange(0, kept, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Removes the entries for which `was_live` returns a value; returns how many were live.
    fn forget_where(&self, entries: &[AtomicU64], was_live: impl Fn(u64) -> Option<bool>) -> usize {
        let mut forgotten = 0;
        for entry in entries {
            let word = entry.load(Ordering::Relaxed);
            if word == 0 {
                continue;
            }
            let Some(live) = was_live(word) else { continue };
            let emptied = entry.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
            forgotten += usize::from(live && emptied.is_ok());
        }
        forgotten
    }

    /// The entry of a client, or the one to use for it, with its word.
    fn entry_for(&self, hash: u64, now_ms: u64) -> (&AtomicU64, u64) {
        let set = self.set(hash);
        let mut best = (&set[0], set[0].load(Ordering::Relaxed));
        let mut least = u64::MAX;
        for entry in set {
            let word = entry.load(Ordering::Relaxed);
            if is_of(word, hash) {
                return (entry, word);
            }
            let left = self.left(word, now_ms).unwrap_or(0);
            if left < least {
                (least, best) = (left, (entry, word));
            }
        }
        best
    }

    fn set(&self, hash: u64) -> &[AtomicU64] {
        let first = below(hash, self.entries.len() / WAYS) * WAYS;
        &self.entries[first..first + WAYS]
    }

    fn word(&self, hash: u64, server: usize, now_ms: u64) -> u64 {
        let expiry = (now_ms / self.step_ms + self.ttl_steps()) & EXPIRY_MASK;
        hash << TAG_SHIFT | (server as u64 + 1) << EXPIRY_BITS | expiry
    }

    /// One more than the time to live has, so that no entry expires early.
    fn ttl_steps(&self) -> u64 {
        let ttl_ms = u64::try_from(self.affinity.ttl.as_millis()).unwrap_or(u64::MAX);
        ttl_ms.div_ceil(self.step_ms) + 1
    }

    /// Steps until an entry expires; `None` if it has expired or was never used. An entry with more
    /// steps than the time to live was written by a shard whose clock is slightly ahead.
    fn left(&self, word: u64, now_ms: u64) -> Option<u64> {
        let left = word.wrapping_sub(now_ms / self.step_ms) & EXPIRY_MASK;
        (word != 0 && (1..=2 * self.ttl_steps()).contains(&left)).then_some(left)
    }
}

/// Whether an entry belongs to a client whose key has this hash.
fn is_of(word: u64, hash: u64) -> bool {
    word != 0 && word >> TAG_SHIFT == hash << TAG_SHIFT >> TAG_SHIFT
}

/// The index of the server in an entry.
fn server(word: u64) -> usize {
    ((word >> EXPIRY_BITS & SERVER_MASK) as usize).saturating_sub(1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::BackendId;
    use crate::machine::Address;
    use crate::settings::HashKey;

    const TTL_MS: u64 = 30_000;

    fn servers(names: &[&str]) -> Vec<Server> {
        let server = |name: &&str| Server {
            name: (*name).into(),
            backend: BackendId(0),
            address: Some(Address::Unix("/run/s".into())),
            weight: 1,
            backup: false,
            max_connections: u32::MAX,
            ..Server::default()
        };
        names.iter().map(server).collect()
    }

    fn table(size: u32, names: &[&str]) -> Table {
        let ttl = Duration::from_millis(TTL_MS);
        Table::new(Affinity { key: HashKey::ClientIp, ttl, size }, &servers(names))
    }

    fn all(_: usize) -> bool {
        true
    }

    #[test]
    fn a_client_keeps_its_server_until_it_was_away_for_too_long() {
        let table = table(100, &["a", "b", "c"]);
        assert_eq!(table.find(7, 0, all), None);
        assert_eq!(table.assign(7, 2, 0, all), Assigned { server: 2, evicted: false });
        assert_eq!(table.peek(7, TTL_MS), Some(2));
        assert_eq!(table.find(7, TTL_MS, all), Some(2), "to its last moment, and again from it");
        assert_eq!(table.find(7, 2 * TTL_MS, all), Some(2));
        assert_eq!(table.find(7, 3 * TTL_MS + TTL_MS / 100, all), None);
        assert_eq!(table.entries(2 * TTL_MS).count(), 1);
        assert_eq!(table.entries(4 * TTL_MS).count(), 0);
        assert_eq!(table.find(8, 0, all), None);
    }

    #[test]
    fn a_server_that_takes_no_session_is_replaced_for_good() {
        let table = table(100, &["a", "b"]);
        table.assign(7, 0, 0, all);
        let down = |server: usize| server != 0;
        assert_eq!(table.find(7, 1, down), None);
        assert_eq!(table.assign(7, 1, 1, down).server, 1);
        assert_eq!(table.find(7, 2, all), Some(1), "also when the first is back");
        assert_eq!(table.entries(2).count(), 1);
    }

    #[test]
    fn the_second_shard_gets_the_server_that_the_first_assigned() {
        let table = table(100, &["a", "b"]);
        table.assign(7, 0, 0, all);
        assert_eq!(table.assign(7, 1, 0, all), Assigned { server: 0, evicted: false });
        assert_eq!(table.assign(7, 1, 0, |server| server == 1).server, 1, "that one was down");
    }

    #[test]
    fn a_full_table_evicts_the_entry_that_expires_first() {
        let table = table(1, &["a"]);
        for key in 0..WAYS as u64 {
            assert!(!table.assign(key, 0, key * 1000, all).evicted);
        }
        assert!(table.find(0, 16_000, all).is_some(), "renewed");
        assert!(table.assign(99, 0, 16_000, all).evicted);
        assert_eq!(table.find(1, 16_000, all), None);
        assert!(table.find(0, 16_000, all).is_some() && table.find(2, 16_000, all).is_some());
        assert_eq!(table.entries(16_000).count(), table.size());
    }

    #[test]
    fn one_or_all_can_be_forgotten() {
        let table = table(1000, &["a", "b"]);
        for key in 0..10 {
            table.assign(key, 1, 0, all);
        }
        assert!(table.forget(3, 0) && !table.forget(3, 0));
        assert_eq!(table.find(3, 0, all), None);
        assert_eq!(table.clear(0), 9);
        assert_eq!(table.entries(0).count(), 0);
    }

    #[test]
    fn what_expired_stays_expired_when_swept() {
        let table = table(10, &["a"]);
        table.assign(7, 0, 0, all);
        // When the expiry has wrapped around once.
        let later = (table.step_ms << EXPIRY_BITS) + TTL_MS / 2;
        assert!(table.find(7, later, all).is_some(), "as documented");
        table.forget(7, later);
        table.assign(7, 0, 0, all);
        table.sweep(100 * TTL_MS);
        assert_eq!(table.find(7, later, all), None);
    }

    #[test]
    fn another_generation_keeps_clients_by_the_names_of_their_servers() {
        let older = table(100, &["a", "b", "c"]);
        for (key, server) in [(1, 0), (2, 1), (3, 2)] {
            older.assign(key, server, 1000, all);
        }
        let newer = table(100, &["c", "new", "a"]);
        newer.inherit(&older, 11_000, 500);
        let found = [1, 2, 3].map(|key| newer.find(key, 500, all));
        assert_eq!(found, [Some(2), None, Some(0)]);
        let other = table(1000, &["a", "b", "c"]);
        other.inherit(&older, 1000, 0);
        assert_eq!(other.entries(0).count(), 0);
    }

    proptest! {
        /// Compared with a map: a client that is found has the server assigned last, and in a table
        /// with room no client is missing.
        #[test]
        fn it_is_a_map_that_forgets(
            steps in prop::collection::vec((0..40u64, 0..5usize, 0..TTL_MS / 4), 0..200),
        ) {
            let table = table(100_000, &["a", "b", "c", "d", "e"]);
            let mut map: HashMap<u64, (usize, u64)> = HashMap::new();
            let mut now = 0;
            for (key, server, passed) in steps {
                now += passed;
                let slack = 2 * table.step_ms;
                let known = map.get(&key).copied();
                match table.find(key, now, all) {
                    Some(found) => {
                        let (server, since) = known.expect("was assigned");
                        prop_assert_eq!(found, server);
                        prop_assert!(now <= since + TTL_MS + slack);
                        map.insert(key, (server, now));
                    }
                    None => {
                        prop_assert!(known.is_none_or(|(_, since)| now > since + TTL_MS));
                        prop_assert_eq!(table.assign(key, server, now, all).server, server);
                        map.insert(key, (server, now));
                    }
                }
            }
        }
    }
}
