//! Threads beside the control thread: they are named, and signals never interrupt them.
//!
//! Not here: their work. Invariant: every signal is delivered to the control thread, the only one
//! that answers signals (`run::signals`).

use std::io;
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, Signal};

/// Signals that the kernel sends to the thread that caused them. They are never blocked: a blocked
/// one would end the process all the same, but without a message.
const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGABRT,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// Starts a thread in which all signals but those for faults are blocked.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        let mut blocked = SigSet::all();
        FAULTS.into_iter().for_each(|fault| blocked.remove(fault));
        // Can't fail for a valid set; if it did, an interrupted wait would begin again.
        let _ = blocked.thread_block();
        work()
    })
}
