//! Least connections: fewest sessions for the weight, counted across all shards.
//!
//! What counts is how many sessions a server is short of its share of all there are, in whole
//! sessions. With equal weights that is the order of their numbers. Those that lack equally many
//! take turns by weight, so that idle servers share sessions that come one after the other as they
//! would share sessions that stay.

use super::Candidate;
use super::turns::{InTurn, Turns};

/// The shard's part of it.
#[derive(Debug, Default)]
pub(super) struct LeastConn {
    in_turn: InTurn,
}

impl LeastConn {
    pub(super) fn pick(&mut self, candidates: &[Candidate], turns: &Turns) -> Option<Candidate> {
        let (mut sessions, mut weights) = (0, 0);
        for candidate in candidates {
            sessions += i128::from(candidate.sessions);
            weights += i128::from(candidate.weight);
        }
        // Sessions that it lacks, times the sum of weights.
        let lack = |candidate: &Candidate| {
            sessions * i128::from(candidate.weight) - weights * i128::from(candidate.sessions)
        };
        // Never below 0, as not all have more than their share.
        let most = candidates.iter().map(lack).max()?;
        let whole = most - most % weights;
        self.in_turn.pick(candidates, turns, |candidate| lack(candidate) >= whole)
    }
}
