//! The book of all servers: what checks saw, what operators ordered, where they are, and what became
//! of it.
//!
//! Kept by the control thread and the admin API; shards read one word per server in `gauges`, which
//! is written here alone. What a server may take is decided in `ringlane_core::health`. Invariants:
//! every change of a state is logged once and kept, the last [`CHANGES_KEPT`] of each server; the
//! words of a backend are published after everything that may change one of them, and before
//! shards are told to end sessions.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ringlane_core::addresses::Found;
use ringlane_core::gauges::Gauges;
use ringlane_core::health::{
    Admin, Backend, Change, Ended, Ending, Health, Lag, Orders, Seen, State,
};
use ringlane_core::mailbox::{Mailbox, Message};
use ringlane_core::snapshot::{Address, BackendId, ServerId, Snapshot};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::log::say;
use crate::config::Watch;

/// How long a new primary is kept closed at most until all shards have ended the sessions of the old.
const HEARD_PATIENCE: Duration = Duration::from_millis(50);

/// How often it is looked whether they have.
const HEARD_STEP: Duration = Duration::from_micros(100);

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
    /// Words on ending sessions that each shard was told.
    told: Vec<AtomicU64>,
    moved: Notify,
}

/// One backend.
#[derive(Debug)]
struct Book {
    health: Backend,
    pages: Vec<Page>,
    checked: bool,
    /// What shards whose mailboxes were full have yet to be told, each word once.
    untold: Vec<(usize, Ended)>,
    /// As above: shards, and servers whose address they do not know yet.
    unaware: Vec<(usize, usize)>,
}

/// One server.
#[derive(Debug, Default)]
struct Page {
    address: Option<Address>,
    changes: VecDeque<Recorded>,
    last_check: Option<(SystemTime, Result<String, String>)>,
    /// Days that the certificate has left which the last check met, if it met one.
    certificate_days: Option<i64>,
}

/// A change and when it was.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When.
    pub at: SystemTime,
    /// What it was: `up primary`, or `at 10.0.0.7:80`.
    pub from: String,
    /// What it is.
    pub to: String,
    /// Why.
    pub reason: String,
}

