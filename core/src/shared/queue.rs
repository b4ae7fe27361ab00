//! Who waits for a place at a backend's servers, as all shards see it.
//!
//! Each shard keeps its own waiting sessions in order and publishes the ticket of the first; so all
//! shards know whose turn it is: the lowest ticket's, which is that of the highest priority and the
//! earliest arrival. Sessions that want different roles wait in different lines, since a replica
//! with room is of no use to who wants the primary. Not here: the sessions themselves. Invariants:
//! at most `size` sessions wait in all lines of a backend; a ticket is published while its session
//! waits and no longer. Whoever frees a place calls the next ([`Queue::call_next`]); a call may be
//! lost (a full mailbox), so the first of a line also looks by itself now and then.

use crossbeam_utils::CachePadded;

use super::gate::Gate;
use crate::settings::Priority;
use crate::settings::RoleWanted;
use crate::sync::{AtomicU64, Ordering};

/// Lines of a backend: one for each role that may be wanted.
pub const LINES: usize = RoleWanted::ALL.len();

/// Bits of a ticket that hold its shard, so that no two shards publish the same.
const SHARD_BITS: u32 = 16;

/// Bits of a ticket that hold its time in milliseconds: some 2,000 years.
const TIME_BITS: u32 = 46;

/// When somebody came and how much it matters; the lowest is served first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// Published where nobody waits: higher than any ticket.
const NOBODY: u64 = u64::MAX;

/// The queue of one backend.
#[derive(Debug)]
pub struct Queue {
    places: Gate,
    /// The first ticket of each shard, for each line.
    first: [Vec<CachePadded<AtomicU64>>; LINES],
}

impl Ticket {
    /// The ticket of a session that came to a shard at `now_ms`.
    pub fn new(priority: Priority, now_ms: u64, shard: usize) -> Self {
        let time = now_ms & ((1 << TIME_BITS) - 1);
        Self((priority as u64) << (TIME_BITS + SHARD_BITS) | time << SHARD_BITS | shard as u64)
    }
}

impl Queue {
    /// Nobody waits, and `size` sessions may.
    pub fn new(size: u32, shards: usize) -> Self {
        let line = || (0..shards).map(|_| CachePadded::new(AtomicU64::new(NOBODY))).collect();
        Self { places: Gate::new(size), first: std::array::from_fn(|_| line()) }
    }

    /// Sessions that wait now.
    pub fn waiting(&self) -> u32 {
        self.places.live()
    }

    /// Sessions that may wait.
    pub fn size(&self) -> u32 {
        self.places.max()
    }

    /// Takes a place in the queue; `false` when it is full.
    pub fn try_enter(&self) -> bool {
        self.places.try_enter()
    }

    /// Gives the place back.
    pub fn leave(&self) {
        // Nobody waits to be able to wait.
        let _ = self.places.leave();
    }

    /// Says who is first on a shard now.
    pub fn publish(&self, line: RoleWanted, shard: usize, first: Option<Ticket>) {
        let word = first.map_or(NOBODY, |ticket| ticket.0);
        self.first[line as usize][shard].store(word, Ordering::Release);
    }

    /// Whether nobody in the line comes before this ticket.
    pub fn is_turn_of(&self, line: RoleWanted, ticket: Ticket) -> bool {
        let line = &self.first[line as usize];
        line.iter().all(|first| first.load(Ordering::Acquire) >= ticket.0)
    }

    /// Changes how many sessions may wait; those above a lower number stay.
    pub fn resize(&self, size: u32) {
        // No session waits to be able to wait.
        let _ = self.places.set_max(size);
    }

    /// A place may have become free: `call` gets each line with the shard whose session is its
    /// next.
    pub fn call_next(&self, mut call: impl FnMut(RoleWanted, usize)) {
        if self.waiting() == 0 {
            return;
        }
        for line in RoleWanted::ALL {
            let firsts =
                self.first[line as usize].iter().map(|first| first.load(Ordering::Acquire));
            let next = firsts.zip(0..).min_by_key(|(first, _)| *first);
            if let Some((_, shard)) = next.filter(|(first, _)| *first != NOBODY) {
                call(line, shard);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_priority_then_the_earlier_comes_first_on_whatever_shard() {
        let queue = Queue::new(10, 2);
        let line = RoleWanted::Primary;
        let late = Ticket::new(Priority::High, 20, 0);
        let early = Ticket::new(Priority::Normal, 10, 1);
        assert!(queue.is_turn_of(line, early), "nobody waits");
        queue.publish(line, 1, Some(early));
        assert!(queue.is_turn_of(line, early) && queue.is_turn_of(line, late));
        queue.publish(line, 0, Some(late));
        assert!(!queue.is_turn_of(line, early));
        assert!(queue.is_turn_of(RoleWanted::Any, early), "another line");
        let later = Ticket::new(Priority::High, 21, 1);
        assert!(!queue.is_turn_of(line, later));
        queue.publish(line, 0, None);
        assert!(queue.is_turn_of(line, early));
        assert!(Ticket::new(Priority::Low, 0, 0) > early);
    }

    #[test]
    fn the_next_of_each_line_is_called() {
        let queue = Queue::new(1, 2);
        queue.publish(RoleWanted::Any, 0, Some(Ticket::new(Priority::Normal, 2, 0)));
        queue.publish(RoleWanted::Any, 1, Some(Ticket::new(Priority::Normal, 1, 1)));
        queue.call_next(|line, shard| panic!("no session has a place: {line:?} {shard}"));
        assert!(queue.try_enter() && !queue.try_enter());
        let mut called = Vec::new();
        queue.call_next(|line, shard| called.push((line, shard)));
        assert_eq!(called, [(RoleWanted::Any, 1)]);
        queue.resize(2);
        assert!(queue.try_enter() && !queue.try_enter());
    }
}
