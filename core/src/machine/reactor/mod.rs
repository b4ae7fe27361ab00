//! A shard's loop: run the tasks that are ready, visit the kernel, wake who got something.
//!
//! Single-threaded: tasks are boxed futures in a slab, a wake is a push onto a queue, and every
//! future that waits here is Ringlane's own. The `Waker` in a task's `Context` does nothing: an
//! operation, timer or signal remembers the *task* that polled it. So only futures of this crate
//! (and compositions of them that poll on the same task) may be awaited on a shard.
//!
//! Invariants: the clock is read once per turn; a task is in the queue at most once; a turn ends
//! after a bounded number of tasks; when `run` returns, every task has been dropped. Read `stream`
//! and `listener` for what can be awaited, `sys::driver` for what is under it.

mod first;
mod listener;
mod retry;
mod stream;
mod timer;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use first::{First, first};
pub use listener::Listener;
pub use retry::Retry;
pub use stream::{Receiver, Sender, Stream};
pub use timer::{Elapsed, Signal, Sleep};

use crate::limits::{SILENCE, TASKS_PER_TURN, VISITS_BEFORE_TIMERS};
use crate::machine::slab::{Key, Slab};
use crate::machine::sys::sim::Place;
use crate::machine::sys::{
    Brief, Driver, DriverKind, Label, Look, Outcome, Owner, Pipe, Rooms, SetupError, Wait,
};
use crate::machine::wheel::Wheel;
use crate::machine::{Counter, Doorbell};

/// The handle to a shard's loop. Cloning it is cheap; it can't leave its thread.
#[derive(Clone)]
pub struct Reactor(Rc<Inner>);

struct Inner {
    driver: RefCell<Driver>,
    tasks: RefCell<Slab<Task>>,
    /// Where futures are that end soon.
    rooms: Rc<Rooms>,
    ready: RefCell<VecDeque<Key>>,
    /// The task that is being polled.
    current: Cell<Key>,
    /// The part of it that is being polled.
    label: Cell<Label>,
    /// The parts of it that have news.
    news: Cell<Label>,
    wheel: RefCell<Wheel>,
    started: Instant,
    now: Cell<Instant>,
    bell: Arc<Doorbell>,
    index: usize,
    /// The task that waits for the bell.
    called: Cell<Key>,
    /// The task that ends the loop.
    main: Cell<Key>,
    counters: Arc<LoopCounters>,
}

/// What one loop counts; the loop is the only writer.
#[derive(Debug, Default)]
pub struct LoopCounters {
    /// Loop iterations.
    pub turns: Counter,
    /// Completions reaped from the kernel.
    pub completions: Counter,
    /// Completions whose operation was gone; dropped.
    pub completions_stale: Counter,
    /// Times that a receive found no buffer and had to wait.
    pub buffers_exhausted: Counter,
    /// Times that a socket was reported as ready and no byte could be moved.
    pub false_readiness: Counter,
}

/// What a loop that was stepped does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// It has more to do at once.
    Not,
    /// Nothing, until something comes from outside, or this time.
    Until(Option<Instant>),
    /// Its main task has ended.
    Ended,
}

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// Absent while it is being polled.
    future: Option<TaskFuture>,
    /// The parts that it was woken for; none: it is not in the queue.
    news: Label,
}

/// Any part of a task: what was started outside of [`Reactor::poll_part`].
const ALL_PARTS: Label = Label::MAX;

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reactor(shard {})", self.0.index)
    }
}

impl Reactor {
    /// A loop over a driver for the calling thread, as shard `index`; ringing `bell` wakes it.
    ///
    /// # Errors
    /// When the kernel refuses a ring; one sentence for the operator.
    pub fn new(
        driver: DriverKind,
        index: usize,
        bell: Arc<Doorbell>,
        counters: Arc<LoopCounters>,
    ) -> Result<Self, SetupError> {
        Ok(Self::over(Driver::new(driver)?, index, bell, counters))
    }

    /// A loop in a simulated world, to be stepped.
    ///
    /// # Errors
    /// When this machine has no memory for its buffers.
    pub fn simulated(
        place: Place,
        index: usize,
        bell: Arc<Doorbell>,
        counters: Arc<LoopCounters>,
    ) -> Result<Self, SetupError> {
        Ok(Self::over(Driver::simulated(place)?, index, bell, counters))
    }

