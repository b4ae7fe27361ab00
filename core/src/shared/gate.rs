//! A limit on how many of something there may be at once, over all shards.
//!
//! Invariant: a free place is never missed by a shard that waits for one; the protocol is at
//! [`Gate`] and is proved by `loom_tests::gauges`.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A bounded number of places that all shards draw from.
///
/// Protocol: `try_enter`; on `false`, `wait` and then `try_enter` once more before sleeping, since
/// a place may have become free in between. `leave` returns whether all shards must be woken. Count
/// and waiting are one word, so one of two things is true of each `wait`: a later `leave` sees it,
/// or the `try_enter` after it sees every place that was given back before. A failed `try_enter`
/// changes nothing: a count raised for a moment would turn others away from a place that is free.
#[derive(Debug)]
pub struct Gate {
    max: AtomicU32,
    /// Places taken in the low half; above them [`WAITING`].
    state: AtomicU64,
}

/// Set while a shard may be asleep for want of a place.
const WAITING: u64 = 1 << 32;

/// Places taken, of a gate's state.
const fn taken(state: u64) -> u32 {
    state as u32
}

impl Gate {
    /// A gate with `max` places.
    pub fn new(max: u32) -> Self {
        Self { max: AtomicU32::new(max), state: AtomicU64::new(0) }
    }

    /// Takes a place if one is free.
    pub fn try_enter(&self) -> bool {
        let max = self.max();
        let enter = |state| (taken(state) < max).then_some(state + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// Gives a place back; `true` if a shard waits for one.
    #[must_use]
    pub fn leave(&self) -> bool {
        let waited = |state| state & WAITING != 0;
        waited(self.state.fetch_sub(1, Ordering::AcqRel))
            && waited(self.state.fetch_and(!WAITING, Ordering::AcqRel))
    }

    /// Marks that the caller waits for a place.
    pub fn wait(&self) {
        self.state.fetch_or(WAITING, Ordering::AcqRel);
    }

    /// Places taken.
    pub fn live(&self) -> u32 {
        taken(self.state.load(Ordering::Relaxed))
    }

    /// Whether no place is free. A caller that has called `wait` before is woken when that changes.
    pub fn is_full(&self) -> bool {
        self.live() >= self.max()
    }

    /// Places in all.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes the number of places; `true` if a shard waits and there may be a place for it now.
    /// What is above a lower limit keeps its place.
    #[must_use]
    pub fn set_max(&self, max: u32) -> bool {
        let raised = self.max.swap(max, Ordering::Relaxed) < max;
        let waited = |state| state & WAITING != 0;
        raised && waited(self.state.fetch_and(!WAITING, Ordering::AcqRel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_max_in_and_reports_waiters_on_leave() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        assert!(!gate.try_enter());
        gate.wait();
        assert!(gate.leave(), "one waits");
        assert!(gate.try_enter());
        assert!(!gate.leave(), "none waits any more");
        assert_eq!(gate.live(), 0);
    }

    #[test]
    fn a_raised_limit_lets_more_in_and_a_lowered_one_none() {
        let gate = Gate::new(1);
        assert!(gate.try_enter() && !gate.try_enter());
        gate.wait();
        assert!(gate.set_max(2), "one waits");
        assert!(gate.try_enter() && !gate.try_enter());
        assert!(!gate.set_max(1) && gate.is_full());
        assert!(!gate.leave() && !gate.try_enter() && gate.live() == 1);
    }
}
