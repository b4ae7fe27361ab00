//! Turns by weight, shared by all shards: fair over the whole process.
//!
//! One word per server: the virtual time of its next turn, which grows by one over its weight with
//! each session (stride scheduling). Of the servers that are not ahead of the average, the one
//! whose turn would end first is picked ("earliest eligible virtual deadline first", Stoica and
//! Abdel-Wahab 1995). That keeps every server within one session of its exact share at any time,
//! and avoids bursts. A turn is taken by one compare-and-exchange of that word; words only grow, so
//! a pick that was right when the words were read is still right when it succeeds.
//!
//! A server that was down, full or already tried has fallen behind. It does not catch up, however
//! long that lasted ([`Seen::lifted`]); a changed weight applies from the next turn. There is no
//! virtual clock of the backend to compare with, only the other candidates: a session that has
//! tried some servers sees only the rest, and must not advance the time of those it doesn't see.
//! Not here: eligibility. Invariants: a candidate is picked whenever there is one; with equal
//! weights no two servers ever differ by more than one turn, with any number of threads.

use crossbeam_utils::CachePadded;

use super::Candidate;
use crate::sync::{AtomicU64, Ordering};

/// The virtual time of one session at a server of weight 1. Weights up to 16 divide it, scaled or
/// not, so their turns are exact; the error of others is below one session in 2^20.
const SESSION: u64 = 720_720 << 20;

/// Words in two cache lines, which are fetched together.
const WORDS: usize = 16;

/// How often a pick is repeated after another shard took the turn. Each failure means that another
/// shard has placed a session; after the last one the session is placed without a turn, and the
/// server is not charged for it. Shards that do nothing but pick lose three of four attempts, so 16
/// were too few.
const ATTEMPTS: usize = 1024;

/// The next turn of each server of a backend, for all shards. The words of one backend are read
/// together, so they are adjacent; two backends never share a cache line.
#[derive(Debug)]
pub struct Turns {
    due: Box<[CachePadded<[AtomicU64; WORDS]>]>,
}

impl Turns {
    /// Turns of this many servers, all of them due.
    pub fn new(servers: usize) -> Self {
        let line = |_| CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { due: (0..servers.div_ceil(WORDS)).map(line).collect() }
    }

    fn word(&self, index: u32) -> &AtomicU64 {
        &self.due[index as usize / WORDS][index as usize % WORDS]
    }
}

/// The state of one shard for picking by turns: caches and scratch space only.
#[derive(Debug, Default)]
pub(super) struct InTurn {
    /// The last weight of each server and the virtual time of a session at that weight, because
    /// divisions are expensive.
    strides: Vec<(u32, i64)>,
    seen: Vec<Seen>,
}

/// The word of a candidate when it was read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    due: u64,
    stride: i64,
    /// The start of its turn, relative to the time that [`InTurn::look`] returned.
    start: i64,
}

impl Seen {
    /// The start of its turn for this pick. A server that takes part is never a whole session
    /// behind; one that is was out, and starts level with the others.
    fn lifted(&self) -> i64 {
        // No server is further ahead, unless the words have wrapped around.
        if self.start <= -self.stride { 0 } else { self.start.min(self.stride) }
    }

    fn end(&self) -> i64 {
        self.lifted() + self.stride
    }
}

impl InTurn {
    /// Picks the candidate whose turn it is, among those that `admits` admits. The others count for
    /// the average.
    pub(super) fn pick(
        &mut self,
        candidates: &[Candidate],
        turns: &Turns,
        admits: impl Fn(&Candidate) -> bool,
    ) -> Option<Candidate> {
        // With one candidate there is nothing to share and no turn to take: a retry, or the second
        // server of a race between two, would cost that server its own next turn.
        if let [only] = candidates {
            return Some(*only).filter(admits);
        }
        let mut picked = None;
        for _ in 0..ATTEMPTS {
            let from = self.look(candidates, turns);
            let (candidate, seen) = self.next(candidates, &admits)?;
            picked = Some(candidate);
            let end = from.wrapping_add_signed(seen.end());
            let word = turns.word(candidate.index);
            if word.compare_exchange(seen.due, end, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        picked
    }

    /// Reads all words. Returns the virtual time that `start` is relative to: the latest start of a
    /// turn already taken, and thus no later than the average.
    fn look(&mut self, candidates: &[Candidate], turns: &Turns) -> u64 {
        self.seen.clear();
        let mut latest = None;
        for candidate in candidates {
            let due = turns.word(candidate.index).load(Ordering::Relaxed);
            let stride = self.stride(candidate);
            let began = due.wrapping_sub(stride.cast_unsigned());
            // Words wrap around. One that is half the range behind counts as ahead, which puts all
            // others level with it.
            if latest.is_none_or(|latest| began.wrapping_sub(latest).cast_signed() > 0) {
                latest = Some(began);
            }
            self.seen.push(Seen { due, stride, start: 0 });
        }
        let latest = latest.unwrap_or_default();
        for seen in &mut self.seen {
            seen.start = seen.due.wrapping_sub(latest).cast_signed();
        }
        latest
    }

    /// The candidate whose turn it is, by the words that were read.
    fn next(
        &self,
        candidates: &[Candidate],
        admits: impl Fn(&Candidate) -> bool,
    ) -> Option<(Candidate, Seen)> {
        let pairs = || candidates.iter().zip(&self.seen);
        let (mut sum, mut weights) = (0, 0);
        for (candidate, seen) in pairs() {
            let weight = i64::from(candidate.weight);
            // Within one session of the average, so below 2^40 each.
            sum += weight * seen.lifted();
            weights += weight;
        }
        // Rounding down does not affect the comparison of integers.
        let average = sum.checked_div_euclid(weights).unwrap_or_default();
        let is_ahead = |seen: &Seen| seen.lifted() > average;
        let admitted = pairs().filter(|(candidate, _)| admits(candidate));
        // Of servers lifted to the same turn, the one that has waited longest.
        let best = admitted.min_by_key(|(_, seen)| (is_ahead(seen), seen.end(), seen.start))?;
        Some((*best.0, *best.1))
    }

    /// The virtual time of one session at a server.
    fn stride(&mut self, candidate: &Candidate) -> i64 {
        let index = candidate.index as usize;
        if self.strides.len() <= index {
            self.strides.resize(index + 1, (0, 0));
        }
        let known = &mut self.strides[index];
        if known.0 != candidate.weight {
            let stride = SESSION / u64::from(candidate.weight.max(1));
            *known = (candidate.weight, stride.cast_signed());
        }
        known.1
    }
}