    fn over(
        driver: Driver,
        index: usize,
        bell: Arc<Doorbell>,
        counters: Arc<LoopCounters>,
    ) -> Self {
        let now = driver.now();
        Self(Rc::new(Inner {
            driver: RefCell::new(driver),
            tasks: RefCell::new(Slab::new()),
            rooms: Rc::default(),
            ready: RefCell::new(VecDeque::new()),
            current: Cell::new(Key::NOBODY),
            label: Cell::new(ALL_PARTS),
            news: Cell::new(0),
            wheel: RefCell::new(Wheel::new()),
            started: now,
            now: Cell::new(now),
            bell,
            index,
            called: Cell::new(Key::NOBODY),
            main: Cell::new(Key::NOBODY),
            counters,
        }))
    }

    /// Runs `main` and everything that it spawns, until `main` ends. Tasks that are left then are
    /// dropped where they stand.
    ///
    /// # Errors
    /// When the kernel fails the ring itself, which no session can survive.
    pub fn run(&self, main: impl Future<Output = ()> + 'static) -> io::Result<()> {
        self.start(main)?;
        let outcome = loop {
            self.run_tasks();
            if self.has_ended() {
                break Ok(());
            }
            if let Err(error) = self.rest() {
                break Err(error);
            }
        };
        self.drop_tasks();
        outcome
    }

    /// Begins what [`Self::run`] does, for a loop that is stepped.
    ///
    /// # Errors
    /// When the kernel fails the ring itself.
    pub fn start(&self, main: impl Future<Output = ()> + 'static) -> io::Result<()> {
        self.0.driver.borrow_mut().watch_bell(self.0.bell.event_fd())?;
        self.0.main.set(self.spawn_task(main));
        Ok(())
    }

    /// One turn of a loop in a simulated world, which never sleeps: time is advanced by whoever
    /// steps it. After `Ended` every task has been dropped.
    ///
    /// # Errors
    /// When the kernel fails the ring itself.
    pub fn step(&self) -> io::Result<Rest> {
        self.visit_kernel(Wait::No)?;
        self.run_tasks();
        if self.has_ended() {
            self.drop_tasks();
            return Ok(Rest::Ended);
        }
        Ok(match self.wait() {
            Wait::No => Rest::Not,
            _ if self.0.driver.borrow().is_busy() => Rest::Not,
            Wait::Completion => Rest::Until(None),
            Wait::AtMost(time) => Rest::Until(Some(self.now() + time)),
        })
    }

    /// Visits the kernel once and runs nothing: what was dropped is given back by it.
    ///
    /// # Errors
    /// When the kernel fails the ring itself.
    pub fn settle(&self) -> io::Result<()> {
        self.visit_kernel(Wait::No)
    }

    /// Whether the bell was rung and no task has been told yet.
    pub fn is_rung(&self) -> bool {
        self.0.bell.is_rung()
    }

    /// Timers that are armed: zero when nothing leaks and nobody waits for a time.
    pub fn timers(&self) -> usize {
        self.0.wheel.borrow().len()
    }

    fn has_ended(&self) -> bool {
        self.0.tasks.borrow_mut().get_mut(self.0.main.get()).is_none()
    }

    fn drop_tasks(&self) {
        let keys = self.0.tasks.borrow().keys();
        for key in keys {
            // Dropped outside the borrow: a task's drop may wake others.
            let task = self.0.tasks.borrow_mut().remove(key);
            drop(task);
        }
    }

