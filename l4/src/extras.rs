//! What few sessions have beside their two sides: boxed, so that all others only lack it.
//!
//! Not here: what each of these does (`greeting`, `mirror`, `throttle`).

use std::cell::{RefCell, RefMut};
use std::task::{Context, Poll};

use ringlane_core::limits::PIPE_SIZE;

use crate::greeting::Tracker;
use crate::mirror::Mirror;
use crate::relay::Side;
use crate::shard::Shard;
use crate::throttle::Throttle;

/// Whatever a session has of these.
pub(crate) struct Extras {
    /// Follows its transactions, where they can be seen.
    pub(crate) tracker: Option<RefCell<Tracker>>,
    /// Who else hears its client.
    pub(crate) mirror: Option<Mirror>,
    /// How fast it may go.
    pub(crate) throttle: Option<Throttle>,
}

impl Extras {
    /// Nothing, if it has none of them.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let has_any = self.tracker.is_some() || self.mirror.is_some() || self.throttle.is_some();
        has_any.then(|| Box::new(self))
    }

    /// Bytes came from a side.
    pub(crate) fn received(&self, shard: &Shard, side: Side, bytes: u64) {
        if let Some(throttle) = &self.throttle {
            throttle.charge(shard, side, bytes);
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

    /// What the bytes were.
    pub(crate) fn saw(&self, side: Side, bytes: &[u8]) {
        if let (Side::Client, Some(mirror)) = (side, &self.mirror) {
            mirror.push(bytes);
        }
        let Some(mut tracker) = self.tracker() else { return };
        match side {
            Side::Client => tracker.client(bytes),
            Side::Server => tracker.server(bytes),
        }
    }

    /// Whether somebody looks at the bytes.
    pub(crate) fn sees(&self) -> bool {
        self.tracker.is_some() || self.mirror.is_some()
    }

    pub(crate) fn tracker(&self) -> Option<RefMut<'_, Tracker>> {
        self.tracker.as_ref().map(RefCell::borrow_mut)
    }
}
