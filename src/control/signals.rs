//! The signals that the control thread answers.
//!
//! Not here: what is done about them (`supervisor`). Invariant: shards never see one of these, so
//! that none of their waits in the kernel is interrupted.

use std::io;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT: end.
    End(&'static str),
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open log files again.
    Reopen,
}

/// The signals that have arrived.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    user1: Stream,
}

impl Signals {
    /// Begins to catch them. Needs a tokio runtime around it.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End("SIGTERM"),
            _ = self.interrupt.recv() => Signal::End("SIGINT"),
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user1.recv() => Signal::Reopen,
        }
    }
}

/// Keeps these signals away from the calling thread.
pub(super) fn block_here() {
    let mut set = SigSet::empty();
    set.extend([Number::SIGTERM, Number::SIGINT, Number::SIGHUP, Number::SIGUSR1]);
    // Can't fail for a valid set; if it did, a wait would be interrupted and begin again.
    let _ = set.thread_block();
}
