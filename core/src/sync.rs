//! The atomics that several threads write: the standard library's, or loom's in its tests.
//!
//! Loom runs a test once for every order in which its threads may meet, and needs to see each
//! access for that. Built with `--cfg loom`, this module hands out atomics that tell it; otherwise
//! nothing is added. Not here: `counters` and `histogram`, which have one writer each and promise
//! no order. Read `loom_tests` for what is proved.

#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Between a `SeqCst` store and `SeqCst` loads whose total order counts: loom takes such accesses
/// for `AcqRel`, and knows that order of fences alone.
#[inline(always)]
pub(crate) fn total_order() {
    #[cfg(all(loom, test))]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
