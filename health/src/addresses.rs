//! Servers configured by DNS name: which slot has which address, and when the next query is due.
//!
//! A name may have several addresses, which come and go; slots are servers that stay. Pure:
//! [`Addresses`] takes DNS answers and the time, and returns the slots whose address changed. Not
//! here: DNS queries, and which sessions a slot may take (`Backend`). Invariants: an address has at
//! most one slot and keeps it as long as answers contain it; only answers remove an address, and
//! an empty answer does so only after it has held for the time given to [`Addresses::new`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Pause after a query that failed or returned no address; it doubles each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest pause after such queries.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// Bounds on the time for which an answer is used, whatever its TTL.
const BELIEVED_MIN: Duration = Duration::from_secs(1);
const BELIEVED_MAX: Duration = Duration::from_secs(3600);

/// One address in an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// The address and port.
    pub address: SocketAddr,
    /// Its weight, if the answer contains weights.
    pub weight: Option<u32>,
    /// Whether the answer gives others priority over it.
    pub backup: bool,
}

/// One SRV record (RFC 2782) with its target resolved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SrvRecord {
    /// The address and port.
    pub address: SocketAddr,
    /// Records with the lowest number are used first.
    pub priority: u16,
    /// Its weight among the records of its priority.
    pub weight: u16,
}

/// The outcome of a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// These addresses, valid for this time.
    Found(Vec<Found>, Duration),
    /// An authoritative answer without addresses.
    Empty,
    /// No answer, or none that is authoritative.
    Failed,
}

/// A slot whose address, weight or priority has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moved {
    /// Index of the slot.
    pub slot: usize,
    /// Its address before.
    pub from: Option<SocketAddr>,
    /// Its address now.
    pub to: Option<Found>,
}

/// The slots of one name.
#[derive(Debug)]
pub struct Addresses {
    slots: Vec<Slot>,
    hold: Duration,
    /// Start of the current run of empty answers.
    empty_since: Option<Instant>,
    /// The pause after the last query, while queries return no address.
    pause: Option<Duration>,
    ask_at: Instant,
    left_over: usize,
    /// Counts how often slots became free.
    freed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    found: Option<Found>,
    /// When it became free, as counted by `Addresses::freed`.
    freed: u64,
}

impl Addresses {
    /// This many slots, all free. When a name has no address any more, its last ones are kept for
    /// `hold`. The first query is due at `now`.
    pub fn new(slots: usize, hold: Duration, now: Instant) -> Self {
        Self {
            slots: vec![Slot::default(); slots],
            hold,
            empty_since: None,
            pause: None,
            ask_at: now,
            left_over: 0,
            freed: 0,
        }
    }

    /// Takes the outcome of a query; returns the slots that changed.
    pub fn take(&mut self, answer: Answer, now: Instant) -> Vec<Moved> {
        match answer {
            Answer::Found(found, believed) => {
                (self.empty_since, self.pause) = (None, None);
                self.ask_at = now + believed.clamp(BELIEVED_MIN, BELIEVED_MAX);
                self.assign(found)
            }
            Answer::Empty => {
                let gone_at = *self.empty_since.get_or_insert(now) + self.hold;
                self.ask_at = now + self.next_pause();
                if now >= gone_at {
                    return self.assign(Vec::new());
                }
                self.ask_at = self.ask_at.min(gone_at);
                Vec::new()
            }
            Answer::Failed => {
                self.ask_at = now + self.next_pause();
                Vec::new()
            }
        }
    }

    /// When the next query is due.
    pub fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// Number of addresses in the last answer that got no slot.
    pub fn left_over(&self) -> usize {
        self.left_over
    }

    /// Number of slots that have an address.
    pub fn present(&self) -> usize {
        self.slots.iter().filter(|slot| slot.found.is_some()).count()
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.map_or(RETRY_FIRST, |pause| (pause * 2).min(RETRY_MAX));
        self.pause = Some(pause);
        pause
    }

    /// Assigns these addresses, and no others, to slots.
    fn assign(&mut self, mut found: Vec<Found>) -> Vec<Moved> {
        // The order of an answer is arbitrary. Sorted, balancers that start with the same answer
        // assign the same slots; and IPv4, which every host can reach, gets the first slot.
        found.sort_by_key(|found| (found.backup, found.address.is_ipv6(), found.address));
        let mut answered: HashMap<SocketAddr, Found> = HashMap::with_capacity(found.len());
        found.retain(|found| {
            let is_new = !answered.contains_key(&found.address);
            answered.entry(found.address).or_insert(*found);
            is_new
        });
        let before: Vec<Option<Found>> = self.slots.iter().map(|slot| slot.found).collect();
        for slot in &mut self.slots {
            let Some(had) = slot.found else { continue };
            slot.found = answered.remove(&had.address);
            if slot.found.is_none() {
                self.freed += 1;
                slot.freed = self.freed;
            }
        }
        found.retain(|found| answered.contains_key(&found.address));
        // The slot that became free first has the fewest sessions left of its last address.
        let mut free: Vec<&mut Slot> =
            self.slots.iter_mut().filter(|slot| slot.found.is_none()).collect();
        free.sort_by_key(|slot| slot.freed);
        self.left_over = found.len().saturating_sub(free.len());
        for (slot, new) in free.into_iter().zip(found) {
            slot.found = Some(new);
        }
        let slots = before.into_iter().zip(&self.slots).enumerate();
        slots
            .filter(|(_, (before, slot))| *before != slot.found)
            .map(|(slot, (before, now))| Moved {
                slot,
                from: before.map(|found| found.address),
                to: now.found,
            })
            .collect()
    }
}

