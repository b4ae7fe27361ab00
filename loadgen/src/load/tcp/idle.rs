//! Idle sessions: one byte there and back proves that a session is open, silence follows, and one
//! more byte at the end proves that it still is.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::rr;
use crate::load::kept::Exchanged;
use crate::load::lane::{Lane, Session};
use crate::load::turns::Turn;

/// How often a session looks whether the silence is over.
const LOOK: Duration = Duration::from_millis(50);

/// The life of one session.
pub(in crate::load) async fn session(lane: Rc<Lane>, mut session: Session) {
    for moment in ["opening a session with", "after silence, in a session with"] {
        let turn = Turn { intended: None, sent: Instant::now() };
        if let Err(error) = rr::round_trip(&mut session, Box::new([b'i'])).await {
            return lane.failed(moment, &error);
        }
        lane.answered(turn, Exchanged { operations: 1, sent: 1, received: 1 });
        while !lane.is_stopping() {
            monoio::time::sleep(LOOK).await;
        }
    }
}
