//! Turns by weight that all shards take from the same few words: fair over the process.
//!
//! One word per server: the virtual time at which it is due again, which grows by one over its
//! weight with each session (stride scheduling). Of the servers that are not ahead of the average,
//! the one whose turn would be over first is picked ("earliest eligible virtual deadline first",
//! Stoica and Abdel-Wahab 1995), which keeps every server within one session of its exact share,
//! not only in the long run, and leaves no bursts. The turn is taken by one compare-and-exchange of
//! that word; words only grow, so a pick that was right when the words were read still is when it
//! wins.
//!
//! A server that was away, full or tried has fallen behind; it is owed nothing for that, however
//! long it took ([`Seen::lifted`]), and a weight that changes counts from the next turn on. There
//! is no clock of the backend to compare with, only the other candidates: sessions that have tried
//! some servers see a part of them, and must not move the time of the rest.
//! Not here: who may be picked at all. Invariants: a candidate is picked whenever there is one;
//! with equal weights no two servers ever differ by more than one turn, whatever the threads.

use crossbeam_utils::CachePadded;

use super::Candidate;
use crate::sync::{AtomicU64, Ordering};

/// The virtual time of one session at a server of weight 1. Weights up to 16 divide it, scaled or
/// not, so that their turns have no error; that of others is below a session in 2^20.
const SESSION: u64 = 720_720 << 20;

/// Words in a cache line, with the line that is fetched along with it.
const WORDS: usize = 16;

/// How often a pick that lost its turn to another shard is repeated. Each time another shard has
/// got a session; a pick that loses every time goes without a turn of its own, which is never made
/// up for. Shards that do nothing but pick lose three of four attempts, so 16 were too few.
const ATTEMPTS: usize = 1024;

/// When each server of a backend is due, for all shards. The words of one backend are read
/// together, so they lie together; those of two backends never share a cache line.
#[derive(Debug)]
pub struct Turns {
    due: Box<[CachePadded<[AtomicU64; WORDS]>]>,
}

impl Turns {
    /// Turns of so many servers, all of them due.
    pub fn new(servers: usize) -> Self {
        let line = |_| CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { due: (0..servers.div_ceil(WORDS)).map(line).collect() }
    }

    fn word(&self, index: u32) -> &AtomicU64 {
        &self.due[index as usize / WORDS][index as usize % WORDS]
    }
}

/// How one shard picks by turns. Remembers nothing that another shard would have to know.
#[derive(Debug, Default)]
pub(super) struct InTurn {
    /// The weight of each server when it was last seen, and the virtual time of a session at it:
    /// divisions are dear.
    strides: Vec<(u32, i64)>,
    seen: Vec<Seen>,
}

/// A candidate's word as it was read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    due: u64,
    stride: i64,
    /// When it is due, relative to what [`InTurn::look`] returned.
    start: i64,
}

impl Seen {
    /// Where its turn begins for this pick. A server that takes part is never a whole session
    /// behind, so one that is was away, and begins level with the others.
    fn lifted(&self) -> i64 {
        // None is further ahead, unless the words have gone round.
        if self.start <= -self.stride { 0 } else { self.start.min(self.stride) }
    }

    fn end(&self) -> i64 {
        self.lifted() + self.stride
    }
}

impl InTurn {
    /// Picks the one of the candidates whose turn it is, of those that `admits` admits. The others
    /// count for what is fair.
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

    /// Reads all words. Returns the virtual time that `start` counts from: the latest that a turn
    /// which has been taken began, and thus no later than the average.
    fn look(&mut self, candidates: &[Candidate], turns: &Turns) -> u64 {
        self.seen.clear();
        let mut latest = None;
        for candidate in candidates {
            let due = turns.word(candidate.index).load(Ordering::Relaxed);
            let stride = self.stride(candidate);
            let began = due.wrapping_sub(stride.cast_unsigned());
            // Words count round. One that is half a circle behind counts as ahead, which puts all
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

    /// Whose turn it is, by the words as they were read.
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
        // Rounded down, which makes no difference to whole numbers.
        let average = sum.checked_div_euclid(weights).unwrap_or_default();
        let is_ahead = |seen: &Seen| seen.lifted() > average;
        let admitted = pairs().filter(|(candidate, _)| admits(candidate));
        // Of servers that were lifted to the same turn, the one that has waited longest.
        let best = admitted.min_by_key(|(_, seen)| (is_ahead(seen), seen.end(), seen.start))?;
        Some((*best.0, *best.1))
    }

    /// The virtual time that one session takes at a server.
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
