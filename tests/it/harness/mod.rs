//! What the stories stand on: the balancer, servers, clients, other programs, and waiting for them.
//!
//! Invariants: every address has a port of the kernel's choice; nothing outlives its test, not even
//! one that is killed (children die with the thread that started them), and nothing is ended that
//! was not started here; a wait has a name and a deadline. Read `ringlane` first: every balancer of
//! the suite is started there, in one place.

pub(crate) mod balancer;
pub(crate) mod certificates;
pub(crate) mod checked;
pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod dns;
pub(crate) mod echo;
pub(crate) mod mariadb;
pub(crate) mod member;
pub(crate) mod namespace;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod redis;
mod reload;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod stamped;
pub(crate) mod talk;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should be there at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The time between two looks at a condition.
const PACE: Duration = Duration::from_millis(5);

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, condition)
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `condition` gives something, or fails with its name.
#[track_caller]
pub(crate) fn wait_at_most<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        // PAUSE: between two looks at the condition.
        pause(PACE);
    }
}

/// Lets time pass, where time is the subject of a story; never a substitute for a condition.
/// Each call has its reason in a comment `// PAUSE: …`, which `cargo xtask tidy` checks.
pub(crate) fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|t| !t.is_zero()) {
        // PAUSE: the one place where a story waits; its callers give the reason.
        thread::park_timeout(left);
    }
}

/// Keeps stories that need the machine for themselves from running beside each other.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // A story that failed leaves nothing behind that the next one could stumble over.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells who works beside a story that it is over, however it ends.
pub(crate) struct AtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
