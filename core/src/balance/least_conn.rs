//! Least connections: fewest sessions over weight, counted across all shards.
//!
//! Equals take turns: the scan begins behind the last pick, so that idle servers share the first
//! sessions instead of the first server getting them all.

use super::Candidate;

/// Where the last pick was.
#[derive(Debug, Default)]
pub struct LeastConn {
    last: usize,
}

impl LeastConn {
    pub(super) fn pick(&mut self, servers: &[Candidate]) -> Option<usize> {
        let start = (self.last + 1).min(servers.len());
        let turn = (start..servers.len()).chain(0..start);
        let mut best: Option<usize> = None;
        for index in turn.filter(|&index| servers[index].takes_sessions()) {
            if best.is_none_or(|best| servers[index].is_less_loaded_than(&servers[best])) {
                best = Some(index);
            }
        }
        self.last = best?;
        best
    }
}
