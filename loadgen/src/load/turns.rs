//! Who may send when: the schedule of an open loop, handed out to the sessions of one thread.
//!
//! [`keep`] notices arrivals when they are due; a session that is idle takes one at once, and what
//! finds none idle waits, in order, for the first that has its answer. Invariant: what waits is not
//! stored but is the distance between two readers of the same schedule, so that a backlog of any
//! length costs nothing. In a closed loop every session has its turn whenever it asks.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::lane::Lane;
use crate::clock::{Timer, nanos};
use crate::schedule::Schedule;

/// How often the schedule looks whether the run was ended from outside.
const LOOK: Duration = Duration::from_millis(20);

/// Permission to send once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// When the schedule wanted it, in nanoseconds since the beginning; closed loops have none.
    pub(crate) intended: Option<u64>,
    /// When it was taken: just before sending.
    pub(crate) sent: Instant,
}

/// The turns of one thread.
#[derive(Debug)]
pub(super) struct Turns {
    /// The arrivals that nobody has taken yet; `None` in a closed loop.
    untaken: Option<RefCell<Schedule>>,
    /// How many of them are due.
    due: Cell<u64>,
    idle: RefCell<VecDeque<Waker>>,
}

impl Turns {
    /// Of a thread with this schedule.
    pub(super) fn new(schedule: Option<Schedule>) -> Self {
        let untaken = schedule.map(RefCell::new);
        Self { untaken, due: Cell::new(0), idle: RefCell::default() }
    }

    /// The next turn's intended time, `None` inside in a closed loop; pending while nothing is due.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.untaken.is_none() {
            return Poll::Ready(None);
        }
        match self.take() {
            Some(intended) => Poll::Ready(Some(intended)),
            None => {
                self.idle.borrow_mut().push_back(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes the oldest arrival that is due.
    fn take(&self) -> Option<u64> {
        let due = self.due.get().checked_sub(1)?;
        let intended = self.untaken.as_ref()?.borrow_mut().next()?;
        self.due.set(due);
        Some(intended)
    }

    /// One more is due. The session that has been idle the longest takes it.
    pub(super) fn add(&self) {
        self.due.set(self.due.get() + 1);
        let idle = self.idle.borrow_mut().pop_front();
        if let Some(waker) = idle {
            waker.wake();
        }
    }

    /// Lets all idle sessions see that the run ends.
    pub(super) fn wake_all(&self) {
        let idle = self.idle.take();
        idle.into_iter().for_each(Waker::wake);
    }

    /// Takes everything that is due and was not sent.
    pub(super) fn drain(&self) -> impl Iterator<Item = u64> {
        std::iter::from_fn(|| self.take())
    }
}

/// Notices what the schedule has due, from the beginning of the run to its end, and calls
/// `arrived` with the moment when it did.
pub(super) async fn keep(
    lane: &Lane,
    timer: Timer,
    schedule: impl Iterator<Item = u64>,
    mut arrived: impl FnMut(Instant),
) -> io::Result<()> {
    let begin = lane.begin();
    let end = lane.plan.for_.map(|for_| u64::try_from(for_.as_nanos()).unwrap_or(u64::MAX));
    let due = |at: &u64| end.is_none_or(|end| *at < end);
    for at in schedule.take_while(due) {
        let moment = begin + Duration::from_nanos(at);
        let mut now = Instant::now();
        while now < moment {
            timer.until(moment.min(now + LOOK)).await?;
            if lane.end().is_some_and(|end| end <= moment) {
                return Ok(());
            }
            now = Instant::now();
        }
        lane.note(|report| report.account.kept.came_due(nanos(moment, now)));
        arrived(now);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrivals, Open};

    fn poll(turns: &Turns) -> Poll<Option<u64>> {
        turns.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn arrivals_are_taken_in_order_and_not_before_they_are_due() {
        let open = Open { rate: 1000.0, arrivals: Arrivals::Constant, seed: 0 };
        let turns = Turns::new(Some(Schedule::new(open, 0, 1)));
        assert_eq!(poll(&turns), Poll::Pending);
        (0..3).for_each(|_| turns.add());
        assert_eq!(poll(&turns), Poll::Ready(Some(0)));
        assert_eq!(turns.drain().collect::<Vec<_>>(), [1_000_000, 2_000_000]);
        assert_eq!(poll(&turns), Poll::Pending);
    }

    #[test]
    fn a_closed_loop_has_a_turn_at_any_time() {
        assert_eq!(poll(&Turns::new(None)), Poll::Ready(None));
    }
}
