//! When a shard may sleep, and who must wake it.
//!
//! One flag that says whether the shard sleeps, or is about to. Not here: what it is woken for (the
//! queue of `mailbox`) and how (its eventfd). Invariant: of a post and a `park` at the same time,
//! either the shard finds the message or the poster finds the shard parked. Every access is a
//! read-modify-write: the later one sees the earlier one and all that came before it, which is the
//! whole argument. `loom_tests::mailbox` tries every order.

use crate::sync::{AtomicBool, Ordering};

/// Whether a shard sleeps.
#[derive(Debug)]
pub(crate) struct Parking {
    parked: AtomicBool,
}

impl Default for Parking {
    fn default() -> Self {
        Self { parked: AtomicBool::new(false) }
    }
}

impl Parking {
    /// For whoever has just posted: whether the shard sleeps, and is to be woken by the caller.
    pub(crate) fn must_wake(&self) -> bool {
        self.parked.swap(false, Ordering::AcqRel)
    }

    /// For the shard: announces that it is about to sleep; `false` if it must not, since there is
    /// something to do after all.
    pub(crate) fn park(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.parked.swap(true, Ordering::AcqRel);
        if is_idle() {
            return true;
        }
        self.unpark();
        false
    }

    /// For the shard: announces that it is awake.
    pub(crate) fn unpark(&self) {
        // A plain store would hide a post that came just before it from the next `park`.
        self.parked.swap(false, Ordering::AcqRel);
    }
}
