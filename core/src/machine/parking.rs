//! When a shard may sleep, and when it must be woken.
//!
//! Two flags: whether the shard was rung for, and whether it sleeps or is about to. Not here: how
//! it is woken (the eventfd of `doorbell`) and what for. Invariant: of a ring and a `park` at the
//! same time, either the shard finds the bell rung or the ringing thread finds the shard parked.
//! Every access of the second flag is a read-modify-write: the later one sees the earlier one and
//! all that came before it, which is the whole argument. `loom_tests::mailbox` tries every order.

use crate::sync::{AtomicBool, Ordering};

/// Whether a shard was rung for, and whether it sleeps.
#[derive(Debug)]
pub(crate) struct Parking {
    rung: AtomicBool,
    parked: AtomicBool,
}

impl Default for Parking {
    fn default() -> Self {
        Self { rung: AtomicBool::new(false), parked: AtomicBool::new(false) }
    }
}

impl Parking {
    /// Rings; whether the shard sleeps, and is to be woken by the caller.
    pub(crate) fn ring(&self) -> bool {
        self.rung.store(true, Ordering::Release);
        self.parked.swap(false, Ordering::AcqRel)
    }

    /// Whether it was rung since the last [`Self::silence`].
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }

    /// For the shard, before it looks at what it may have been rung for; whether it was rung.
    pub(crate) fn silence(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// For the shard: announces that it is about to sleep; `false` if it must not, since it was
    /// rung for after all.
    pub(crate) fn park(&self) -> bool {
        self.parked.swap(true, Ordering::AcqRel);
        if !self.is_rung() {
            return true;
        }
        self.unpark();
        false
    }

    /// For the shard: announces that it is awake.
    pub(crate) fn unpark(&self) {
        // A plain store would hide a ring that came just before it from the next `park`.
        self.parked.swap(false, Ordering::AcqRel);
    }
}
