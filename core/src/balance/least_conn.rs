//! Least connections: fewest sessions for the weight, counted across all shards.
//!
//! Compares by how many whole sessions a server is below its share of all sessions. With equal
//! weights that is the order by number of sessions. Servers that are equally far below their share
//! take turns by weight, so that idle servers share short sessions that come one after the other as
//! they share long ones.

use super::Candidate;
use super::turns::{InTurn, Turns};

/// The part of the state that each shard has.
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
        // Sessions below its share, times the sum of weights.
        let lack = |candidate: &Candidate| {
            sessions * i128::from(candidate.weight) - weights * i128::from(candidate.sessions)
        };
        // Never below 0, as not all can be above their share.
        let most = candidates.iter().map(lack).max()?;
        let whole = most - most % weights;
        self.in_turn.pick(candidates, turns, |candidate| lack(candidate) >= whole)
    }
}
