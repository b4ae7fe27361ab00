//! By hash of the client's address: the same client meets the same server.
//!
//! Weighted rendezvous hashing (Thaler, Ravishankar 1998; weights after Schindelhauer, Schomaker
//! 2005): every server draws a score from the key, the highest wins. When a server leaves, only its
//! own clients move; when it comes back, just those return.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Candidate;

pub(super) fn pick(servers: &[Candidate], key: u64) -> Option<usize> {
    let score = |server: &Candidate| {
        let hash = xxh3_64_with_seed(&key.to_le_bytes(), server.identity);
        // 53 bits are what a double holds; never 0, whose logarithm is not a number.
        let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(server.weight) / uniform.ln()
    };
    let takers = servers.iter().enumerate().filter(|(_, server)| server.takes_sessions());
    let scores = takers.map(|(index, server)| (index, score(server)));
    scores.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
}
