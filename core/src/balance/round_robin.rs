//! Smooth weighted round robin: in turn, by weight, without bursts.
//!
//! Every pick gives each server its weight in credit, takes the richest, and charges it the sum
//! (nginx's method, 2012). Weights 5, 1, 1 give a a b a c a a, not a a a a a b c.

use super::Candidate;

/// Each server's credit.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    credit: Vec<i64>,
}

impl RoundRobin {
    pub(super) fn pick(
        &mut self,
        servers: usize,
        candidates: impl Iterator<Item = Candidate>,
    ) -> Option<Candidate> {
        self.credit.resize(servers, 0);
        let (mut total, mut richest, mut best) = (0, i64::MIN, None);
        for candidate in candidates {
            let credit = &mut self.credit[candidate.index as usize];
            *credit += i64::from(candidate.weight);
            total += i64::from(candidate.weight);
            if *credit > richest {
                (richest, best) = (*credit, Some(candidate));
            }
        }
        self.credit[best?.index as usize] -= total;
        best
    }
}
