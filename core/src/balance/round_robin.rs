//! Smooth weighted round robin: in turn, by weight, without bursts, across all shards.
//!
//! Weights 5, 1, 1 give a b a a c a a, not a a a a a b c. The order is that of `turns`.

use super::Candidate;
use super::turns::{InTurn, Turns};

/// The part of the state that each shard has.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    in_turn: InTurn,
}

impl RoundRobin {
    pub(super) fn pick(&mut self, candidates: &[Candidate], turns: &Turns) -> Option<Candidate> {
        self.in_turn.pick(candidates, turns, |_| true)
    }
}
