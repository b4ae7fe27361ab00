//! Waiting for a time, or for another task of the same shard.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{First, Reactor, first};
use crate::machine::slab::Key;

/// Resolves at its time. One timer is armed while it is polled; none is left when it is dropped.
#[derive(Debug)]
pub struct Sleep {
    reactor: Reactor,
    deadline: Instant,
    timer: Option<Key>,
}

/// The time was over first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Elapsed;

impl Reactor {
    /// Resolves at `deadline`, to the millisecond.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep { reactor: self.clone(), deadline, timer: None }
    }

    /// Resolves after `time`.
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(self.now() + time)
    }

    /// What `future` gives, unless `deadline` comes first.
    ///
    /// # Errors
    /// `Elapsed` when it did.
    pub async fn timeout_at<F: Future>(
        &self,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        match first(future, self.sleep_until(deadline)).await {
            First::Left(output) => Ok(output),
            First::Right(()) => Err(Elapsed),
        }
    }
}

impl Sleep {
    /// Moves the deadline.
    pub fn postpone(mut self: Pin<&mut Self>, deadline: Instant) {
        self.disarm();
        self.deadline = deadline;
    }

    /// When it resolves, or did.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    fn disarm(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.reactor.0.wheel.borrow_mut().disarm(timer);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if self.reactor.now() >= self.deadline {
            return Poll::Ready(());
        }
        // An armed timer has not fired: it does so only at the deadline. Nothing is looked up for
        // it here, since a session comes by with every byte.
        if self.timer.is_none() {
            // Rounded up: a timer must not fire before its time.
            let millis = self.reactor.millis_until(self.deadline) + 1;
            let inner = &self.reactor.0;
            let timer = inner.wheel.borrow_mut().arm(millis, inner.current.get());
            self.timer = Some(timer);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// Tells waiting tasks of one shard that something changed.
pub struct Signal {
    reactor: Reactor,
    raised: Cell<u64>,
    waiting: RefCell<Vec<Key>>,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal(raised {} times)", self.raised.get())
    }
}

impl Signal {
    /// A signal that nobody has raised.
    pub fn new(reactor: &Reactor) -> Self {
        Self { reactor: reactor.clone(), raised: Cell::new(0), waiting: RefCell::default() }
    }

    /// Wakes everyone who waits now.
    pub fn raise(&self) {
        self.raised.set(self.raised.get() + 1);
        for task in self.waiting.take() {
            self.reactor.wake(task);
        }
    }

    /// Resolves when the signal is raised after this call.
    pub fn wait(&self) -> impl Future<Output = ()> {
        let before = self.raised.get();
        std::future::poll_fn(move |_| {
            if self.raised.get() != before {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            let task = self.reactor.0.current.get();
            if !waiting.contains(&task) {
                waiting.push(task);
            }
            Poll::Pending
        })
    }
}
