//! Bounds for admin clients: on their number and on the time of each; new clients are always
//! served.
//!
//! Not here: HTTP. The server library bounds neither, and its listener trait is where both fit. A
//! connection carries one request (`Connection: close`). Invariants: the first byte of the answer
//! is sent within [`REQUEST_MAX`] of the accept, and the last within [`ANSWER_MAX`] of the first,
//! or the connection is cut, however slowly the client sends or reads; an answer that is a stream
//! may last, but each part of it is taken within [`STALL_MAX`]; when all slots are taken, the
//! client that has waited longest for its answer is evicted, so that slow clients can't lock out
//! others. The number of streams is bounded below that of the slots (`feed`).

use std::collections::VecDeque;
use std::future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::origin::{Accepts, Origin, Requester};
use super::spares::{Refill, Spares, is_out_of_descriptors};
use crate::control::log::{self, Level, Notice};

/// Clients served at once on one socket.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// The longest time from the accept to the first byte of the answer.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// The longest time from there to its last byte.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The longest time for which the client of a stream takes nothing of it.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How long a client that is being answered keeps its slot while others wait for one.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// The pause between two looks for a client that can give its slot up.
const EVICT_STEP: Duration = Duration::from_millis(50);

/// The pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The time between two lines about accepts that fail.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// A listener that accepts while it has slots, and makes some.
pub(super) struct Bounded<L> {
    /// The key of the configuration that it comes from.
    key: &'static str,
    listener: L,
    spares: Spares,
    /// When an accept that failed was last logged.
    complained: Option<Instant>,
    slots: Arc<Semaphore>,
    /// Clients with a slot, oldest first; some have disconnected.
    clients: VecDeque<Weak<AdminClient>>,
}

/// The state of a client that its connection shares with the listener.
#[derive(Debug)]
pub(super) struct AdminClient {
    accepted: Instant,
    /// It has got a part of its answer.
    answered: AtomicBool,
    /// Its answer has no end.
    streams: AtomicBool,
    evicted: AtomicBool,
    /// Of the task that serves it.
    waker: Mutex<Option<Waker>>,
}

impl<L: Accepts> Bounded<L> {
    pub(super) fn new(key: &'static str, listener: L) -> Self {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (spares, clients) = (Spares::default(), VecDeque::new());
        Self { key, listener, spares, complained: None, slots, clients }
    }

    /// The next client. Where the process is out of descriptors, a spare one makes room for it.
    async fn next(&mut self) -> (L::Io, L::Addr) {
        self.spares.fill();
        loop {
            let error = match self.listener.accept_one().await {
                Ok(client) => return client,
                Err(error) => error,
            };
            // A client that has left already is none.
            if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
                continue;
            }
            // Another thread may be faster, so there is more than one.
            if is_out_of_descriptors(&error) && self.spares.give_up() {
                continue;
            }
            self.complain(&error);
            sleep(ACCEPT_PAUSE).await;
            self.spares.fill();
        }
    }

    /// Logs why no client is accepted, unless that was logged a moment ago.
    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.complained.is_some_and(|at| now < at + COMPLAINT_INTERVAL) {
            return;
        }
        self.complained = Some(now);
        let text = format!(
            "admin.{}: cannot accept connections: {error}; status, metrics and orders are not \
             available: raise LimitNOFILE= or free memory",
            self.key
        );
        log::write(&Notice::new(Level::Error, "admin_accept_failed", text));
    }

    /// A slot, taken from another client if there is none.
    async fn slot(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            if self.slots.available_permits() == 0 {
                self.evict();
            }
            let slot = Arc::clone(&self.slots).acquire_owned();
            if let Ok(slot) = timeout(EVICT_STEP, slot).await {
                return slot.ok();
            }
        }
    }

    /// Cuts the oldest client off that has no answer yet, or one that takes long to take it.
    fn evict(&mut self) {
        self.clients.retain(|client| client.strong_count() > 0);
        let clients = || self.clients.iter().filter_map(Weak::upgrade);
        if clients().any(|client| client.evicted.load(Ordering::Relaxed)) {
            // Its slot is about to be free.
            return;
        }
        let unanswered = clients().find(|client| !client.answered.load(Ordering::Relaxed));
        let is_slow = |client: &Arc<AdminClient>| {
            client.accepted.elapsed() > ANSWER_GRACE && !client.streams.load(Ordering::Relaxed)
        };
        let slow = || clients().find(is_slow);
        if let Some(client) = unanswered.or_else(slow) {
            client.evict();
        }
    }
}

impl AdminClient {
    /// Its answer is a stream: it keeps its slot for as long as it takes what it is sent.
    pub(super) fn begin_stream(&self) {
        self.streams.store(true, Ordering::Relaxed);
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    /// Has the task woken that `cx` is of when it is evicted.
    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }
}

impl<L: Accepts> Listener for Bounded<L> {
    type Io = AdminConnection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // First the client, then its slot: no client is evicted for one that isn't there.
        let (io, address) = self.next().await;
        let Some(slot) = self.slot().await else {
            // Only a closed semaphore has no more slots, and this one is never closed.
            return future::pending().await;
        };
        let client = Arc::new(AdminClient {
            accepted: Instant::now(),
            answered: AtomicBool::new(false),
            streams: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        self.clients.retain(|client| client.strong_count() > 0);
        self.clients.push_back(Arc::downgrade(&client));
        let deadline = Box::pin(sleep(REQUEST_MAX));
        let (refill, origin) = (self.spares.refill(), L::origin(&io, &address));
        (AdminConnection { io, _refill: refill, deadline, origin, client, _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.address()
    }
}

/// A client, its slot, and the time when it is cut off.
pub(super) struct AdminConnection<Io> {
    io: Io,
    /// Comes behind the socket, which is closed first.
    _refill: Refill,
    deadline: Pin<Box<Sleep>>,
    origin: Origin,
    client: Arc<AdminClient>,
    _slot: OwnedSemaphorePermit,
}

impl<Io> AdminConnection<Io> {
    pub(super) fn requester(&self) -> Requester {
        Requester { origin: self.origin, client: Arc::clone(&self.client) }
    }

    /// Whether the connection is to end now.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.client.watch(cx);
        let is_over = self.deadline.as_mut().poll(cx).is_ready();
        if is_over || self.client.evicted.load(Ordering::Relaxed) {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for AdminConnection<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for AdminConnection<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        if !self.client.answered.swap(true, Ordering::Relaxed) {
            self.deadline.as_mut().reset(Instant::now() + ANSWER_MAX);
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if written.is_ready() && self.client.streams.load(Ordering::Relaxed) {
            self.deadline.as_mut().reset(Instant::now() + STALL_MAX);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
