//! How many sessions each client has and how fast they come: one bounded table for all shards.
//!
//! A client is known by a number (its address, see `balance::subscriber`), which names a set of the
//! table; any of its [`WAYS`] entries may be the client's. An entry is two words: whose it is, and
//! its state (sessions now, and the time until which its arrivals have been paid for, as in the
//! Generic Cell Rate Algorithm, ITU-T I.371). The state changes by compare-and-exchange alone, so
//! that no limit is ever exceeded however many shards ask at once; an entry without sessions whose
//! arrivals are paid for is free for another client and is taken over locked. Not here: who is
//! allowed past the limits, reading a clock. Invariants: who holds a [`Permit`] is counted in
//! exactly that entry; no client has two entries that can be entered. When all entries of a set are
//! in use a further client is let in uncounted ([`Entry::Unknown`]): strangers in numbers must not
//! lock out who comes next.

use std::time::Duration;

use crate::settings::ClientLimits;
use crate::sync::{AtomicU32, AtomicU64, Ordering, total_order};

/// Entries in a set: four cache lines. Under loom, as few as can be fought for.
const WAYS: usize = if cfg!(all(loom, test)) { 3 } else { 16 };

/// Times that a session looks for its client's entry, since another shard brought the same new
/// client at the same moment; then it is let in uncounted.
const ATTEMPTS: usize = 16;

/// Ticks of an entry's clock in a second. It counts round after three days; arrivals are never paid
/// for further ahead than a third of that.
const TICKS_PER_SECOND: u64 = 16_000;

/// The furthest that arrivals may be paid for ahead, in ticks.
const AHEAD_MAX: u64 = 1 << 30;

/// One session, in the state of an entry: sessions are its upper half, ticks its lower.
const SESSION: u64 = 1 << 32;

/// An entry that changes hands.
const LOCKED: u64 = u64::MAX;

/// The table of one frontend.
#[derive(Debug)]
pub struct Table {
    max_sessions: AtomicU32,
    /// Ticks that one arrival pays for; 0: as many as like.
    interval: AtomicU64,
    /// Ticks that may be paid for ahead.
    ahead: AtomicU64,
    entries: Box<[(AtomicU64, AtomicU64)]>,
}

/// Entries of a table of the size that is asked for.
fn places(limits: &ClientLimits) -> usize {
    (limits.size as usize).div_ceil(WAYS).max(1) * WAYS
}

/// A session's place in the table, to be given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permit(u32);

/// What the table says to a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// Welcome, and counted.
    Counted(Permit),
    /// Welcome, since there is no room to count it.
    Unknown,
    /// Its client has as many sessions as it may have.
    TooMany,
    /// Its client's sessions come faster than they may.
    TooFast,
}

impl Table {
    /// A table without clients.
    pub fn new(limits: &ClientLimits) -> Self {
        let entry = |_| (AtomicU64::new(0), AtomicU64::new(0));
        let table = Self {
            max_sessions: AtomicU32::new(0),
            interval: AtomicU64::new(0),
            ahead: AtomicU64::new(0),
            entries: (0..places(limits)).map(entry).collect(),
        };
        table.set_limits(limits);
        table
    }

    /// Whether it is as large as these limits ask for.
    pub fn fits(&self, limits: &ClientLimits) -> bool {
        self.entries.len() == places(limits)
    }

    /// Changes the limits; sessions above a lower one stay.
    pub fn set_limits(&self, limits: &ClientLimits) {
        let interval = match limits.rate {
            Some(rate) => (TICKS_PER_SECOND * 100).div_ceil(u64::from(rate.per_100_seconds.max(1))),
            None => 0,
        };
        let ahead = interval.saturating_mul(limits.burst.saturating_sub(1).into());
        self.max_sessions.store(limits.max_connections.min(u32::MAX - 1), Ordering::Relaxed);
        self.interval.store(interval, Ordering::Relaxed);
        self.ahead.store(ahead.min(AHEAD_MAX), Ordering::Relaxed);
    }

