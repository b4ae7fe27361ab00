//! On which shard a session lives: on the one that accepted it, unless another has clearly fewer.
//!
//! The kernel spreads connections over shards by hash, which is fair for many short ones and unfair
//! for few long ones. So right after accept, before any byte is read, a shard that has clearly more
//! sessions than another hands the connection over. Invariant: a session is counted on exactly one
//! shard.

use std::rc::Rc;

use ringlane_core::machine::sys::Socket;

use crate::generation::Generation;
use crate::mailbox::{Arrival, Message};
use crate::session::Session;

/// Sessions that a shard may have more than another before it hands new ones over, besides one
/// thirty-second of what the other has.
const HANDOVER_MARGIN: u32 = 3;

/// Shards that are compared at each accept; with more, a different part each time.
const SHARDS_COMPARED: usize = 8;

/// Begins to carry an accepted session, in a task of its own.
pub type Carrier = Box<dyn Fn(Session, Socket)>;

/// Begins a session on this shard, which counts it already.
pub(crate) fn begin(generation: &Rc<Generation>, carrier: &Carrier, arrival: Arrival) {
    let session = Session::open(Rc::clone(generation), &arrival);
    carrier(session, arrival.connection);
}

/// Begins the session on a shard that has clearly fewer, or else here.
pub(crate) fn place(generation: &Rc<Generation>, carrier: &Carrier, arrival: Arrival) {
    let own = generation.reactor().shard();
    let other = least_loaded(generation, own);
    let kept = if other == own { Some(arrival) } else { hand_over(generation, other, arrival) };
    if let Some(arrival) = kept {
        generation.gauges().common.enter_shard(own);
        begin(generation, carrier, arrival);
    }
}

/// Hands a connection to another shard; gives it back if that shard can't take it.
fn hand_over(generation: &Generation, other: usize, arrival: Arrival) -> Option<Arrival> {
    if !generation.gauges().common.try_hand_over(other) {
        return Some(arrival);
    }
    let Err(refused) = generation.shard.mailboxes[other].post(Message::Adopt(arrival)) else {
        generation.shard.counters.handed_over.add(1);
        return None;
    };
    generation.gauges().common.leave_shard(other);
    match refused {
        Message::Adopt(arrival) => Some(arrival),
        _ => None,
    }
}

/// The shard for a new session among some: `own` unless another has clearly fewer.
fn least_loaded(generation: &Generation, own: usize) -> usize {
    let shards = generation.shard.mailboxes.len();
    let start = if shards > SHARDS_COMPARED { generation.shard.random_below(shards) } else { 0 };
    let compared = (0..shards.min(SHARDS_COMPARED)).map(|n| (start + n) % shards);
    let loads = compared.map(|index| (index, generation.gauges().common.load(index)));
    let Some((other, load)) = loads.min_by_key(|(_, load)| *load) else { return own };
    if is_clearly_more(generation.gauges().common.load(own), load) { other } else { own }
}

fn is_clearly_more(own: u32, other: u32) -> bool {
    own > other.saturating_add(HANDOVER_MARGIN).saturating_add(other / 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_difference_moves_a_session() {
        assert!(!is_clearly_more(0, 0));
        assert!(!is_clearly_more(3, 0));
        assert!(is_clearly_more(4, 0));
        assert!(!is_clearly_more(1030, 1000));
        assert!(is_clearly_more(1040, 1000));
        assert!(!is_clearly_more(0, u32::MAX));
    }
}