/// All that is known of a server.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where it is; nothing while its name gives it no address.
    pub address: Option<Address>,
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
    /// Days that its certificate has left, if the last check met one; negative once it has expired.
    pub certificate_days: Option<i64>,
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
            let mut health = Backend::new(watch.rules, servers.iter().map(|server| server.weight));
            for (index, _) in servers.iter().enumerate().filter(|(_, s)| s.address.is_none()) {
                // What it begins as is no change.
                let _ = health.moved(index, false, "");
            }
            let page =
                |address: &Option<Address>| Page { address: address.clone(), ..Page::default() };
            Book {
                health,
                pages: servers.iter().map(|server| page(&server.address)).collect(),
                checked: watch.check.is_some(),
                untold: Vec::new(),
                unaware: Vec::new(),
            }
        };
        let backends = u32::try_from(snapshot.backends.len()).unwrap_or(u32::MAX);
        let books = Mutex::new((0..backends).map(book).collect());
        let told = mailboxes.iter().map(|_| AtomicU64::new(0)).collect();
        Self { snapshot, gauges, mailboxes, books, told, moved: Notify::new() }
    }

    /// A check of a server has ended; an error is a phrase for operators.
    pub(super) fn observe(
        &self,
        id: ServerId,
        outcome: Result<Seen, String>,
        certificate_days: Option<i64>,
    ) {
        let said = match &outcome {
            Ok(seen) => Ok(seen.detail.clone().unwrap_or_default()),
            Err(why) => Err(why.clone()),
        };
        self.with(id, |book, index| {
            book.pages[index].last_check = Some((SystemTime::now(), said));
            book.pages[index].certificate_days = certificate_days;
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
            let weight = weight.min(WEIGHT_MAX);
            if before != weight {
                let reason = "ordered by an operator";
                say(format_args!("server {name} has weight {weight} (was {before}): {reason}"));
                let (from, to) = (format!("weight {before}"), format!("weight {weight}"));
                book.pages[index].record(from, to, reason.to_owned());
            }
            book.health.set_weight(index, weight);
            Vec::new()
        });
    }

    /// A server is out for what its sessions met, or in again.
    pub(super) fn set_ejected(&self, id: ServerId, ejected: bool, why: &str) {
        self.with(id, |book, index| book.health.set_ejected(index, ejected, why));
    }

    /// A server has another address from now on, or none, or its name says something else of it.
    pub(super) fn set_address(&self, id: ServerId, found: Option<Found>, why: &str) {
        let name = self.snapshot.full_name(id);
        let gauge = self.gauges.server(id);
        let shards = self.mailboxes.len();
        self.with(id, |book, index| {
            let address = found.map(|found| Address::Inet(found.address));
            let (named, backup) = found.map_or((None, false), |found| (found.weight, found.backup));
            let page = &mut book.pages[index];
            if page.address == address {
                let before = book.health.weight(index);
                book.health.named(index, named, backup);
                let now = book.health.weight(index);
                if now != before {
                    say(format_args!("server {name} has weight {now} (was {before}): {why}"));
                }
                return Vec::new();
            }
            let (from, to) = (place(page.address.as_ref()), place(address.as_ref()));
            say(format_args!("server {name} is {to} (was {from}): {why}"));
            page.record(from, to, why.to_owned());
            page.address = address;
            page.last_check = None;
            let mut changes = book.health.moved(index, found.is_some(), why);
            book.health.named(index, named, backup);
            // Nobody has failed to connect there yet.
            gauge.answered();
            for shard in 0..shards {
                if !book.unaware.contains(&(shard, index)) {
                    book.unaware.push((shard, index));
                }
            }
            // Its own change has been said, and ends no session.
            changes.retain(|change| change.server != index);
            changes
        });
        self.moved.notify_waiters();
    }

    /// Speaks again to shards whose mailboxes were full; whether all have been told everything.
    pub(super) fn tell_again(&self, backend: BackendId) -> bool {
        self.with(self.snapshot.backend(backend).first_server, |_, _| Vec::new());
        let books = self.lock();
        let book = &books[backend.0 as usize];
        book.untold.is_empty() && book.unaware.is_empty()
    }

    /// Where a server is now.
    pub(super) fn address(&self, id: ServerId) -> Option<Address> {
        let (backend, index) = self.place(id);
        self.lock()[backend.0 as usize].pages[index].address.clone()
    }

    /// Completes when any server has got another address after this was called.
    pub(super) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
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
            address: page.address.clone(),
            state: book.health.state(index)?,
            checked: book.checked,
            lag: book.health.lag(index),
            weight: book.health.weight(index),
            orders: self.gauges.server(id).orders(),
            last_check: page.last_check.clone(),
            certificate_days: page.certificate_days,
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
        // Before it is open there.
        book.unaware.retain(|(shard, index)| {
            let (server, address) = (ServerId(first + *index as u32), &book.pages[*index].address);
            let moved = Message::Moved { server, address: address.clone().map(Box::new) };
            self.mailboxes[*shard].post(moved).is_err()
        });
        let ended = book.health.ended_by(&changes);
        let fences = ended.iter().any(|ended| ended.how == Ending::Fence);
        if fences {
            // Nobody is to write anywhere else before the last one has stopped writing there.
            self.publish(book, first, Orders::closed_for_primary);
        } else {
            self.publish(book, first, |orders| orders);
        }
        self.tell(book, first, ended);
        if fences {
            self.wait_until_heard(book);
            self.publish(book, first, |orders| orders);
        }
        if let Some(queue) = self.gauges.queue(backend) {
            queue.call_next(backend, &self.mailboxes);
        }
        for change in changes {
            let name = self.snapshot.full_name(ServerId(first + change.server as u32));
            say(format_args!(
                "server {name} is {} (was {}): {}",
                change.to, change.from, change.reason
            ));
            let (from, to) = (change.from.to_string(), change.to.to_string());
            book.pages[change.server].record(from, to, change.reason);
        }
    }

    /// Says what each server of a backend may take.
    fn publish(&self, book: &Book, first: u32, but: fn(Orders) -> Orders) {
        for (index, id) in (0..book.pages.len()).zip(first..) {
            let orders = book.health.orders(index, Instant::now());
            self.gauges.server(ServerId(id)).order(but(orders));
        }
    }

    /// Tells shards which sessions end.
    fn tell(&self, book: &mut Book, first: u32, ended: Vec<Ended>) {
        let shards = self.mailboxes.len();
        for word in ended.into_iter().flat_map(|ended| (0..shards).map(move |n| (n, ended))) {
            // Said once more it means the same: so the list has an end.
            if !book.untold.contains(&word) {
                book.untold.push(word);
            }
        }
        book.untold.retain(|(shard, ended)| {
            let server = ServerId(first + ended.server as u32);
            let Ended { role, how, why, .. } = *ended;
            let message = Message::EndSessions { server, role, how, why };
            let told = self.mailboxes[*shard].post(message).is_ok();
            if told {
                self.told[*shard].fetch_add(1, Ordering::Relaxed);
            }
            !told
        });
    }

    /// Waits until every shard has ended whom it was told to end, for a moment at most: one that is
    /// held up for longer must not keep the others from the new primary.
    fn wait_until_heard(&self, book: &Book) {
        let until = Instant::now() + HEARD_PATIENCE;
        let is_behind =
            |shard: usize| self.gauges.heard(shard) < self.told[shard].load(Ordering::Relaxed);
        while book.untold.is_empty()
            && (0..self.mailboxes.len()).any(is_behind)
            && Instant::now() < until
        {
            thread::sleep(HEARD_STEP);
        }
    }
}

impl Page {
    fn record(&mut self, from: String, to: String, reason: String) {
        if self.changes.len() == CHANGES_KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(Recorded { at: SystemTime::now(), from, to, reason });
    }
}

/// Where a server is, in words.
fn place(address: Option<&Address>) -> String {
    address.map_or_else(|| Health::Absent.name().to_owned(), |address| format!("at {address}"))
}