/// Converts an SRV answer: weights are scaled so that the largest is `most`, and records above the
/// lowest priority number are backups.
pub fn of_srv(records: &[SrvRecord], most: u32) -> Vec<Found> {
    let first = records.iter().map(|record| record.priority).min();
    let heaviest = records.iter().map(|record| record.weight).max().unwrap_or(0);
    let weight = |weight: u16| match heaviest {
        // All weights are 0: no preference.
        0 => most,
        // RFC 2782 gives records of weight 0 a small chance.
        _ => (u64::from(weight) * u64::from(most) / u64::from(heaviest)).max(1) as u32,
    };
    let found = |record: &SrvRecord| Found {
        address: record.address,
        weight: Some(weight(record.weight)),
        backup: Some(record.priority) != first,
    };
    records.iter().map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOLD: Duration = Duration::from_secs(30);
    const MINUTE: Duration = Duration::from_secs(60);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn found(addresses: &[&str]) -> Answer {
        let found = |text: &&str| Found { address: at(text), weight: None, backup: false };
        Answer::Found(addresses.iter().map(found).collect(), MINUTE)
    }

    fn slots(addresses: &Addresses) -> Vec<Option<String>> {
        let text = |slot: &Slot| slot.found.map(|found| found.address.to_string());
        addresses.slots.iter().map(text).collect()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn an_address_keeps_its_slot_while_others_come_and_go() {
        let now = Instant::now();
        let mut addresses = Addresses::new(3, HOLD, now);
        assert_eq!(addresses.take(found(&["10.0.0.2:1", "10.0.0.1:1"]), now).len(), 2);
        assert_eq!(slots(&addresses), [some("10.0.0.1:1"), some("10.0.0.2:1"), None]);
        let moved = addresses.take(found(&["10.0.0.3:1", "10.0.0.2:1"]), now);
        assert_eq!(slots(&addresses), [None, some("10.0.0.2:1"), some("10.0.0.3:1")]);
        assert_eq!(moved.len(), 2);
        assert_eq!((moved[0].slot, moved[0].from, moved[0].to), (0, Some(at("10.0.0.1:1")), None));
        assert!(addresses.take(found(&["10.0.0.2:1", "10.0.0.3:1"]), now).is_empty());
        let all = ["10.0.0.4:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.5:1"];
        addresses.take(found(&all), now);
        assert_eq!((addresses.left_over(), addresses.present()), (1, 3));
        addresses.take(found(&all[1..]), now);
        assert_eq!(slots(&addresses)[0], some("10.0.0.5:1"), "it waited for a slot");
        assert_eq!(addresses.left_over(), 0);
    }

    #[test]
    fn one_slot_prefers_ipv4_and_stays_with_what_it_has() {
        let now = Instant::now();
        let mut addresses = Addresses::new(1, HOLD, now);
        addresses.take(found(&["[::1]:1", "10.0.0.9:1", "10.0.0.9:1"]), now);
        assert_eq!((slots(&addresses), addresses.left_over()), (vec![some("10.0.0.9:1")], 1));
        addresses.take(found(&["10.0.0.1:1", "10.0.0.9:1"]), now);
        assert_eq!(slots(&addresses), [some("10.0.0.9:1")]);
        let moved = addresses.take(found(&["[::1]:1"]), now);
        assert_eq!(
            (moved[0].from, moved[0].to.unwrap().address),
            (Some(at("10.0.0.9:1")), at("[::1]:1"))
        );
    }

    #[test]
    fn a_new_address_takes_the_slot_that_was_left_longest_ago() {
        let now = Instant::now();
        let mut addresses = Addresses::new(2, HOLD, now);
        addresses.take(found(&["10.0.0.1:1", "10.0.0.2:1"]), now);
        addresses.take(found(&["10.0.0.1:1"]), now);
        addresses.take(found(&["10.0.0.3:1"]), now);
        assert_eq!(slots(&addresses), [None, some("10.0.0.3:1")]);
    }

    #[test]
    fn failures_take_nothing_and_pauses_grow_to_a_cap() {
        let mut now = Instant::now();
        let mut addresses = Addresses::new(1, HOLD, now);
        addresses.take(found(&["10.0.0.1:1"]), now);
        assert_eq!(addresses.ask_at(), now + MINUTE);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(addresses.take(Answer::Failed, now).is_empty());
            pauses.push((addresses.ask_at() - now).as_secs());
            now = addresses.ask_at();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        addresses.take(found(&["10.0.0.1:1"]), now);
        addresses.take(Answer::Failed, now);
        assert_eq!(addresses.ask_at() - now, RETRY_FIRST, "it begins anew");
        assert_eq!(addresses.present(), 1);
    }

    #[test]
    fn what_is_definitely_gone_for_long_is_gone() {
        let begin = Instant::now();
        let mut addresses = Addresses::new(1, HOLD, begin);
        addresses.take(found(&["10.0.0.1:1"]), begin);
        let mut now = begin;
        while now < begin + HOLD {
            assert!(addresses.take(Answer::Empty, now).is_empty());
            assert!(addresses.ask_at() <= begin + HOLD, "asked when it counts");
            now = addresses.ask_at();
        }
        assert_eq!(addresses.take(Answer::Empty, now).len(), 1);
        assert_eq!(addresses.present(), 0);
        assert!(addresses.ask_at() > now);
        // An answer in between restarts the time.
        addresses.take(found(&["10.0.0.1:1"]), now);
        addresses.take(Answer::Empty, now);
        addresses.take(found(&["10.0.0.1:1"]), now + HOLD);
        assert!(addresses.take(Answer::Empty, now + HOLD).is_empty());
        assert_eq!(Addresses::new(1, Duration::ZERO, now).take(Answer::Empty, now).len(), 0);
    }

    #[test]
    fn answers_are_believed_for_a_sensible_time() {
        let now = Instant::now();
        for (said, believed) in [(0, 1), (5, 5), (86_400, 3600)] {
            let mut addresses = Addresses::new(1, HOLD, now);
            addresses.take(Answer::Found(Vec::new(), Duration::from_secs(said)), now);
            assert_eq!((addresses.ask_at() - now).as_secs(), believed);
        }
    }

    #[test]
    fn services_are_weighed_against_the_heaviest_and_late_priorities_stand_by() {
        let record = |port, priority, weight| SrvRecord {
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            priority,
            weight,
        };
        let weights = |records: &[SrvRecord]| -> Vec<(u32, bool)> {
            let found = of_srv(records, 1000);
            found.iter().map(|found| (found.weight.unwrap(), found.backup)).collect()
        };
        let records = [record(1, 10, 60), record(2, 10, 20), record(3, 20, 0)];
        assert_eq!(weights(&records), [(1000, false), (333, false), (1, true)]);
        assert_eq!(weights(&[record(1, 0, 0), record(2, 0, 0)]), [(1000, false); 2]);
        assert!(weights(&[]).is_empty());
        let now = Instant::now();
        let mut addresses = Addresses::new(2, HOLD, now);
        addresses.take(Answer::Found(of_srv(&records[..2], 1000), MINUTE), now);
        let lighter = [record(1, 10, 60), record(2, 10, 30)];
        let moved = addresses.take(Answer::Found(of_srv(&lighter, 1000), MINUTE), now);
        assert_eq!((moved.len(), moved[0].to.unwrap().weight), (1, Some(500)), "a new weight");
    }

    proptest! {
        /// For any answers: no address has two slots, addresses that stay keep their slot, and none
        /// is without a slot while one is free.
        #[test]
        fn slots_are_stable_and_full(
            slots in 1..6usize,
            answers in prop::collection::vec(prop::collection::vec(1..9u16, 0..9), 1..12),
        ) {
            let now = Instant::now();
            let mut addresses = Addresses::new(slots, HOLD, now);
            for ports in answers {
                let before: Vec<_> = addresses.slots.iter().map(|slot| slot.found).collect();
                let found = |port: &u16| Found {
                    address: SocketAddr::from(([10, 0, 0, 1], *port)),
                    weight: None,
                    backup: false,
                };
                addresses.take(Answer::Found(ports.iter().map(found).collect(), MINUTE), now);
                let different: std::collections::BTreeSet<u16> = ports.iter().copied().collect();
                let has: Vec<_> = addresses.slots.iter().map(|slot| slot.found).collect();
                for (before, has) in before.iter().zip(&has) {
                    if before.is_some_and(|found| different.contains(&found.address.port())) {
                        prop_assert_eq!(before, has);
                    }
                }
                let ports: std::collections::BTreeSet<u16> =
                    has.iter().flatten().map(|found| found.address.port()).collect();
                prop_assert!(ports.is_subset(&different));
                prop_assert_eq!(ports.len(), slots.min(different.len()));
                prop_assert_eq!(addresses.present(), ports.len());
                prop_assert_eq!(addresses.left_over(), different.len() - ports.len());
            }
        }
    }
}
