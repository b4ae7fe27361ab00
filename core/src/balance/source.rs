//! By hash of a key: the same client meets the same server.
//!
//! Weighted rendezvous hashing (Thaler, Ravishankar 1998; weights after Schindelhauer, Schomaker
//! 2005): every server draws a score from the key, the highest wins. When a server leaves, only its
//! own clients move; when it comes back, just those return.

use super::{Candidate, Member, mix};

pub(super) fn pick(
    candidates: impl Iterator<Item = Candidate>,
    members: &[Member],
    key: u64,
) -> Option<Candidate> {
    let (mut highest, mut best) = (0.0, None);
    for candidate in candidates {
        let hash = mix(key ^ members[candidate.index as usize].identity);
        // 53 bits are what a double holds; never 0, whose logarithm is not a number.
        let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let weight = f64::from(candidate.weight);
        // The logarithm is dear, and 1 - x <= exp(-x): most can be seen to lose without it.
        if best.is_some() && uniform <= 1.0 - weight / highest {
            continue;
        }
        let score = -weight / uniform.ln();
        if best.is_none() || score > highest {
            (highest, best) = (score, Some(candidate));
        }
    }
    best
}
