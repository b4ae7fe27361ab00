//! The progress rule of every loop of "would block, wait until ready, try again".
//!
//! Readiness is a hint. The kernel may say "readable" of a socket whose bytes the next call can't
//! take (urgent data in front of a splice), and "writable" of one for which it has no memory. A
//! loop that trusts the hint then turns at full speed for as long as the disagreement lasts.
//! Invariant: with a [`Retry`] in it, a loop that moves no byte runs at most once per
//! [`READINESS_PAUSE`]. Not here: what a loop does instead of trying again, which it decides by
//! [`Retry::is_fruitless`].

use std::io;

use super::Stream;
use crate::limits::READINESS_PAUSE;
use crate::machine::sys::Interest;

/// How the waits of one loop have gone.
#[derive(Debug, Default)]
pub struct Retry {
    /// It has waited, and no byte has moved since.
    has_waited: bool,
}

impl Retry {
    /// Bytes moved.
    pub fn moved(&mut self) {
        self.has_waited = false;
    }

    /// Whether the last wait ended with a socket that was ready for nothing. Asked after "would
    /// block".
    pub fn is_fruitless(&self) -> bool {
        self.has_waited
    }

    /// After "would block": waits until the socket is ready, and pauses first if the last wait was
    /// fruitless.
    ///
    /// # Errors
    /// As [`Stream::ready`].
    pub async fn wait(&mut self, stream: &Stream, interest: Interest) -> io::Result<()> {
        if std::mem::replace(&mut self.has_waited, true) {
            stream.pause_for_readiness(READINESS_PAUSE).await;
        }
        stream.ready(interest).await
    }
}
