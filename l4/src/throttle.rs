//! The bandwidth limit of a session: charged with bytes that came, it delays the next receive.
//!
//! Each direction has its own pace, of the session and of its backend on all shards together. What
//! has been received is passed on at once; it is the next receive that waits, so that the source is
//! slowed down by its own window. Invariant: over any time no more comes than the rate allows, plus
//! a burst (`Pace::of_bytes`) and what a receive had brought in before.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringlane_core::ids::BackendId;
use ringlane_core::limits::{BUFFER_SIZE, PIPE_SIZE};
use ringlane_core::machine::reactor::Sleep;
use ringlane_core::shared::Pace;
use ringlane_shard::Generation;

use crate::side::Side;

/// A limited direction is spliced in parts that take this part of a second.
const FILLS_PER_SECOND: u64 = 100;

/// The paces of a session's two directions.
#[derive(Debug)]
pub(crate) struct Throttle {
    session: Option<[Pace; 2]>,
    backend: BackendId,
    /// Until when each direction waits.
    pauses: [RefCell<Sleep>; 2],
    /// Bytes to be spliced at once.
    fill: usize,
}

impl Throttle {
    /// The limits of a backend's new session, if it has any.
    pub(crate) fn new(generation: &Generation, backend: BackendId) -> Option<Self> {
        let limits = generation.backend(backend).bandwidth;
        let slowest = limits.per_session.into_iter().chain(limits.per_backend).min()?;
        let fill = usize::try_from(slowest / FILLS_PER_SECOND).unwrap_or(PIPE_SIZE);
        let pause = || RefCell::new(generation.reactor().sleep(Duration::ZERO));
        Some(Self {
            session: limits.per_session.map(|rate| [Pace::of_bytes(rate), Pace::of_bytes(rate)]),
            backend,
            pauses: [pause(), pause()],
            fill: fill.clamp(BUFFER_SIZE, PIPE_SIZE),
        })
    }

    /// Bytes came from a side: the next wait until they are paid for.
    pub(crate) fn charge(&self, generation: &Generation, side: Side, bytes: u64) {
        let (now, side) = (generation.now(), side as usize);
        let since = generation.gauges().since(now);
        let session = self.session.as_ref().map(|paces| paces[side].charge(bytes, since));
        let backend = generation.gauges().charge_bandwidth(self.backend, side, bytes, now);
        let wait = session.unwrap_or_default().max(backend);
        if wait > Duration::ZERO {
            generation.counters().backend(self.backend).bandwidth_waits.add(1);
            Pin::new(&mut *self.pauses[side].borrow_mut()).postpone(now + wait);
        }
    }

    /// Waits until more may come from a side.
    pub(crate) fn poll(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.pauses[side as usize].borrow_mut()).poll(cx)
    }

    /// Until when a direction waits, or has waited.
    pub(crate) fn waits_until(&self) -> Instant {
        let [up, down] = &self.pauses;
        up.borrow().deadline().max(down.borrow().deadline())
    }

    /// How many bytes to splice at once.
    pub(crate) fn fill(&self) -> usize {
        self.fill
    }
}
