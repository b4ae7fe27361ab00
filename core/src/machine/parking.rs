//! When a shard may sleep, and when it must be woken.
//!
//! One word: whether the shard was rung for, and whether it sleeps or is about to. Not here: how it
//! is woken (the eventfd of `doorbell`) and what for. Invariant: of a ring and a `park` at the same
//! time, either the shard finds the bell rung or the ringing thread finds the shard parked. Every
//! change is a read-modify-write of the same word: the later one sees the earlier one and all that
//! came before it, which is the whole argument. `loom_tests::mailbox` tries every order.

use crate::sync::{AtomicU32, Ordering};

/// Rung for since the last [`Parking::silence`].
const RUNG: u32 = 1;

/// Asleep, or about to be.
const PARKED: u32 = 2;

/// Whether a shard was rung for, and whether it sleeps.
#[derive(Debug)]
pub(crate) struct Parking {
    state: AtomicU32,
}

impl Default for Parking {
    fn default() -> Self {
        Self { state: AtomicU32::new(0) }
    }
}

impl Parking {
    /// Rings; whether the shard sleeps, and is to be woken by the caller.
    pub(crate) fn ring(&self) -> bool {
        self.state.swap(RUNG, Ordering::AcqRel) & PARKED != 0
    }

    /// Whether it was rung since the last [`Self::silence`].
    pub(crate) fn is_rung(&self) -> bool {
        self.state.load(Ordering::Relaxed) & RUNG != 0
    }

    /// For the shard, before it looks at what it may have been rung for; whether it was rung.
    pub(crate) fn silence(&self) -> bool {
        self.state.fetch_and(!RUNG, Ordering::AcqRel) & RUNG != 0
    }

    /// For the shard: announces that it is about to sleep; `false` if it must not, since it was
    /// rung for after all.
    pub(crate) fn park(&self) -> bool {
        self.state.compare_exchange(0, PARKED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// For the shard: announces that it is awake.
    pub(crate) fn unpark(&self) {
        self.state.fetch_and(!PARKED, Ordering::AcqRel);
    }
}
