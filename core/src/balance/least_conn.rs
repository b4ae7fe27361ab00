//! Least connections: fewest sessions over weight, counted across all shards.
//!
//! Equals take turns, from behind the last pick on, so that idle servers share the first sessions
//! instead of the first server getting them all.

use std::cmp::Ordering;

use super::Candidate;

/// Where the last pick was.
#[derive(Debug, Default)]
pub(super) struct LeastConn {
    last: u32,
}

impl LeastConn {
    pub(super) fn pick(
        &mut self,
        mut candidates: impl Iterator<Item = Candidate>,
    ) -> Option<Candidate> {
        let mut best = candidates.next()?;
        for candidate in candidates {
            if match candidate.compare_load(&best) {
                Ordering::Less => true,
                Ordering::Equal => candidate.is_before_in_turn(&best, self.last),
                Ordering::Greater => false,
            } {
                best = candidate;
            }
        }
        self.last = best.index;
        Some(best)
    }
}