    /// A session of the client with this number, `since` these tables were made.
    pub fn enter(&self, client: u64, since: Duration) -> Entry {
        let now = (since.as_micros() as u64 * TICKS_PER_SECOND / 1_000_000) as u32;
        // 0 is nobody.
        let client = client.max(1);
        for _ in 0..ATTEMPTS {
            let set = self.set(client);
            if let Some(known) = set.clone().find_map(|at| self.enter_own(at, client, now)) {
                return known;
            }
            let locked = set.clone().find_map(|at| self.lock(at, now).map(|paid| (at, paid)));
            let Some((at, paid)) = locked else { return Entry::Unknown };
            let (owner, state) = &self.entries[at];
            owner.store(client, Ordering::SeqCst);
            total_order();
            // Another shard may do the same elsewhere in the set. Of two that have both said so
            // before they look, one sees the other; who does begins anew.
            let is_twin = |other: usize| {
                other != at && self.entries[other].0.load(Ordering::SeqCst) == client
            };
            if set.clone().any(is_twin) {
                owner.store(0, Ordering::SeqCst);
            }
            // Never the state that it had: a shard that saw the former client there must not take
            // this one for it.
            let new = if paid == now { now.wrapping_sub(1) } else { now };
            state.store(new.into(), Ordering::SeqCst);
        }
        Entry::Unknown
    }

    /// A session has ended.
    pub fn leave(&self, place: Permit) {
        self.entries[place.0 as usize].1.fetch_sub(SESSION, Ordering::SeqCst);
    }

    /// Clients that have sessions, and clients whose arrivals are not yet paid for.
    pub fn clients(&self, since: Duration) -> usize {
        let now = (since.as_micros() as u64 * TICKS_PER_SECOND / 1_000_000) as u32;
        let states = self.entries.iter().map(|(_, state)| state.load(Ordering::Relaxed));
        states.filter(|&state| state != LOCKED && !self.is_free(state, now)).count()
    }

    /// The places of a client's set.
    fn set(&self, client: u64) -> std::ops::Range<usize> {
        let sets = self.entries.len() / WAYS;
        let set = ((u128::from(client) * sets as u128) >> 64) as usize;
        set * WAYS..(set + 1) * WAYS
    }

