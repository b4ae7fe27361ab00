//! Smooth weighted round robin: in turn, by weight, without bursts.
//!
//! Every pick gives each server its weight in credit, takes the richest, and charges it the sum
//! (nginx's method, 2012). Weights 5, 1, 1 give a a b a c a a, not a a a a a b c.

use super::Candidate;

/// Each server's credit.
#[derive(Debug, Default)]
pub struct RoundRobin {
    credit: Vec<i64>,
}

impl RoundRobin {
    pub(super) fn pick(&mut self, servers: &[Candidate]) -> Option<usize> {
        self.credit.resize(servers.len(), 0);
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (index, server) in servers.iter().enumerate().filter(|(_, s)| s.takes_sessions()) {
            let weight = i64::from(server.weight);
            total += weight;
            self.credit[index] += weight;
            if best.is_none_or(|best| self.credit[index] > self.credit[best]) {
                best = Some(index);
            }
        }
        self.credit[best?] -= total;
        best
    }
}
