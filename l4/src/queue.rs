//! Waiting for a server with room: first come, first served, within priorities.
//!
//! A session waits only if its backend lets it and no server can take it: all are full, or none that
//! it may go to is there. Whose turn it is among all shards is told by `ringlane_core::shared`; this
//! shard's own lines are here. Invariants: who comes while others wait goes behind them; who waits
//! gives its place back however it ends; the first of a line looks by itself every [`PATIENCE`],
//! since a call may be lost and a server may have come up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::machine::reactor::{Signal, first};
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::{LINES, Queue, Ticket};

use crate::connect::take;
use crate::session::Account;
use crate::shard::Shard;
use crate::waiting::Waiting;

/// How long the first of a line sleeps before it looks again uncalled.
const PATIENCE: Duration = Duration::from_millis(50);

/// The lines of one shard: those who wait, by ticket and order of arrival.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Vec<RefCell<BTreeMap<Number, Rc<Signal>>>>,
    arrivals: Cell<u64>,
}

/// A ticket, and what tells it from others of the same shard and millisecond.
type Number = (Ticket, u64);

impl Lines {
    /// Nobody waits for any of so many backends.
    pub(crate) fn new(backends: usize) -> Self {
        Self {
            lines: (0..backends * LINES).map(|_| RefCell::default()).collect(),
            arrivals: Cell::new(0),
        }
    }

    /// Calls the first of a line.
    pub(crate) fn call(&self, backend: BackendId, line: RoleWanted) {
        if let Some(signal) = self.of(backend, line).borrow().values().next() {
            signal.raise();
        }
    }

    fn of(&self, backend: BackendId, line: RoleWanted) -> &RefCell<BTreeMap<Number, Rc<Signal>>> {
        &self.lines[backend.0 as usize * LINES + line as usize]
    }
}

/// A session's place in a line, given back on drop.
struct Place<'a> {
    shard: &'a Shard,
    queue: &'a Queue,
    backend: BackendId,
    line: RoleWanted,
    number: Number,
    signal: Rc<Signal>,
}

impl<'a> Place<'a> {
    /// The place behind all others of its priority; `None` when too many wait.
    fn take(shard: &'a Shard, queue: &'a Queue, account: &Account) -> Option<Self> {
        if !queue.try_enter() {
            return None;
        }
        let (backend, line) = account.route();
        let now_ms = shard.gauges.millis(shard.reactor.now());
        let ticket = Ticket::new(account.frontend().priority, now_ms, shard.reactor.shard());
        let arrival = shard.lines.arrivals.get();
        shard.lines.arrivals.set(arrival + 1);
        let signal = Rc::new(Signal::new(&shard.reactor));
        let number = (ticket, arrival);
        shard.lines.of(backend, line).borrow_mut().insert(number, Rc::clone(&signal));
        let place = Self { shard, queue, backend, line, number, signal };
        place.publish();
        Some(place)
    }

    /// Says who is first here now.
    fn publish(&self) {
        let line = self.shard.lines.of(self.backend, self.line).borrow();
        let first = line.keys().next().map(|(ticket, _)| *ticket);
        self.queue.publish(self.line, self.shard.reactor.shard(), first);
    }

    /// Whether nobody is before it, on this shard and on others.
    fn is_first(&self) -> (bool, bool) {
        let line = self.shard.lines.of(self.backend, self.line).borrow();
        let here = line.keys().next() == Some(&self.number);
        (here, here && self.queue.is_turn_of(self.line, self.number.0))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shard.lines.of(self.backend, self.line).borrow_mut().remove(&self.number);
        self.publish();
        self.queue.leave();
        // Who is first now must know, and there may be room for more than one.
        self.shard.lines.call(self.backend, self.line);
        self.queue.call_next(self.backend, self.shard.reactor.mailboxes());
    }
}

/// Takes a place at a server for a session that has tried none, waiting for it if need be.
pub(crate) async fn occupy(
    account: &mut Account,
    waiting: &Waiting<'_, '_>,
) -> Result<ServerId, Close> {
    let shard = Rc::clone(&account.shard);
    let (backend, _) = account.route();
    let Some(queue) = shard.gauges.queue(backend) else {
        return take(account, &[]).ok_or_else(|| none_is_open(account));
    };
    if queue.waiting() == 0
        && let Some(id) = take(account, &[])
    {
        return Ok(id);
    }
    waiting.watch();
    // Boxed, as most sessions never wait.
    Box::pin(wait(&shard, queue, account)).await
}

/// No server takes the session, and it can't wait for one.
fn none_is_open(account: &mut Account) -> Close {
    account.because(Reason::NoServer);
    Close::connect(Cause::Server)
}

/// Waits for a place at a server.
async fn wait(shard: &Shard, queue: &Queue, account: &mut Account) -> Result<ServerId, Close> {
    let (backend, _) = account.route();
    let counters = shard.counters().queue(backend);
    let Some(place) = Place::take(shard, queue, account) else {
        counters.refused.add(1);
        account.because(Reason::QueueFull);
        return Err(Close::queue(Cause::Refused));
    };
    counters.waited.add(1);
    account.phase = Phase::Queue;
    account.begins_to_wait();
    let settings = shard.snapshot.backend(backend).queue;
    let timeout = settings
        .and_then(|queue| queue.timeout)
        .unwrap_or_else(|| account.frontend().timeout.connect);
    let until = shard.reactor.now() + timeout;
    loop {
        let (is_first_here, is_its_turn) = place.is_first();
        if is_its_turn && let Some(id) = take(account, &[]) {
            account.has_waited();
            return Ok(id);
        }
        let now = shard.reactor.now();
        if now >= until {
            counters.expired.add(1);
            account.because(Reason::NoServer);
            return Err(Close::queue(Cause::ServerTimeout));
        }
        let wake = if is_first_here { until.min(now + PATIENCE) } else { until };
        let _ = first(place.signal.wait(), shard.reactor.sleep_until(wake)).await;
    }
}
