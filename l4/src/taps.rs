//! Optional features of a session (mirror, throttle, transaction tracker), boxed to keep plain
//! sessions small.
//!
//! Not here: what each of these does (`transactions`, `mirror`, `throttle`).

use std::cell::{RefCell, RefMut};
use std::task::{Context, Poll};

use ringlane_core::limits::PIPE_SIZE;
use ringlane_shard::Generation;

use crate::mirror::Mirror;
use crate::side::Side;
use crate::throttle::Throttle;
use crate::transactions::Tracker;

/// The optional features of one session.
pub(crate) struct Taps {
    /// Follows its transactions, where they can be seen.
    pub(crate) tracker: Option<RefCell<Tracker>>,
    /// Copies its client's bytes to a second server.
    pub(crate) mirror: Option<Mirror>,
    /// Limits its bandwidth.
    pub(crate) throttle: Option<Throttle>,
}

impl Taps {
    /// Nothing, if it has none of them.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let has_any = self.tracker.is_some() || self.mirror.is_some() || self.throttle.is_some();
        has_any.then(|| Box::new(self))
    }

    /// Bytes came from a side.
    pub(crate) fn received(&self, generation: &Generation, side: Side, bytes: u64) {
        if let Some(throttle) = &self.throttle {
            throttle.charge(generation, side, bytes);
        }
    }

    /// Waits until more may come from a side.
    pub(crate) fn poll_may_receive(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        self.throttle.as_ref().map_or(Poll::Ready(()), |throttle| throttle.poll(side, cx))
    }

    /// How many bytes to splice at once.
    pub(crate) fn fill(&self) -> usize {
        self.throttle.as_ref().map_or(PIPE_SIZE, Throttle::fill)
    }

    /// The bytes that came from a side.
    pub(crate) fn show(&self, side: Side, bytes: &[u8]) {
        if let (Side::Client, Some(mirror)) = (side, &self.mirror) {
            mirror.push(bytes);
        }
        let Some(mut tracker) = self.tracker() else { return };
        match side {
            Side::Client => tracker.client(bytes),
            Side::Server => tracker.server(bytes),
        }
    }

    /// Whether any of them looks at the bytes.
    pub(crate) fn look(&self) -> bool {
        self.tracker.is_some() || self.mirror.is_some()
    }

    pub(crate) fn tracker(&self) -> Option<RefMut<'_, Tracker>> {
        self.tracker.as_ref().map(RefCell::borrow_mut)
    }
}
