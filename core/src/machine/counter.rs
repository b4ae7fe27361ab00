//! A number that only grows, and only one thread writes.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows and only one thread writes.
///
/// Adding is a relaxed load and store, never a read-modify-write.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
