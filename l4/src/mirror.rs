//! A copy of a client's bytes for a second server, whose answers are dropped.
//!
//! A task of its own feeds that server from a bounded buffer, and the session never waits for it:
//! what it can't take in time is dropped and counted. Invariant: its stream has no hole. Where one
//! would be, it is reset and gets nothing more of the session. Not here: anything that could harm
//! the session, which does not even learn whether the copy arrives.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ringlane_core::counters::BackendCounters;
use ringlane_core::ids::BackendId;
use ringlane_core::limits::{MIRROR_BYTES, MIRROR_BYTES_ALL, MIRRORS_MAX};
use ringlane_core::machine::reactor::{First, Signal, Stream, first};
use ringlane_core::machine::sys::ConnectOptions;
use ringlane_core::settings::Backend;
use ringlane_shard::{Generation, Session};

/// How long the copy may last after its session, for what is left to be sent and answered.
const LINGER: Duration = Duration::from_secs(5);

/// The pause after each buffer of answers, which are dropped.
const ANSWER_PAUSE: Duration = Duration::from_millis(1);

/// How many copies a shard makes now, and the bytes that they hold.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    live: Cell<usize>,
    held: Cell<usize>,
}

/// A session's end of its copy.
pub(crate) struct Mirror(Rc<Copied>);

/// What a session and its copy share.
struct Copied {
    mirrors: Rc<Mirrors>,
    generation: Rc<Generation>,
    backend: BackendId,
    /// What the server has not been given yet.
    waiting: RefCell<Vec<u8>>,
    /// Bytes that it has not taken yet, those included that are being sent.
    held: Cell<usize>,
    /// The session has ended.
    is_over: Cell<bool>,
    /// The server gets nothing more.
    is_broken: Cell<bool>,
    /// Once the server has gone: whether it has got everything.
    got_all: Cell<Option<bool>>,
    news: Signal,
}

impl Mirror {
    /// Begins to copy a new session that has reached its server, if it is one of those that are to
    /// be; `greeting` has been sent already.
    pub(crate) fn begin(
        mirrors: &Rc<Mirrors>,
        session: &Session,
        client: &Stream,
        greeting: &[u8],
    ) -> Option<Self> {
        let (generation, id) = (Rc::clone(&session.generation), session.backend());
        let Backend { mirror, send_proxy, .. } = generation.backend(id);
        if generation.shard.random_below(1_000_000) >= mirror.as_ref()?.per_million as usize {
            return None;
        }
        let counters = generation.counters().backend(id);
        if mirrors.live.get() >= MIRRORS_MAX {
            counters.mirror_failed.add(1);
            return None;
        }
        counters.mirrored.add(1);
        let header = send_proxy.map(|send| session.proxy_header(send, client));
        mirrors.live.set(mirrors.live.get() + 1);
        let reactor = generation.reactor().clone();
        let copied = Rc::new(Copied {
            mirrors: Rc::clone(mirrors),
            backend: id,
            waiting: RefCell::default(),
            held: Cell::new(0),
            is_over: Cell::new(false),
            is_broken: Cell::new(false),
            got_all: Cell::new(None),
            news: Signal::new(&reactor),
            generation,
        });
        let mirror = Self(Rc::clone(&copied));
        if let Some(header) = header {
            mirror.push(&header);
        }
        mirror.push(greeting);
        let (client, timeout) = (session.client(), session.frontend().timeout.connect);
        reactor.spawn(async move { copied.run(client, timeout).await });
        Some(mirror)
    }

    /// The client sent this.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let (copied, mirrors) = (&*self.0, &self.0.mirrors);
        let (held, all) = (copied.held.get() + bytes.len(), mirrors.held.get() + bytes.len());
        let has_ended = copied.is_broken.get() || copied.got_all.get().is_some();
        if has_ended || held > MIRROR_BYTES || all > MIRROR_BYTES_ALL {
            copied.counters().mirror_dropped.add(bytes.len() as u64);
            copied.is_broken.set(true);
            if copied.got_all.get() == Some(true) {
                copied.end(false);
            }
        } else {
            copied.waiting.borrow_mut().extend_from_slice(bytes);
            copied.held.set(held);
            mirrors.held.set(all);
        }
        copied.news.raise();
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.0.is_over.set(true);
        self.0.news.raise();
    }
}

impl Copied {
    /// Connects to the server and sends it everything.
    async fn run(&self, client: Option<SocketAddr>, timeout: Duration) {
        let reactor = self.generation.reactor();
        let connected = reactor.timeout_at(reactor.now() + timeout, self.connect(client)).await;
        let got_all = match connected {
            Ok(Some(server)) => self.feed(&server).await,
            _ => false,
        };
        self.end(got_all);
        let mirrors = &self.mirrors;
        mirrors.live.set(mirrors.live.get() - 1);
    }

    async fn connect(&self, client: Option<SocketAddr>) -> Option<Stream> {
        let backend = self.generation.backend(self.backend);
        let Backend { congestion, tcp, source, .. } = backend;
        let options = ConnectOptions { congestion, tcp, source, client };
        let address = &backend.mirror.as_ref()?.server;
        Stream::connect(self.generation.reactor(), address, &options).await.ok()
    }

    /// Whether the server took everything, to the end of the session.
    async fn feed(&self, server: &Stream) -> bool {
        let mut receiver = server.receiver();
        // Whether it ended them by itself.
        let mut answers = pin!(async {
            loop {
                match receiver.next().await {
                    // One that answers without end must not cost a core.
                    Ok(Some(_)) => self.generation.reactor().sleep(ANSWER_PAUSE).await,
                    outcome => return outcome.is_ok(),
                }
            }
        });
        let mut given_up = pin!(self.given_up());
        let sent = first(self.send_all(server), answers.as_mut());
        match first(given_up.as_mut(), sent).await {
            First::Right(First::Left(Some(()))) => {
                // What it still answers is read, as a close with unread bytes would be a reset.
                let _ = server.shutdown_write();
                first(given_up, answers).await;
                true
            }
            // As a database does after a message that ends the session.
            First::Right(First::Right(true)) if self.held.get() == 0 => true,
            _ => {
                server.reset_on_close();
                false
            }
        }
    }

    /// Sends everything until the session is over; `None` if the server is gone.
    async fn send_all(&self, server: &Stream) -> Option<()> {
        loop {
            let bytes = self.waiting.take();
            if !bytes.is_empty() {
                server.send_now(&bytes).await.ok()?;
                self.counters().mirror_bytes.add(bytes.len() as u64);
                self.let_go(bytes.len());
            } else if self.is_over.get() {
                return Some(());
            } else {
                self.news.wait().await;
            }
        }
    }

    /// Resolves when the server gets no more, or the session has been over for long enough.
    async fn given_up(&self) {
        while !self.is_broken.get() {
            if self.is_over.get() {
                self.generation.reactor().sleep(LINGER).await;
                return;
            }
            self.news.wait().await;
        }
    }

    /// The server has gone, and has got everything or not.
    fn end(&self, got_all: bool) {
        self.got_all.set(Some(got_all));
        if !got_all {
            self.counters().mirror_failed.add(1);
            self.counters().mirror_dropped.add(self.held.get() as u64);
            self.waiting.take();
            self.let_go(self.held.get());
        }
    }

    fn let_go(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        let mirrors = &self.mirrors;
        mirrors.held.set(mirrors.held.get() - bytes);
    }

    fn counters(&self) -> &BackendCounters {
        self.generation.counters().backend(self.backend)
    }
}
