//! Which server a session goes to: policies without I/O, clock or shards.
//!
//! One algorithm per file; [`Chooser`] puts tiers (backup servers, servers that failed) around
//! them. A policy sees [`Candidate`]s: what a server weighs and carries now, and whether it may be
//! taken. Invariants: a policy never picks a candidate that is not usable, and always picks one if
//! any is; equal inputs and seeds give equal picks.

mod chooser;
mod least_conn;
mod random_two;
mod round_robin;
mod source;

pub use chooser::{Chooser, View};
pub use least_conn::LeastConn;
pub use round_robin::RoundRobin;

use crate::prng::Prng;
use crate::snapshot::BalanceKind;

/// One server as a policy sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Its share, relative to the others; 0 takes nothing.
    pub weight: u32,
    /// Sessions it has now.
    pub sessions: u32,
    /// What tells it from the others whatever their order: a hash of its name.
    pub identity: u64,
    /// Whether it may be picked.
    pub usable: bool,
}

/// A policy and its state.
#[derive(Debug)]
pub enum Balance {
    /// In turn, by weight, without bursts.
    RoundRobin(RoundRobin),
    /// Fewest sessions over weight.
    LeastConn(LeastConn),
    /// The less loaded of two drawn at random.
    RandomTwo,
    /// By hash of the client's address.
    Source,
}

impl Balance {
    /// A policy that has picked nothing yet.
    pub fn new(kind: BalanceKind) -> Self {
        match kind {
            BalanceKind::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            BalanceKind::LeastConn => Self::LeastConn(LeastConn::default()),
            BalanceKind::RandomTwo => Self::RandomTwo,
            BalanceKind::Source => Self::Source,
        }
    }

    /// The index of the picked candidate; `None` when none is usable. `key` is what policies by
    /// hash go by.
    pub fn pick(&mut self, servers: &[Candidate], key: u64, prng: &mut Prng) -> Option<usize> {
        match self {
            Self::RoundRobin(state) => state.pick(servers),
            Self::LeastConn(state) => state.pick(servers),
            Self::RandomTwo => random_two::pick(servers, prng),
            Self::Source => source::pick(servers, key),
        }
    }
}

impl Candidate {
    fn takes_sessions(&self) -> bool {
        self.usable && self.weight > 0
    }

    /// Whether this server carries less for its weight than `other` does, the next session counted.
    fn is_less_loaded_than(&self, other: &Self) -> bool {
        let load = |a: &Self, b: &Self| (u64::from(a.sessions) + 1) * u64::from(b.weight);
        load(self, other) < load(other, self)
    }
}

#[cfg(test)]
mod tests;
