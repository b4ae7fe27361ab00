//! Two draws by weight, the less loaded of both (Mitzenmacher 2001).
//!
//! Nearly as even as least connections, and free of its herd effect when many shards or balancers
//! look at the same gauges at once.

use super::Candidate;
use crate::prng::Prng;

pub(super) fn pick(servers: &[Candidate], prng: &mut Prng) -> Option<usize> {
    let first = draw(servers, prng, None)?;
    let Some(second) = draw(servers, prng, Some(first)) else { return Some(first) };
    Some(if servers[second].is_less_loaded_than(&servers[first]) { second } else { first })
}

/// One draw by weight among all but `except`.
fn draw(servers: &[Candidate], prng: &mut Prng, except: Option<usize>) -> Option<usize> {
    let drawable =
        || servers.iter().enumerate().filter(|(i, s)| s.takes_sessions() && Some(*i) != except);
    let total: u64 = drawable().map(|(_, server)| u64::from(server.weight)).sum();
    if total == 0 {
        return None;
    }
    let mut point = prng.below(total);
    for (index, server) in drawable() {
        let weight = u64::from(server.weight);
        if point < weight {
            return Some(index);
        }
        point -= weight;
    }
    None
}
