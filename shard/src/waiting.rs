//! Clients that leave while their session waits: in a queue, for a connect, for a server's answer.
//!
//! A client that has reset its connection, or ended its stream without a byte, is gone: its session
//! ends at once and gives its places back. One that ended its stream after bytes may have sent all
//! of a request and goes on, as with HAProxy. Nothing of the client is read here, so no buffer is
//! held and no byte is lost; and nothing is asked of the kernel before a wait turns out to be slow,
//! because a connect in the same network takes a fraction of [`WATCH_AFTER`]. Next: `connect`,
//! `queue`.

use std::cell::Cell;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringlane_core::machine::reactor::{Elapsed, Reactor, Receiver, Stream};
use ringlane_core::machine::sys::{Interest, Presence, Socket, presence};

/// A connect or an answer that takes longer is slow: the client is watched from then on.
const WATCH_AFTER: Duration = Duration::from_millis(10);

/// How often a client that has ended its stream after bytes is looked at.
const ENDED_LOOK: Duration = Duration::from_secs(1);

/// The client has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Left;

/// A client whose session waits.
pub struct Waiting<'a, 'b> {
    reactor: &'a Reactor,
    receiver: &'a Receiver<'b>,
    /// Whether it has sent bytes that are to reach a server.
    has_sent: bool,
    /// Whether the wait is slow.
    watched: Cell<bool>,
}

impl<'a, 'b> Waiting<'a, 'b> {
    /// A client that has sent bytes which were read already, or not.
    pub fn new(receiver: &'a Receiver<'b>, has_sent: bool) -> Self {
        let reactor = receiver.stream().reactor();
        Self { reactor, receiver, has_sent, watched: Cell::new(false) }
    }

    /// Its connection.
    pub fn client(&self) -> &'b Stream {
        self.receiver.stream()
    }

    /// The wait may be long: from now on it ends when the client leaves.
    pub fn watch(&self) {
        self.watched.set(true);
    }

    /// As `Reactor::timeout_at`; the client is watched if it takes longer than a moment.
    ///
    /// # Errors
    /// [`Elapsed`] when the time is over.
    pub async fn timeout_at<F: Future>(
        &self,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let soon = deadline.min(self.reactor.now() + WATCH_AFTER);
        let outcome = self.reactor.timeout_at(soon, future.as_mut()).await;
        if outcome.is_ok() || soon == deadline {
            return outcome;
        }
        self.watch();
        self.reactor.timeout_at(deadline, future).await
    }

    /// What `work` gives, unless the client leaves while it is watched.
    ///
    /// # Errors
    /// [`Left`] when it has left.
    pub async fn unless_gone<F: Future>(&self, work: F) -> Result<F::Output, Left> {
        let mut work = pin!(work);
        let mut watch = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if !self.watched.get() {
                return Poll::Pending;
            }
            // Boxed, as most sessions are served at once.
            let watch = watch.get_or_insert_with(|| Box::pin(self.gone()));
            watch.as_mut().poll(cx).map(Err)
        })
        .await
    }

    /// Resolves when the client has left.
    async fn gone(&self) -> Left {
        let client = self.client();
        if client.ready(Interest::Hangup).await.is_ok() && is_gone(self.receiver, self.has_sent) {
            return Left;
        }
        // It has sent all that it had to send. The kernel tells no more of it than that, so a reset
        // is looked for now and then.
        loop {
            self.reactor.sleep(ENDED_LOOK).await;
            if client.presence() == Presence::Broken {
                return Left;
            }
        }
    }
}

/// Whether the client of a connection of which nothing was read has left.
pub(crate) fn has_left(connection: &Socket) -> bool {
    presence(connection) != Presence::Open
}

fn is_gone(receiver: &Receiver<'_>, has_sent: bool) -> bool {
    match receiver.stream().presence() {
        Presence::Open => false,
        Presence::Ended => !has_sent && !receiver.has_bytes(),
        Presence::Broken => true,
    }
}