    /// Enters at an entry if it is the client's.
    fn enter_own(&self, at: usize, client: u64, now: u32) -> Option<Entry> {
        let (owner, state) = &self.entries[at];
        loop {
            // The state before the owner: if it is still the same afterwards, so was the owner.
            let old = state.load(Ordering::SeqCst);
            if old == LOCKED || owner.load(Ordering::SeqCst) != client {
                return None;
            }
            if (old >> 32) as u32 >= self.max_sessions.load(Ordering::Relaxed) {
                return Some(Entry::TooMany);
            }
            let ahead = self.ahead_of(old, now);
            let (interval, allowed) = self.pace();
            if interval > 0 && ahead > allowed {
                return Some(Entry::TooFast);
            }
            let paid = now.wrapping_add((ahead + interval) as u32);
            let new = ((old >> 32) + 1) << 32 | u64::from(paid);
            if state.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Some(Entry::Counted(Permit(at as u32)));
            }
        }
    }

    /// Locks an entry if it is free; until when its arrivals were paid for.
    fn lock(&self, at: usize, now: u32) -> Option<u32> {
        let state = &self.entries[at].1;
        let old = state.load(Ordering::SeqCst);
        let is_locked = old != LOCKED
            && self.is_free(old, now)
            && state.compare_exchange(old, LOCKED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        is_locked.then_some(old as u32)
    }

    fn is_free(&self, state: u64, now: u32) -> bool {
        state >> 32 == 0 && self.ahead_of(state, now) == 0
    }

    /// How far ahead arrivals are paid for. What looks further than it can be was long ago.
    fn ahead_of(&self, state: u64, now: u32) -> u64 {
        let ahead = u64::from((state as u32).wrapping_sub(now));
        let (interval, allowed) = self.pace();
        if ahead > allowed + interval { 0 } else { ahead }
    }

    /// Ticks that one arrival pays for, and that may be paid for ahead.
    fn pace(&self) -> (u64, u64) {
        (self.interval.load(Ordering::Relaxed), self.ahead.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::settings::{ClientRate, Refusal};

    fn limits(max_connections: u32, rate: Option<u32>, burst: u32) -> ClientLimits {
        let rate = rate.map(|per_100_seconds| ClientRate { per_100_seconds });
        let allow = Vec::new();
        ClientLimits { max_connections, rate, burst, allow, size: 64, refusal: Refusal::Reset }
    }

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_client_has_so_many_sessions_and_others_have_theirs() {
        let table = Table::new(&limits(2, None, 1));
        let Entry::Counted(first) = table.enter(7, at(0)) else { panic!() };
        assert!(matches!(table.enter(7, at(0)), Entry::Counted(_)));
        assert_eq!(table.enter(7, at(9)), Entry::TooMany);
        assert!(matches!(table.enter(8, at(9)), Entry::Counted(_)));
        assert_eq!(table.clients(at(9)), 2);
        table.leave(first);
        assert!(matches!(table.enter(7, at(9)), Entry::Counted(_)));
        assert_eq!(table.enter(7, at(9)), Entry::TooMany);
    }

    #[test]
    fn sessions_come_in_bursts_and_then_at_their_rate() {
        let table = Table::new(&limits(u32::MAX, Some(1000), 3));
        let mut come = |ms| match table.enter(7, at(ms)) {
            Entry::Counted(place) => {
                table.leave(place);
                true
            }
            other => {
                assert_eq!(other, Entry::TooFast);
                false
            }
        };
        assert_eq!([0, 0, 0, 0].map(&mut come), [true, true, true, false]);
        // Ten a second: one each 100 ms.
        assert_eq!([99, 100, 101, 200].map(&mut come), [false, true, false, true]);
        assert_eq!([9000, 9000, 9000, 9000].map(&mut come), [true, true, true, false]);
        // Where the clock has gone round, a client that was away for days is a new one.
        let round = (1u64 << 32) * 1000 / TICKS_PER_SECOND;
        assert_eq!([round - 50, round + 4000].map(&mut come), [true, true]);
    }

    #[test]
    fn a_full_set_counts_no_further_client_and_has_room_again_later() {
        let table = Table::new(&ClientLimits { size: 1, ..limits(1, None, 1) });
        let places: Vec<Entry> = (1..=16).map(|client| table.enter(client, at(0))).collect();
        assert!(places.iter().all(|entry| matches!(entry, Entry::Counted(_))));
        assert_eq!(table.enter(17, at(0)), Entry::Unknown);
        assert_eq!(table.enter(16, at(0)), Entry::TooMany);
        let Entry::Counted(place) = places[3] else { panic!() };
        table.leave(place);
        assert_eq!(table.enter(17, at(0)), Entry::Counted(place));
        assert_eq!(table.enter(17, at(0)), Entry::TooMany);
    }

    #[test]
    fn shards_that_meet_new_clients_at_once_never_let_too_many_in() {
        let table = Table::new(&limits(2, None, 1));
        for round in 0..2000u64 {
            // Several clients of one set, each new to all shards.
            let clients = [1, 2, 3].map(|n| round * 8 + n);
            let shard = || {
                let enter = |client| table.enter(client, at(1));
                (0..3).flat_map(|_| clients.map(enter)).collect::<Vec<Entry>>()
            };
            let entries = std::thread::scope(|scope| {
                let shards = [scope.spawn(shard), scope.spawn(shard)];
                shards.map(|shard| shard.join().unwrap())
            });
            let places = || {
                entries.iter().flatten().filter_map(|entry| match entry {
                    Entry::Counted(place) => Some(*place),
                    _ => None,
                })
            };
            assert_eq!(places().count(), 6, "{entries:?}");
            assert_eq!(table.clients(at(1)), 3);
            places().for_each(|place| table.leave(place));
            assert_eq!(table.clients(at(1)), 0);
        }
    }
}
