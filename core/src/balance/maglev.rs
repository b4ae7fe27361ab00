//! Maglev hashing: a table from hashes to servers, even and nearly stable when servers change.
//!
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4: every server walks through the table in its own order and takes free places in
//! turn; with weights, a server's turns come in proportion to its weight. The table is built once,
//! for the configured servers and weights. Eligibility is checked at each pick: a key whose server
//! is not eligible is hashed again, so only the keys of that server move, evenly, and they return
//! to it later. Invariant: the table depends on names and weights of servers, not on their order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::{Member, below, mix};

/// Places in the table, which must be prime: the two sizes of the paper's section 5.3. Only two,
/// because nearly every key moves when the size changes.
const SIZES: [usize; 2] = [65_537, 655_373];

/// Above this number of servers the larger table is used: with 100 places per server, shares are
/// even to about 1 %. Above 6,553 servers shares become less even, and above 655,373 some servers
/// would get nothing.
const SERVERS_PER_SMALL_TABLE: usize = 655;

/// Places examined for one key. With half of all servers down, one key in 65,536 finds none.
const LOOKS: u64 = 16;

/// The lookup table.
#[derive(Clone, Debug)]
pub(super) struct Maglev {
    places: Arc<[u32]>,
}

impl Maglev {
    /// The table of the servers that are not backups.
    pub(super) fn new(members: &[Member]) -> Self {
        let mut takers: Vec<(usize, &Member)> = members
            .iter()
            .enumerate()
            .filter(|(_, member)| !member.backup && member.weight > 0)
            .collect();
        takers.sort_by_key(|(_, member)| member.identity);
        let size = SIZES[usize::from(takers.len() > SERVERS_PER_SMALL_TABLE)];
        let taker = |&(_, member): &(usize, &Member)| Taker {
            offset: below(mix(member.identity), size),
            skip: 1 + below(mix(!member.identity), size - 1),
            weight: member.weight,
        };
        let ranks = fill(size, &takers.iter().map(taker).collect::<Vec<_>>());
        Self { places: ranks.into_iter().map(|rank| takers[rank as usize].0 as u32).collect() }
    }

    /// The first server in the sequence of `key` that `accepts` accepts.
    pub(super) fn walk(&self, key: u64, mut accepts: impl FnMut(usize) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let place = |look: u64| below(mix(key.wrapping_add(look)), self.places.len());
        (0..LOOKS).map(|look| self.places[place(look)] as usize).find(|&index| accepts(index))
    }
}

/// A server's order of walking through the table, and its weight.
struct Taker {
    offset: usize,
    skip: usize,
    weight: u32,
}

/// The index of the taker of each of `size` places; empty without takers. `size` must be prime.
fn fill(size: usize, takers: &[Taker]) -> Vec<u32> {
    let mut places = vec![u32::MAX; if takers.is_empty() { 0 } else { size }];
    let mut next: Vec<usize> = takers.iter().map(|taker| taker.offset).collect();
    // When each taker has its n-th turn: at n over weight.
    let due = |turn: u64, taker: &Taker| (turn << 32) / u64::from(taker.weight);
    let mut turns: BinaryHeap<_> =
        takers.iter().enumerate().map(|(rank, taker)| Reverse((due(1, taker), rank, 1))).collect();
    for _ in 0..places.len() {
        let Some(Reverse((_, rank, turn))) = turns.pop() else { break };
        let place = &mut next[rank];
        while places[*place] != u32::MAX {
            *place = (*place + takers[rank].skip) % size;
        }
        places[*place] = rank as u32;
        turns.push(Reverse((due(turn + 1, &takers[rank]), rank, turn + 1)));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the paper: table 1, with offset and skip of each server.
    #[test]
    fn fills_the_table_of_the_paper() {
        let taker = |(offset, skip)| Taker { offset, skip, weight: 1 };
        let before = fill(7, &[(3, 4), (0, 2), (3, 1)].map(taker));
        assert_eq!(before, [1, 0, 1, 0, 2, 2, 0]);
        let after = fill(7, &[(3, 4), (3, 1)].map(taker));
        assert_eq!(after, [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn sizes_are_prime() {
        for size in SIZES {
            assert!((2..).take_while(|d| d * d <= size).all(|d| size % d != 0), "{size}");
        }
    }
}
