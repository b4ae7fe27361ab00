//! Two random choices by weight, the less loaded of both (Mitzenmacher 2001).
//!
//! Nearly as even as least connections, without its herd effect when many shards or balancers read
//! the same gauges at once. If both are equally loaded the first draw is taken, so that idle
//! servers share by weight. With many servers a draw is uniform and accepted in proportion to the
//! weight, so that two servers are examined instead of all.

use super::Candidate;
use crate::prng::Prng;

/// Uniform draws per choice; after that, all servers are examined.
const TRIES: usize = 16;

/// Up to this number of servers, examining all of them costs no more.
const FEW: usize = 8;

/// The largest weight seen; 0 before all servers were examined once.
#[derive(Debug, Default)]
pub(super) struct RandomTwo {
    heaviest: u32,
}

impl RandomTwo {
    /// `look` returns the candidate at an index, if it is one.
    pub(super) fn shortcut(
        &mut self,
        servers: usize,
        prng: &mut Prng,
        look: impl Fn(usize) -> Option<Candidate>,
    ) -> Option<usize> {
        if servers <= FEW || self.heaviest == 0 {
            return None;
        }
        let mut drawn: Option<Candidate> = None;
        for _ in 0..2 * TRIES {
            let Some(candidate) = look(prng.below(servers as u64) as usize) else { continue };
            self.heaviest = self.heaviest.max(candidate.weight);
            if prng.below(self.heaviest.into()) >= candidate.weight.into() {
                continue;
            }
            match drawn {
                None => drawn = Some(candidate),
                Some(first) if first.index == candidate.index => {}
                Some(first) => return Some(less_loaded(&first, &candidate).index as usize),
            }
        }
        None
    }

    pub(super) fn pick(&mut self, candidates: &[Candidate], prng: &mut Prng) -> Option<Candidate> {
        self.heaviest = candidates.iter().map(|candidate| candidate.weight).max()?;
        let first = draw(candidates, prng, None)?;
        match draw(candidates, prng, Some(first.index)) {
            Some(second) => Some(*less_loaded(first, second)),
            None => Some(*first),
        }
    }
}

fn less_loaded<'a>(first: &'a Candidate, second: &'a Candidate) -> &'a Candidate {
    if second.is_less_loaded_than(first) { second } else { first }
}

/// One draw by weight among all but `except`.
fn draw<'a>(
    candidates: &'a [Candidate],
    prng: &mut Prng,
    except: Option<u32>,
) -> Option<&'a Candidate> {
    let drawable = || candidates.iter().filter(|candidate| Some(candidate.index) != except);
    let total: u64 = drawable().map(|candidate| u64::from(candidate.weight)).sum();
    if total == 0 {
        return None;
    }
    let mut point = prng.below(total);
    for candidate in drawable() {
        let weight = u64::from(candidate.weight);
        if point < weight {
            return Some(candidate);
        }
        point -= weight;
    }
    None
}
