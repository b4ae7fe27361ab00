//! How long a server takes to send its first byte, where that is watched (`first_byte` of
//! `outlier`).
//!
//! Wraps a relay and looks at the session's counts after each of its turns, so that what is relayed
//! is not touched and sessions of other backends pay nothing. Not here: what follows from a late
//! answer (`health::Outlier` of the core). Next: `session`, which chooses between this and the bare
//! relay.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringlane_core::machine::reactor::Stream;
use ringlane_shard::Session;

use crate::relay::{End, Relay};

/// A relay whose server is to answer in time. Ends as the relay does.
pub(crate) struct Timed<'a> {
    relay: Relay<'a>,
    session: &'a Session,
    server: &'a Stream,
    limit: Duration,
    answer: Answer,
}

/// The server's first byte, counted from the client's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// Neither side has sent anything.
    Unasked,
    /// The client has.
    Awaited(Instant),
    /// It came after so long; at once, if the server sent first.
    Came(Duration),
}

impl Answer {
    /// What it is now that so many bytes have come.
    fn after(self, from_client: u64, from_server: u64, now: Instant) -> Self {
        match self {
            Self::Unasked if from_server > 0 => Self::Came(Duration::ZERO),
            Self::Unasked if from_client > 0 => Self::Awaited(now),
            Self::Awaited(since) if from_server > 0 => {
                Self::Came(now.saturating_duration_since(since))
            }
            _ => self,
        }
    }

    /// Whether it came, or has been awaited, for longer than that.
    fn is_late(self, limit: Duration, now: Instant) -> bool {
        match self {
            Self::Unasked => false,
            Self::Awaited(since) => now.saturating_duration_since(since) > limit,
            Self::Came(time) => time > limit,
        }
    }
}

impl<'a> Timed<'a> {
    pub(crate) fn new(
        relay: Relay<'a>,
        session: &'a Session,
        server: &'a Stream,
        limit: Duration,
    ) -> Self {
        Self { relay, session, server, limit, answer: Answer::Unasked }
    }
}

impl Future for Timed<'_> {
    type Output = Result<(), End>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = Pin::new(&mut self.relay).poll(cx);
        let (bytes, now) = (&self.session.bytes, self.session.generation.now());
        let answer = self.answer.after(bytes.from_client.get(), bytes.from_server.get(), now);
        if let Answer::Came(time) = answer
            && answer != self.answer
            && time > self.limit
        {
            // It may have waited here, as after a pause of this process: that was not the server.
            let waited = self.server.since_last_bytes().unwrap_or_default();
            self.answer = Answer::Came(time.saturating_sub(waited));
        } else {
            self.answer = answer;
        }
        if ended.is_ready() && self.answer.is_late(self.limit, now) {
            self.session.note_late();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    #[test]
    fn the_time_between_the_first_bytes_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (steps, late) in [
            // Bytes from the client, from the server, and when.
            (vec![(0, 0, 9)], false),
            (vec![(1, 0, 5), (1, 1, 7)], false),
            (vec![(1, 0, 5), (1, 1, 8), (9, 9, 9)], true),
            (vec![(1, 0, 5), (1, 1, 6), (9, 9, 99)], false),
            (vec![(0, 1, 5), (1, 1, 6), (1, 9, 99)], false),
            (vec![(1, 1, 50)], false),
            (vec![(1, 0, 5), (2, 0, 7)], false),
            (vec![(1, 0, 5), (2, 0, 8)], true),
        ] {
            let (mut answer, mut now) = (Answer::Unasked, start);
            for (from_client, from_server, seconds) in &steps {
                now = at(*seconds);
                answer = answer.after(*from_client, *from_server, now);
            }
            assert_eq!(answer.is_late(LIMIT, now), late, "{steps:?}: {answer:?}");
        }
    }
}
