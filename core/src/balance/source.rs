//! Hash of a key: the same client gets the same server.
//!
//! Weighted rendezvous hashing (Thaler, Ravishankar 1998; weights after Schindelhauer, Schomaker
//! 2005): every server has a score for the key, and the highest wins. When a server goes down, only
//! its own clients move; when it comes back, they return.

use super::{Candidate, Member, mix};

pub(super) fn pick(
    candidates: impl Iterator<Item = Candidate>,
    members: &[Member],
    key: u64,
) -> Option<Candidate> {
    let (mut highest, mut best) = (0.0, None);
    for candidate in candidates {
        let hash = mix(key ^ members[candidate.index as usize].identity);
        // A double holds 53 bits; never 0, whose logarithm is infinite.
        let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let weight = f64::from(candidate.weight);
        // Logarithms are expensive; since 1 - x <= exp(-x), most servers lose without one.
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
