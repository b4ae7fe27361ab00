//! A copy of what a client says, for a second server whose answers nobody hears.
//!
//! A task of its own feeds that server from a bounded buffer, and the session never waits for it: what
//! it can't take in time is dropped and counted. Invariant: its stream has no hole. Where one would
//! be, it is reset and hears nothing more of the session. Not here: anything that could harm the
//! session; it does not even learn whether somebody listens.

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

use crate::proxy;
use crate::session::Account;
use crate::shard::Shard;

/// How long the copy may last after its session, for what is left to be said and answered.
const LINGER: Duration = Duration::from_secs(5);

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
    shard: Rc<Shard>,
    backend: BackendId,
    /// What the server has not been given yet.
    waiting: RefCell<Vec<u8>>,
    /// Bytes that it has not taken yet, those included that are being sent.
    held: Cell<usize>,
    /// The session has ended.
    is_over: Cell<bool>,
    /// The server is to hear nothing more.
    is_broken: Cell<bool>,
    /// Once the server has gone: whether it has heard everything.
    heard: Cell<Option<bool>>,
    news: Signal,
}

impl Mirror {
    /// Begins to copy a new session that has reached its server, if it is one of those that are to be;
    /// `greeted` has been said already.
    pub(crate) fn begin(account: &Account, client: &Stream, greeted: &[u8]) -> Option<Self> {
        let (shard, id) = (Rc::clone(&account.shard), account.route().0);
        let Backend { mirror, send_proxy, .. } = shard.snapshot.backend(id);
        if shard.random_below(1_000_000) >= mirror.as_ref()?.per_million as usize {
            return None;
        }
        let counters = shard.counters().backend(id);
        if shard.mirrors.live.get() >= MIRRORS_MAX {
            counters.mirror_failed.add(1);
            return None;
        }
        counters.mirrored.add(1);
        shard.mirrors.live.set(shard.mirrors.live.get() + 1);
        let copied = Rc::new(Copied {
            backend: id,
            waiting: RefCell::default(),
            held: Cell::new(0),
            is_over: Cell::new(false),
            is_broken: Cell::new(false),
            heard: Cell::new(None),
            news: Signal::new(&shard.reactor),
            shard: Rc::clone(&shard),
        });
        let mirror = Self(Rc::clone(&copied));
        if let Some(send) = *send_proxy {
            mirror.push(&proxy::header(send, account, client));
        }
        mirror.push(greeted);
        let (client, timeout) = (account.client(), account.frontend().timeout.connect);
        shard.reactor.spawn(async move { copied.run(client, timeout).await });
        Some(mirror)
    }

    /// The client said this.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let (copied, mirrors) = (&*self.0, &self.0.shard.mirrors);
        let (held, all) = (copied.held.get() + bytes.len(), mirrors.held.get() + bytes.len());
        let has_ended = copied.is_broken.get() || copied.heard.get().is_some();
        if has_ended || held > MIRROR_BYTES || all > MIRROR_BYTES_ALL {
            copied.counters().mirror_dropped.add(bytes.len() as u64);
            copied.is_broken.set(true);
            if copied.heard.get() == Some(true) {
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
    /// Connects to the server and tells it everything.
    async fn run(&self, client: Option<SocketAddr>, timeout: Duration) {
        let reactor = &self.shard.reactor;
        let connected = reactor.timeout_at(reactor.now() + timeout, self.connect(client)).await;
        let heard = match connected {
            Ok(Some(server)) => self.talk(&server).await,
            _ => false,
        };
        self.end(heard);
        let mirrors = &self.shard.mirrors;
        mirrors.live.set(mirrors.live.get() - 1);
    }

    async fn connect(&self, client: Option<SocketAddr>) -> Option<Stream> {
        let backend = self.shard.snapshot.backend(self.backend);
        let Backend { congestion, tcp, source, .. } = backend;
        let options = ConnectOptions { congestion, tcp, source, client };
        let address = &backend.mirror.as_ref()?.server;
        Stream::connect(&self.shard.reactor, address, &options).await.ok()
    }

    /// Whether the server took everything, to the end of the session.
    async fn talk(&self, server: &Stream) -> bool {
        let mut receiver = server.receiver();
        // Whether it ended them by itself.
        let mut answers = pin!(async {
            loop {
                match receiver.next().await {
                    Ok(Some(_)) => {}
                    outcome => return outcome.is_ok(),
                }
            }
        });
        let mut given_up = pin!(self.given_up());
        let said = first(self.say(server), answers.as_mut());
        match first(given_up.as_mut(), said).await {
            First::Right(First::Left(Some(()))) => {
                // What it still answers is heard, as a close with unread bytes would be a reset.
                let _ = server.shutdown_write();
                first(given_up, answers).await;
                true
            }
            // As a database does that has heard goodbye.
            First::Right(First::Right(true)) if self.held.get() == 0 => true,
            _ => {
                server.reset_on_close();
                false
            }
        }
    }

    /// Says everything until the session is over; `None` if the server is gone.
    async fn say(&self, server: &Stream) -> Option<()> {
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

    /// Resolves when the server is to hear no more, or the session has been over for long enough.
    async fn given_up(&self) {
        while !self.is_broken.get() {
            if self.is_over.get() {
                self.shard.reactor.sleep(LINGER).await;
                return;
            }
            self.news.wait().await;
        }
    }

    /// The server has gone, and has heard everything or not.
    fn end(&self, heard: bool) {
        self.heard.set(Some(heard));
        if !heard {
            self.counters().mirror_failed.add(1);
            self.counters().mirror_dropped.add(self.held.get() as u64);
            self.waiting.take();
            self.let_go(self.held.get());
        }
    }

    fn let_go(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        let mirrors = &self.shard.mirrors;
        mirrors.held.set(mirrors.held.get() - bytes);
    }

    fn counters(&self) -> &BackendCounters {
        self.shard.counters().backend(self.backend)
    }
}
