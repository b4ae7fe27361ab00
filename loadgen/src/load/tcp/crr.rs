//! Short connections: connect, one round trip, close; so many at once.

use std::cell::Cell;
use std::rc::Rc;

use super::rr;
use crate::failure::Failure;
use crate::load::kept::{Exchanged, PAUSE};
use crate::load::lane::Lane;

/// Starts this thread's share of the connectors.
pub(in crate::load) fn start(lane: &Rc<Lane>, count: Option<u64>, size: usize) {
    let left = Rc::new(Cell::new(count.map_or(u64::MAX, |count| lane.share(count))));
    for _ in 0..lane.share(lane.plan.sessions as u64) {
        lane.spawn(connector(Rc::clone(lane), Rc::clone(&left), size));
    }
}

/// One connection after the other until none is left to make.
async fn connector(lane: Rc<Lane>, left: Rc<Cell<u64>>, size: usize) {
    let mut buffer = vec![b'c'; size].into_boxed_slice();
    while left.get() > 0 {
        left.set(left.get() - 1);
        let Some(turn) = lane.turn().await else {
            left.set(left.get() + 1);
            break;
        };
        let answered = match lane.connect().await {
            Ok(mut session) => rr::round_trip(&mut session, buffer).await,
            Err(error) => {
                lane.failed("connecting to", &error);
                monoio::time::sleep(PAUSE).await;
                buffer = vec![b'c'; size].into_boxed_slice();
                continue;
            }
        };
        match answered {
            Ok(returned) => buffer = returned,
            Err(error) => {
                lane.failed("in a round trip with", &error);
                buffer = vec![b'c'; size].into_boxed_slice();
                continue;
            }
        }
        let size = size as u64;
        lane.answered(turn, Exchanged { operations: 1, sent: size, received: size });
    }
    if lane.plan.for_.is_none() && !lane.is_interrupted() {
        let never_made = left.replace(0);
        lane.note(|report| {
            let words = || "connections were never made: no time left".to_owned();
            report.failed(Failure::Unfinished, never_made, words);
        });
    }
}