    /// Starts a task.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.spawn_task(future);
    }

    fn spawn_task(&self, future: impl Future<Output = ()> + 'static) -> Key {
        let task = Task { future: Some(Box::pin(future)), news: 0 };
        let key = self.0.tasks.borrow_mut().insert(task);
        self.wake(key);
        key
    }

    /// Boxes a future that ends soon, apart from what stays: see [`Brief`].
    pub fn brief<F: Future>(&self, future: F) -> Brief<F> {
        self.0.rooms.house(future)
    }

    /// The time at the beginning of this turn.
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// The time of day, microseconds since the Unix epoch.
    pub fn unix_micros(&self) -> u64 {
        self.0.driver.borrow().unix_micros()
    }

    /// An empty pipe.
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors ran out.
    pub fn pipe(&self) -> io::Result<Pipe> {
        self.0.driver.borrow().pipe()
    }

    /// Which shard this is.
    pub fn shard(&self) -> usize {
        self.0.index
    }

    /// What this loop counts.
    pub fn counters(&self) -> &LoopCounters {
        &self.0.counters
    }

    /// Resolves once the bell was rung, and silences it: what it was rung for is to be looked at
    /// afterwards. One task at a time may wait for it.
    pub async fn rung(&self) {
        std::future::poll_fn(|_| {
            self.0.called.set(self.0.current.get());
            if self.0.bell.silence() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Lets every other ready task run first.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            self.wake(self.0.current.get());
            Poll::Pending
        })
        .await;
    }

    /// Operations that the kernel has not finished, and buffers that hold received bytes: both are
    /// zero when nothing leaks and nothing is under way.
    pub fn lent(&self) -> (usize, usize) {
        let driver = self.0.driver.borrow();
        (driver.in_flight(), driver.buffers_lent())
    }

    /// Polls one part of the current task, if it has news: what it starts wakes the task for this
    /// part alone. `None` without news. A task has up to eight parts, one bit each.
    pub fn poll_part<T>(&self, part: u8, poll: impl FnOnce() -> T) -> Option<T> {
        if self.0.news.get() & part == 0 {
            return None;
        }
        let outer = self.0.label.replace(part);
        let polled = poll();
        self.0.label.set(outer);
        Some(polled)
    }

    /// Whether the current task was woken by something that belongs to no part.
    pub fn has_other_news(&self) -> bool {
        self.0.news.get() == ALL_PARTS
    }

    /// Wakes every task, for news that any of them may be meant by.
    pub fn wake_everyone(&self) {
        let keys = self.0.tasks.borrow().keys();
        keys.into_iter().for_each(|key| self.wake(key));
    }

    fn owner(&self) -> Owner {
        Owner { task: self.0.current.get(), label: self.0.label.get() }
    }

    fn wake(&self, key: Key) {
        self.wake_for(key, ALL_PARTS);
    }

    fn wake_for(&self, key: Key, news: Label) {
        let mut tasks = self.0.tasks.borrow_mut();
        let Some(task) = tasks.get_mut(key) else { return };
        if task.news == 0 {
            self.0.ready.borrow_mut().push_back(key);
        }
        task.news |= news;
    }

    /// Submits what the tasks started, sleeps if there is nothing to do, and wakes whoever got
    /// something: from the kernel, a timer, or the bell.
    ///
    /// What the kernel has when a timer falls due is delivered before the timer fires. After a
    /// pause of the whole process (a signal, a suspend, a machine that is moved) the visit that it
    /// interrupted brings nothing, while the clock says that everybody was silent.
    fn visit_kernel(&self, wait: Wait) -> io::Result<()> {
        let ask =
            |wait| self.0.driver.borrow_mut().turn(wait, |task, news| self.wake_for(task, news));
        let outcome = ask(wait);
        self.0.bell.unpark();
        let mut turn = outcome?;
        self.0.now.set(self.0.driver.borrow().now());
        let millis = self.millis_until(self.now());
        if self.0.wheel.borrow().next().is_some_and(|next| next <= millis) {
            for _ in 0..VISITS_BEFORE_TIMERS {
                let more = ask(Wait::No)?;
                turn.completions += more.completions;
                turn.rung |= more.rung;
                if more.completions == 0 {
                    break;
                }
            }
        }
        self.count(turn.completions);
        if turn.rung {
            self.0.bell.acknowledge();
            self.0.driver.borrow_mut().watch_bell(self.0.bell.event_fd())?;
        }
        if self.is_rung() {
            self.wake(self.0.called.get());
        }
        self.0.wheel.borrow_mut().expire(millis, |task| self.wake(task));
        Ok(())
    }

    /// Visits the kernel for as long as there is nothing to do. In silence after a burst it comes
    /// back once, to give back what the burst has left.
    fn rest(&self) -> io::Result<()> {
        let wait = self.wait();
        let is_long = match wait {
            Wait::No => false,
            Wait::Completion => true,
            Wait::AtMost(time) => time > SILENCE,
        };
        if !is_long || !self.0.driver.borrow().has_slack() {
            return self.visit_kernel(wait);
        }
        let (before, completions) = (self.now(), self.counters().completions.get());
        self.visit_kernel(Wait::AtMost(SILENCE))?;
        let was_silent = self.counters().completions.get() == completions;
        if was_silent && self.now().saturating_duration_since(before) >= SILENCE {
            self.0.driver.borrow().trim();
        }
        Ok(())
    }

    fn run_tasks(&self) {
        // What is woken meanwhile runs in the next turn, after the kernel has been asked for news.
        let ready = self.0.ready.borrow().len();
        for _ in 0..ready.min(TASKS_PER_TURN) {
            let Some(key) = self.0.ready.borrow_mut().pop_front() else { return };
            let Some((mut future, news)) = self.take_task(key) else { continue };
            self.0.current.set(key);
            self.0.news.set(news);
            let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            self.0.current.set(Key::NOBODY);
            if polled.is_pending() {
                if let Some(task) = self.0.tasks.borrow_mut().get_mut(key) {
                    task.future = Some(future);
                }
            } else {
                // The future is dropped before its slot goes, outside the borrow.
                drop(future);
                self.0.tasks.borrow_mut().remove(key);
            }
        }
    }

    fn take_task(&self, key: Key) -> Option<(TaskFuture, Label)> {
        let mut tasks = self.0.tasks.borrow_mut();
        let task = tasks.get_mut(key)?;
        let news = std::mem::take(&mut task.news);
        Some((task.future.take()?, news))
    }

    /// How long the kernel may keep us: not at all with tasks waiting, or when the bell was rung,
    /// else until a timer.
    fn wait(&self) -> Wait {
        if !self.0.ready.borrow().is_empty() || !self.0.bell.park() {
            return Wait::No;
        }
        match self.0.wheel.borrow().next() {
            None => Wait::Completion,
            Some(millis) => {
                let at = self.0.started + Duration::from_millis(millis);
                Wait::AtMost(at.saturating_duration_since(self.now()))
            }
        }
    }

    fn count(&self, completions: usize) {
        let counters = &self.0.counters;
        counters.turns.add(1);
        counters.completions.add(completions as u64);
        let stale = self.0.driver.borrow().stale();
        counters.completions_stale.add(stale - counters.completions_stale.get());
    }

    /// Whole milliseconds from the start to `instant`.
    fn millis_until(&self, instant: Instant) -> u64 {
        let millis = instant.saturating_duration_since(self.0.started).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

/// An operation that this task waits for. Dropping it cancels what is under way; what the kernel
/// was lent stays with the driver until the kernel is done.
struct Operation {
    reactor: Reactor,
    key: Key,
}

impl Operation {
    /// Starts an operation of the current task.
    fn start(
        reactor: &Reactor,
        start: impl FnOnce(&mut Driver, Owner) -> io::Result<Key>,
    ) -> io::Result<Self> {
        let key = start(&mut reactor.0.driver.borrow_mut(), reactor.owner())?;
        Ok(Self { reactor: reactor.clone(), key })
    }

    /// The next outcome; `None` when the operation has ended and nothing is left.
    fn poll(&self) -> Poll<Option<Outcome>> {
        self.reactor.0.driver.borrow_mut().look(self.key).into()
    }

    /// The outcome of an operation that has only one.
    async fn outcome(self) -> io::Result<Outcome> {
        match std::future::poll_fn(|_| self.poll()).await {
            Some(Outcome::Failed(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(outcome) => Ok(outcome),
            None => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
        }
    }

    /// Ends the operation; what has come back stays to be polled.
    fn stop(&self) {
        self.reactor.0.driver.borrow_mut().stop(self.key);
    }
}

impl From<Look> for Poll<Option<Outcome>> {
    fn from(look: Look) -> Self {
        match look {
            Look::Outcome(outcome) => Self::Ready(Some(outcome)),
            Look::Ended => Self::Ready(None),
            Look::Pending => Self::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.reactor.0.driver.borrow_mut().release(self.key);
    }
}

#[cfg(test)]
mod tests;
