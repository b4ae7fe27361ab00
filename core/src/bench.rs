//! The parts that only a shard uses, lent to the micro-benches of `bench/`. No public API.
//!
//! Invariant: nothing here does anything of its own; each function is one call of what it names.

use crate::machine::{slab, wheel};

/// The timer wheel of a shard.
pub struct BenchWheel(wheel::Wheel);

/// Names an armed timer or an entry of a [`BenchSlab`].
#[derive(Clone, Copy, Debug)]
pub struct BenchKey(slab::Key);

/// The slab that names operations, tasks and timers.
#[derive(Debug)]
pub struct BenchSlab(slab::Slab<u64>);

impl BenchWheel {
    /// Without timers, at time 0.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "as the wheel itself")]
    pub const fn new() -> Self {
        Self(wheel::Wheel::new())
    }

    /// Arms a timer.
    #[inline]
    pub fn arm(&mut self, deadline: u64) -> BenchKey {
        BenchKey(self.0.arm(deadline, slab::Key::NOBODY))
    }

    /// Disarms it.
    #[inline]
    pub fn disarm(&mut self, key: BenchKey) {
        self.0.disarm(key.0);
    }

    /// Moves on; how many timers were due.
    #[inline]
    pub fn expire(&mut self, now: u64) -> usize {
        let mut due = 0;
        self.0.expire(now, |_| due += 1);
        due
    }
}

impl BenchSlab {
    /// Without entries.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "as the slab itself")]
    pub const fn new() -> Self {
        Self(slab::Slab::new())
    }

    /// Inserts an entry.
    #[inline]
    pub fn insert(&mut self, value: u64) -> BenchKey {
        BenchKey(self.0.insert(value))
    }

    /// Finds an entry.
    #[inline]
    pub fn get(&mut self, key: BenchKey) -> Option<u64> {
        self.0.get_mut(key.0).copied()
    }

    /// Removes an entry.
    #[inline]
    pub fn remove(&mut self, key: BenchKey) -> Option<u64> {
        self.0.remove(key.0)
    }
}
