//! Short connections: connect, one round trip, close; so many at once.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::lane::Lane;
use super::rr;
use crate::report::Failure;

/// What a connector waits after a failure, so that a server that is away is not hammered.
const PAUSE: Duration = Duration::from_millis(10);

/// Starts this thread's share of the connectors.
pub(super) fn start(lane: &Rc<Lane>, count: Option<u64>, size: usize) {
    let left = Rc::new(Cell::new(count.map_or(u64::MAX, |count| lane.share(count))));
    for _ in 0..lane.share(lane.plan.sessions as u64) {
        lane.spawn(connector(Rc::clone(lane), Rc::clone(&left), size));
    }
}

/// One connection after the other until none is left to make.
async fn connector(lane: Rc<Lane>, left: Rc<Cell<u64>>, size: usize) {
    let mut buffer = vec![b'c'; size].into_boxed_slice();
    while left.get() > 0 && !lane.is_stopping() {
        left.set(left.get() - 1);
        let begin = Instant::now();
        let answered = match lane.connect().await {
            Ok(mut session) => rr::round_trip(&mut session, buffer).await,
            Err(error) => {
                lane.failed("connecting to", &error);
                monoio::time::sleep(PAUSE).await;
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
        lane.note(|report| {
            report.completed(begin.elapsed());
            report.sent += size as u64;
            report.received += size as u64;
        });
    }
    if lane.plan.for_.is_none() {
        let never_made = left.replace(0);
        lane.note(|report| {
            let words = || "connections were never made: no time left".to_owned();
            report.failed(Failure::Unfinished, never_made, words);
        });
    }
}
