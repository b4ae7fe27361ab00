//! The book of all servers: what checks saw, what operators ordered, and what became of it.
//!
//! Kept by the control thread and the admin API; shards read one word per server in `gauges`, which
//! is written here alone. What a server may take is decided in `ringlane_core::health`. Invariants:
//! every change of a state is logged once and kept, the last [`CHANGES_KEPT`] of each server; the
//! words of a backend are published after everything that may change one of them, and before
//! shards are told to end sessions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ringlane_core::gauges::Gauges;
use ringlane_core::health::{Admin, Backend, Change, Ended, Lag, Orders, Seen, State};
use ringlane_core::mailbox::{Mailbox, Message};
use ringlane_core::snapshot::{BackendId, ServerId, Snapshot};

use super::log::say;
use crate::config::Watch;

/// Changes that are kept for each server.
const CHANGES_KEPT: usize = 16;

/// The largest weight that can be ordered, as in the configuration.
pub const WEIGHT_MAX: u32 = 1000;

/// All servers.
#[derive(Debug)]
pub struct Servers {
    snapshot: Arc<Snapshot>,
    gauges: Arc<Gauges>,
    mailboxes: Arc<[Mailbox]>,
    books: Mutex<Vec<Book>>,
}

/// One backend.
#[derive(Debug)]
struct Book {
    health: Backend,
    pages: Vec<Page>,
    checked: bool,
    /// What shards whose mailboxes were full have yet to be told, each word once.
    untold: Vec<(usize, Ended)>,
}

/// One server.
#[derive(Debug, Default)]
struct Page {
    changes: VecDeque<Recorded>,
    last_check: Option<(SystemTime, Result<String, String>)>,
}

/// A change and when it was.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When.
    pub at: SystemTime,
    /// From what to what, and why.
    pub change: Change,
}

/// All that is known of a server.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its state.
    pub state: State,
    /// Whether its backend has checks; otherwise only sessions tell whether it is there.
    pub checked: bool,
    /// How far it is behind.
    pub lag: Option<Lag>,
    /// Its weight as ordered, in the unit of the configuration.
    pub weight: u32,
    /// What shards were told.
    pub orders: Orders,
    /// The last check: when, and what it said.
    pub last_check: Option<(SystemTime, Result<String, String>)>,
    /// The last changes, the newest first.
    pub changes: Vec<Recorded>,
}

impl Servers {
    /// Nobody has been checked yet, and everybody is ready.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        gauges: Arc<Gauges>,
        mailboxes: Arc<[Mailbox]>,
        watches: &[Watch],
    ) -> Self {
        let book = |id: u32| {
            let servers = snapshot.servers_of(BackendId(id));
            let watch = watches.get(id as usize).cloned().unwrap_or_default();
            Book {
                health: Backend::new(watch.rules, servers.iter().map(|server| server.weight)),
                pages: servers.iter().map(|_| Page::default()).collect(),
                checked: watch.check.is_some(),
                untold: Vec::new(),
            }
        };
        let backends = u32::try_from(snapshot.backends.len()).unwrap_or(u32::MAX);
        let books = Mutex::new((0..backends).map(book).collect());
        Self { snapshot, gauges, mailboxes, books }
    }

    /// A check of a server has ended; an error is a phrase for operators.
    pub(super) fn observe(&self, id: ServerId, outcome: Result<Seen, String>) {
        let said = match &outcome {
            Ok(seen) => Ok(seen.detail.clone().unwrap_or_default()),
            Err(why) => Err(why.clone()),
        };
        self.with(id, |book, index| {
            book.pages[index].last_check = Some((SystemTime::now(), said));
            book.health.observe(index, outcome, Instant::now())
        });
    }

    /// Whether checks of a server speak against its state.
    pub(super) fn is_changing(&self, id: ServerId) -> bool {
        let (backend, index) = self.place(id);
        self.lock()[backend.0 as usize].health.is_changing(index)
    }

    /// An operator orders a state.
    pub fn set_admin(&self, id: ServerId, admin: Admin) {
        self.with(id, |book, index| book.health.set_admin(index, admin));
    }

    /// An operator orders a weight, at most [`WEIGHT_MAX`].
    pub fn set_weight(&self, id: ServerId, weight: u32) {
        let name = self.snapshot.full_name(id);
        self.with(id, |book, index| {
            let before = book.health.weight(index);
            if before != weight {
                say(format_args!("server {name} has weight {weight} (was {before}): ordered"));
            }
            book.health.set_weight(index, weight.min(WEIGHT_MAX));
            Vec::new()
        });
    }

    /// Time has passed for the servers of a backend; when to say so again.
    pub(super) fn pass(&self, backend: BackendId) -> Option<Duration> {
        let first = self.snapshot.backend(backend).first_server;
        let now = Instant::now();
        let mut next = None;
        self.with(first, |book, _| {
            let changes = book.health.pass(now);
            next = book.health.poll_timeout(now);
            changes
        });
        next.map(|next| next.saturating_duration_since(now))
    }

    /// All that is known of a server.
    pub fn known(&self, id: ServerId) -> Option<Known> {
        let (backend, index) = self.place(id);
        let books = self.lock();
        let book = &books[backend.0 as usize];
        let page = &book.pages[index];
        Some(Known {
            state: book.health.state(index)?,
            checked: book.checked,
            lag: book.health.lag(index),
            weight: book.health.weight(index),
            orders: self.gauges.server(id).orders(),
            last_check: page.last_check.clone(),
            changes: page.changes.iter().rev().cloned().collect(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Book>> {
        // Nothing that panics is called with it held; what is inside is whole at any time.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backend of a server, and its place there.
    fn place(&self, id: ServerId) -> (BackendId, usize) {
        let backend = self.snapshot.server(id).backend;
        (backend, (id.0 - self.snapshot.backend(backend).first_server.0) as usize)
    }

    /// Does something that may change states, then records and publishes what came of it.
    fn with(&self, id: ServerId, change: impl FnOnce(&mut Book, usize) -> Vec<Change>) {
        let (backend, index) = self.place(id);
        let mut books = self.lock();
        let book = &mut books[backend.0 as usize];
        let changes = change(book, index);
        let first = self.snapshot.backend(backend).first_server.0;
        for (index, id) in (0..book.pages.len()).zip(first..) {
            self.gauges.server(ServerId(id)).order(book.health.orders(index, Instant::now()));
        }
        if let Some(queue) = self.gauges.queue(backend) {
            queue.call_next(backend, &self.mailboxes);
        }
        let ended = book.health.ended_by(&changes);
        let shards = self.mailboxes.len();
        for word in ended.into_iter().flat_map(|ended| (0..shards).map(move |n| (n, ended))) {
            // Said once more it means the same: so the list has an end.
            if !book.untold.contains(&word) {
                book.untold.push(word);
            }
        }
        book.untold.retain(|(shard, ended)| {
            let server = ServerId(first + ended.server as u32);
            let message = Message::EndSessions { server, role: ended.role, how: ended.how };
            self.mailboxes[*shard].post(message).is_err()
        });
        for change in changes {
            let name = self.snapshot.full_name(ServerId(first + change.server as u32));
            say(format_args!(
                "server {name} is {} (was {}): {}",
                change.to, change.from, change.reason
            ));
            let page = &mut book.pages[change.server];
            if page.changes.len() == CHANGES_KEPT {
                page.changes.pop_front();
            }
            page.changes.push_back(Recorded { at: SystemTime::now(), change });
        }
    }
}
