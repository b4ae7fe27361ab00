//! Waiting for a server with room: first come, first served, within priorities.
//!
//! A session waits only if its backend lets it and no server can take it: all are full, or none
//! that it may go to is there. Which session is next over all shards is in `ringlane_core::shared`;
//! the sessions of this shard are here. Invariants: a session that comes while others wait goes
//! behind them; a session that waits gives its place in the queue back however it ends; the first
//! of a queue looks by itself every [`PATIENCE`], since a call may be lost and a server may have
//! come up.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::ids::Tag;
use ringlane_core::machine::reactor::{Signal, first};
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::{Queue, Ticket};

use crate::choose::take;
use crate::generation::Generation;
use crate::seat::Seat;
use crate::shard::Shard;
use crate::trail::{Seeker, Trail, micros};
use crate::wait_queues::{Lines, Number, Waiters};
use crate::waiting::Waiting;

/// How long the first of a queue sleeps before it looks again uncalled.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a session whose time is over waits for events that came while this process did not run.
const LAST_TURN: Duration = Duration::from_millis(10);

/// Why a session got no seat.
pub(crate) enum Unseated {
    /// It ends.
    Ended(Close),
    /// Another configuration is served, in which it goes on; with its place, if it waits.
    Reconfigured(Option<Box<WaitPlace>>),
}

impl From<Close> for Unseated {
    fn from(close: Close) -> Self {
        Self::Ended(close)
    }
}

/// A session's place in a queue, given back on drop. It is the same in any configuration that has
/// the backend.
pub(crate) struct WaitPlace {
    shard: Rc<Shard>,
    queue: Arc<Queue>,
    lines: Rc<Lines>,
    backend: Tag,
    role: RoleWanted,
    number: Number,
    since: Instant,
    signal: Rc<Signal>,
}

impl WaitPlace {
    /// The place behind all others of its priority; `None` when too many wait.
    fn take(seeker: &Seeker<'_>, queue: &Arc<Queue>) -> Option<Self> {
        if !queue.try_enter() {
            return None;
        }
        let Seeker { generation, backend, role, .. } = *seeker;
        let shard = &generation.shard;
        let ticket = Ticket::new(seeker.priority, generation.now_ms(), shard.reactor.shard());
        let place = Self {
            shard: Rc::clone(shard),
            queue: Arc::clone(queue),
            lines: Rc::clone(generation.lines(backend)),
            backend: generation.gauges().backend_tag(backend),
            role,
            number: (ticket, shard.wait_queues.next_arrival()),
            since: generation.now(),
            signal: Rc::new(Signal::new(&shard.reactor)),
        };
        place.waiting().borrow_mut().insert(place.number, Rc::clone(&place.signal));
        place.publish();
        Some(place)
    }

    fn waiting(&self) -> &RefCell<Waiters> {
        self.lines.of(self.role)
    }

    /// Publishes the ticket of the session that is first here now.
    fn publish(&self) {
        let first = self.waiting().borrow().keys().next().map(|(ticket, _)| *ticket);
        self.queue.publish(self.role, self.shard.reactor.shard(), first);
    }

    /// Whether it is the first on this shard.
    fn is_first_here(&self) -> bool {
        self.waiting().borrow().keys().next() == Some(&self.number)
    }

    /// Whether it is the first on all shards.
    fn is_next(&self) -> bool {
        self.is_first_here() && self.queue.is_turn_of(self.role, self.number.0)
    }
}

impl Drop for WaitPlace {
    fn drop(&mut self) {
        self.waiting().borrow_mut().remove(&self.number);
        self.publish();
        self.queue.leave();
        // The session that is first now must be woken, and there may be room for more than one.
        self.lines.call(self.role);
        self.shard.call_next(self.backend, &self.queue);
    }
}

/// Counts the time that a session waits, however that ends.
struct WaitTime<'a> {
    generation: &'a Generation,
    trail: &'a Trail,
    since: Instant,
}

impl Drop for WaitTime<'_> {
    fn drop(&mut self) {
        let waited = micros(self.generation.now().saturating_duration_since(self.since));
        self.trail.waited(waited);
        self.generation.shard.counters.queue_wait.record(waited);
    }
}

/// Takes a place at a server for a session that has tried none, waiting for it if need be; `place`
/// is the one that it has in the queue already.
pub(crate) async fn occupy(
    seeker: &Seeker<'_>,
    waiting: &Waiting<'_, '_>,
    place: Option<Box<WaitPlace>>,
) -> Result<Seat, Unseated> {
    let Some(queue) = seeker.generation.gauges().shared_queue(seeker.backend) else {
        return take(seeker, &[]).ok_or_else(|| {
            seeker.trail.because(Reason::NoServer);
            Close::connect(Cause::Server).into()
        });
    };
    let place = place.filter(|place| Arc::ptr_eq(&place.queue, queue));
    if place.is_none()
        && queue.waiting() == 0
        && let Some(seat) = take(seeker, &[])
    {
        return Ok(seat);
    }
    waiting.watch();
    // Boxed, as most sessions never wait.
    Box::pin(wait(seeker, queue, place)).await
}

/// Waits for a place at a server.
async fn wait(
    seeker: &Seeker<'_>,
    queue: &Arc<Queue>,
    place: Option<Box<WaitPlace>>,
) -> Result<Seat, Unseated> {
    let Seeker { generation, backend, trail, .. } = *seeker;
    let counters = generation.counters().queue(backend);
    let place = match place {
        Some(place) => place,
        None => {
            let Some(place) = WaitPlace::take(seeker, queue).map(Box::new) else {
                counters.refused.add(1);
                trail.because(Reason::QueueFull);
                return Err(Close::queue(Cause::Refused).into());
            };
            counters.waited.add(1);
            place
        }
    };
    trail.enter(Phase::Queue);
    let _time = WaitTime { generation, trail, since: generation.now() };
    let settings = generation.backend(backend).queue;
    let timeout = settings.and_then(|queue| queue.timeout).unwrap_or(seeker.timeout);
    let until = place.since + timeout;
    let mut looked = false;
    loop {
        if place.is_next()
            && let Some(seat) = take(seeker, &[])
        {
            return Ok(seat);
        }
        let now = generation.now();
        if now >= until && !std::mem::replace(&mut looked, true) {
            // This process may not have been running: what came meanwhile may free a place.
            generation.reactor().sleep(LAST_TURN).await;
            continue;
        }
        if now >= until {
            counters.expired.add(1);
            trail.because(Reason::NoServer);
            return Err(Close::queue(Cause::ServerTimeout).into());
        }
        if generation.successor(seeker.frontend, backend).is_some() {
            return Err(Unseated::Reconfigured(Some(place)));
        }
        let wake = if place.is_first_here() { until.min(now + PATIENCE) } else { until };
        let _ = first(place.signal.wait(), generation.reactor().sleep_until(wake)).await;
    }
}
