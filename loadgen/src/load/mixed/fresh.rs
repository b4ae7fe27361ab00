//! New connections: connect, one message there and back, close; each begins when it is due.
//!
//! A connection that is refused, reset, closed without an answer, too slow, or answered with wrong
//! bytes is counted by kind. None is tried again.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::Mixture;
use super::held::SessionMessages;
use crate::content::Content;
use crate::failure::{Failure, corrupt};
use crate::gaps::Longest;
use crate::load::lane::Lane;
use crate::load::tcp::rr;

/// Connections of one thread that may be under way. More are counted as held back.
pub(super) const UNDER_WAY_MOST: usize = 1000;

/// What the connections of a thread share.
#[derive(Debug)]
pub(super) struct Fresh {
    lane: Rc<Lane>,
    mixture: Mixture,
    content: Content,
    begun: Cell<u64>,
    under_way: Cell<usize>,
}

impl Fresh {
    /// For the connections of a thread.
    pub(super) fn new(lane: &Rc<Lane>, mixture: &Mixture, content: Content) -> Self {
        let (begun, under_way) = (Cell::new(0), Cell::new(0));
        Self { lane: Rc::clone(lane), mixture: mixture.clone(), content, begun, under_way }
    }

    /// One more is due.
    pub(super) fn begin(self: &Rc<Self>, due: Instant) {
        let is_full = self.under_way.get() >= UNDER_WAY_MOST;
        self.lane.find(|found| {
            found.connections.due += 1;
            found.connections.held_back += u64::from(is_full);
        });
        if is_full {
            return;
        }
        self.under_way.set(self.under_way.get() + 1);
        let nth = self.begun.replace(self.begun.get() + 1);
        let own = Rc::clone(self);
        self.lane.spawn(async move {
            own.connection(nth, due).await;
            own.under_way.set(own.under_way.get() - 1);
        });
    }

    async fn connection(&self, nth: u64, due: Instant) {
        let timeout = self.mixture.timeout;
        let result = monoio::time::timeout(timeout, self.round_trip(nth)).await;
        let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (lane, now) = (&self.lane, Instant::now());
        let mut wait = Longest::default();
        super::waited(lane, &mut wait, due, now, |event, wait| {
            lane.find(|found| {
                let around = found.around(event);
                around.wait = wait.max(around.wait);
                around.failed += u64::from(result.is_err());
            });
        });
        let size = self.mixture.size as u64;
        match result {
            Ok(()) => {
                lane.find(|found| found.connections.answered += 1);
                lane.note(|report| {
                    report.requests += 1;
                    report.operations += 1;
                    report.sent += size;
                    report.received += size;
                });
            }
            Err(error) => {
                lane.failed("in a new connection to", &error);
                let failure =
                    if lane.is_cut_off() { Failure::Unfinished } else { Failure::of(&error) };
                lane.find(|found| *found.connections.failed.entry(failure).or_default() += 1);
            }
        }
        lane.find(|found| found.connections.waits.add(&wait));
    }

    async fn round_trip(&self, nth: u64) -> io::Result<()> {
        let mut session = self.lane.connect().await?;
        let number = session.number();
        let Mixture { size, .. } = self.mixture;
        let messages = SessionMessages { content: self.content.clone(), session: number, size };
        let message = messages.write(nth).into_boxed_slice();
        let answer = rr::round_trip(&mut session, message.clone()).await?;
        if answer == message { Ok(()) } else { Err(corrupt("wrong bytes in a new connection")) }
    }
}
