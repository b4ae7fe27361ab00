//! The states of all servers: results of checks, orders of operators, addresses.
//!
//! Kept by the control thread and the admin API; shards read one word per server in `gauges`, which
//! is written only here. `ringlane_health` decides which sessions a server may take. Invariants:
//! every change of a state is logged once and kept, the last [`CHANGES_KEPT`] of each server; the
//! cost of a change does not grow with the number of servers of its backend; nothing waits with the
//! lock held; while sessions are being fenced no server of their backend takes sessions that want
//! the primary, until every shard has ended them or [`FENCE_MAX`] is over. Next: `outbox`, `known`.

pub(super) mod alarms;
mod blocking;
pub(super) mod checks;
pub(super) mod follow;
mod known;
pub mod names;
mod outbox;
pub(super) mod outliers;
pub(super) mod rates;
pub(super) mod tasks;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ringlane_core::counters::Ending;
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::machine::Address;
use ringlane_core::settings::OrderedState::Ready;
use ringlane_core::settings::{RoleWanted, Server, Snapshot};
use ringlane_core::shared::{Eligibility, Gauges};
use ringlane_health::addresses::Found;
use ringlane_health::{Admin, Backend, Change, Ended, Health, Seen, State};
use ringlane_shard::{Mailbox, Message};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::sleep;

use super::traffic::buckets::Timings;
use crate::config::Watch;
use crate::control::log;
use crate::control::log::{Level, Notice};
pub use known::{History, Known, Recorded};
use outbox::Outbox;

/// The longest time for which a new primary stays closed until all shards have ended the sessions
/// of the old one: longer than a busy machine leaves a thread without its core.
const FENCE_MAX: Duration = Duration::from_secs(1);

/// The pause between two looks at what shards have yet to take or to do.
const DELIVERY_STEP: Duration = Duration::from_millis(1);

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
    backends: Mutex<Vec<BackendState>>,
    /// How long the checks of each backend took.
    check_times: Vec<Arc<Timings>>,
    /// Orders to end sessions that each shard was sent.
    sent: Arc<[AtomicU64]>,
    /// Each server has got another address.
    moved: Vec<Arc<Notify>>,
    /// In each backend a server warms up.
    warming: Vec<Arc<Notify>>,
    /// Shards have yet to take something, or to end sessions.
    undelivered: Notify,
    /// A newer configuration has taken the states over: nothing changes them here any more.
    is_superseded: AtomicBool,
}

/// One backend.
#[derive(Debug)]
struct BackendState {
    id: BackendId,
    first: ServerId,
    health: Backend,
    servers: Vec<ServerState>,
    checked: bool,
    outbox: Outbox,
    /// Number of shutdown orders that each shard had been sent when the last of this backend was
    /// sent.
    sent: Vec<u64>,
    /// Until when its primary is kept closed at most, while sessions are being fenced.
    fenced_until: Option<Instant>,
}

/// One server.
#[derive(Clone, Debug, Default)]
struct ServerState {
    address: Option<Address>,
    changes: VecDeque<Recorded>,
    last_check: Option<(SystemTime, Result<String, String>)>,
    /// Days that the certificate has left which the last check met, if it met one.
    certificate_days: Option<i64>,
    /// Number of checks, and of failed ones.
    checks: [u64; 2],
    /// How long its present or last ejection is.
    ejected_for: Option<Duration>,
}

impl Servers {
    /// No server has been checked yet, and all are ready.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        gauges: Arc<Gauges>,
        mailboxes: Arc<[Mailbox]>,
        watches: &[Watch],
    ) -> Self {
        let shards = mailboxes.len();
        let backend = |id| {
            let watch = watches.get(id as usize).cloned().unwrap_or_default();
            BackendState::new(&snapshot, BackendId(id), &watch, &gauges, shards)
        };
        let backends = u32::try_from(snapshot.backends.len()).unwrap_or(u32::MAX);
        Self {
            backends: Mutex::new((0..backends).map(backend).collect()),
            check_times: snapshot.backends.iter().map(|_| Arc::default()).collect(),
            sent: mailboxes.iter().map(|_| AtomicU64::new(0)).collect(),
            moved: snapshot.servers.iter().map(|_| Arc::default()).collect(),
            warming: snapshot.backends.iter().map(|_| Arc::default()).collect(),
            undelivered: Notify::new(),
            is_superseded: AtomicBool::new(false),
            snapshot,
            gauges,
            mailboxes,
        }
    }

    /// The settings of the servers.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How long the checks of a backend's servers took.
    pub(super) fn check_times(&self, id: BackendId) -> &Timings {
        &self.check_times[id.0 as usize]
    }

    /// A check of a server has ended; an error is a phrase for operators.
    pub(super) fn observe(
        &self,
        id: ServerId,
        outcome: Result<Seen, String>,
        certificate_days: Option<i64>,
    ) {
        if let (Err(why), true) = (&outcome, log::is_wanted(Level::Debug)) {
            self.log(id, Level::Debug, "check_failed", &format!("check failed: {why}"));
        }
        let result = match &outcome {
            Ok(seen) => Ok(seen.detail.clone().unwrap_or_default()),
            Err(why) => Err(why.clone()),
        };
        self.with(id, |state, index| {
            let [checks, failed] = &mut state.servers[index].checks;
            *checks += 1;
            *failed += u64::from(result.is_err());
            state.servers[index].last_check = Some((SystemTime::now(), result));
            state.servers[index].certificate_days = certificate_days;
            state.health.observe(index, outcome, Instant::now())
        });
    }

    /// A server could not be checked, for want of something that this machine ran out of: its state
    /// stays as it is.
    pub(super) fn check_impossible(&self, id: ServerId, why: String) {
        let (backend, index) = self.locate(id);
        let server = &mut self.lock()[backend.0 as usize].servers[index];
        server.last_check = Some((SystemTime::now(), Err(format!("{why} (not counted)"))));
    }

    /// Whether the last checks of a server contradict its state.
    pub(super) fn is_changing(&self, id: ServerId) -> bool {
        let (backend, index) = self.locate(id);
        self.lock()[backend.0 as usize].health.is_changing(index)
    }

    /// An operator orders a state.
    pub fn set_admin(&self, id: ServerId, admin: Admin, by: &str) {
        let reason = ordered(by);
        self.with(id, |state, index| state.health.set_admin(index, admin, &reason));
    }

    /// An operator orders a weight, at most [`WEIGHT_MAX`], or takes that order back.
    pub fn set_weight(&self, id: ServerId, weight: Option<u32>, by: &str) {
        let reason = ordered(by);
        self.with(id, |state, index| {
            let before = state.health.weight(index);
            state.health.set_weight(index, weight.map(|weight| weight.min(WEIGHT_MAX)));
            let weight = state.health.weight(index);
            if before != weight {
                let text = format!("has weight {weight} (was {before}): {reason}");
                self.log(id, Level::Info, "server_weight", &text);
                let (from, to) = (format!("weight {before}"), format!("weight {weight}"));
                state.servers[index].record(from, to, reason.clone());
            }
            Vec::new()
        });
    }

    /// Ejects a server for this long because of its sessions, or, without a time, ends its
    /// ejection.
    pub(super) fn set_ejected(&self, id: ServerId, time: Option<Duration>, why: &str) {
        self.with(id, |state, index| {
            state.servers[index].ejected_for = time;
            state.health.set_ejected(index, time.is_some(), why)
        });
    }

    /// Sets a server's address, weight and backup flag as its DNS name gives them; `None`: it has
    /// no address.
    pub(super) fn set_address(&self, id: ServerId, found: Option<Found>, why: &str) {
        let gauge = self.gauges.server(id);
        self.with(id, |state, index| {
            let address = found.map(|found| Address::Inet(found.address));
            let (named, backup) = found.map_or((None, false), |found| (found.weight, found.backup));
            let server = &mut state.servers[index];
            if server.address == address {
                let before = state.health.weight(index);
                state.health.named(index, named, backup);
                let now = state.health.weight(index);
                if now != before {
                    let text = format!("has weight {now} (was {before}): {why}");
                    self.log(id, Level::Info, "server_weight", &text);
                }
                return Vec::new();
            }
            let (from, to) =
                (address_text(server.address.as_ref()), address_text(address.as_ref()));
            let text = format!("is {to} (was {from}): {why}");
            self.log(id, Level::Info, "server_moved", &text);
            server.record(from, to, why.to_owned());
            server.address = address;
            server.last_check = None;
            let mut changes = state.health.moved(index, found.is_some(), why);
            state.health.named(index, named, backup);
            // No connect to the new address has failed yet.
            gauge.answered();
            state.outbox.add_move(index);
            // The move itself is logged above and ends no session.
            changes.retain(|change| change.server != index);
            changes
        });
        self.moved[id.0 as usize].notify_waiters();
    }

    /// Where a server is now.
    pub(super) fn address(&self, id: ServerId) -> Option<Address> {
        let (backend, index) = self.locate(id);
        self.lock()[backend.0 as usize].servers[index].address.clone()
    }

    /// How long ago a server was checked last, if it was.
    pub(super) fn since_check(&self, id: ServerId) -> Option<Duration> {
        let (backend, index) = self.locate(id);
        let last_check = &self.lock()[backend.0 as usize].servers[index].last_check;
        last_check.as_ref()?.0.elapsed().ok()
    }

    /// Where each server is now, by its id.
    pub(super) fn addresses(&self) -> Vec<Option<Address>> {
        let backends = self.lock();
        let servers = backends.iter().flat_map(|backend| &backend.servers);
        servers.map(|server| server.address.clone()).collect()
    }

    /// Completes when a server has got another address after this was called.
    pub(super) fn moved(&self, id: ServerId) -> Notified<'_> {
        self.moved[id.0 as usize].notified()
    }

    /// Completes when a server of a backend has begun to warm up.
    pub(super) async fn warming(&self, backend: BackendId) {
        self.warming[backend.0 as usize].notified().await;
    }

    /// Advances the time of a backend's servers; returns when to do so again.
    pub(super) fn pass(&self, backend: BackendId) -> Option<Duration> {
        let first = self.snapshot.backend(backend).first_server;
        let now = Instant::now();
        let mut next = None;
        self.with(first, |state, _| {
            let changes = state.health.pass(now);
            next = state.health.poll_timeout(now);
            changes
        });
        next.map(|next| next.saturating_duration_since(now))
    }

    /// Delivers to shards what their mailboxes had no room for, and opens backends after a fence,
    /// until the future is dropped.
    pub(super) async fn deliver(&self) {
        loop {
            self.undelivered.notified().await;
            while !self.deliver_now(Instant::now()) {
                sleep(DELIVERY_STEP).await;
            }
        }
    }

    /// One round of it; whether nothing is left to do.
    fn deliver_now(&self, now: Instant) -> bool {
        let mut backends = self.lock();
        let due = |state: &&mut BackendState| state.is_undelivered();
        backends.iter_mut().filter(due).fold(true, |all, state| {
            self.publish(state, now);
            self.send_endings(state);
            all & !state.is_undelivered()
        })
    }

    /// Logs a line about a server; the text follows its name.
    fn log(&self, id: ServerId, level: Level, event: &'static str, text: &str) {
        let text = format!("server {} {text}", self.snapshot.full_name(id));
        let (backend, server) = (self.locate(id).0, &self.snapshot.server(id).name);
        let backend = &self.snapshot.backend(backend).name;
        log::write(&Notice::new(level, event, text).backend(backend).server(server));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BackendState>> {
        // Nothing that panics is called with it held; what is inside is whole at any time.
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backend of a server, and its place there.
    fn locate(&self, id: ServerId) -> (BackendId, usize) {
        let backend = self.snapshot.server(id).backend;
        (backend, self.snapshot.index_in_backend(id))
    }

    /// Does something that may change states, then records and publishes what came of it.
    fn with(&self, id: ServerId, change: impl FnOnce(&mut BackendState, usize) -> Vec<Change>) {
        let (backend, index) = self.locate(id);
        let now = Instant::now();
        let mut backends = self.lock();
        if self.is_superseded.load(Ordering::Relaxed) {
            return;
        }
        let state = &mut backends[backend.0 as usize];
        let primary = state.health.primary();
        let changes = change(state, index);
        let ended = state.health.ended_by(&changes);
        // If the primary stays the same, as when a replica fails, no session writes anywhere else.
        if state.health.primary() != primary && ended.iter().any(fences_writers) {
            // No session may write to the new primary before the last one has stopped writing to
            // the old one.
            state.fenced_until = Some(now + FENCE_MAX);
        }
        ended.into_iter().for_each(|ended| state.outbox.add_ending(ended));
        self.publish(state, now);
        self.send_endings(state);
        if state.is_undelivered() {
            self.undelivered.notify_one();
        }
        if changes.iter().any(|change| change.to.health == Health::Warming) {
            self.warming[backend.0 as usize].notify_one();
        }
        for mut change in changes {
            let id = ServerId(state.first.0 + change.server as u32);
            for end in [&mut change.from, &mut change.to] {
                end.health = known::health(end.health, state.checked, self.gauges.server(id));
            }
            let server = &mut state.servers[change.server];
            let text = sentence(&change, server.ejected_for, server.checks[0]);
            self.log(id, level(&change.from, &change.to), "server_changed", &text);
            let (from, to) = (change.from.to_string(), change.to.to_string());
            server.record(from, to, change.reason);
        }
    }

    /// Publishes the eligibility of the servers whose eligibility may have changed. A server whose
    /// address some shard does not have yet takes no sessions.
    fn publish(&self, state: &mut BackendState, now: Instant) {
        let BackendState { first, servers, outbox, .. } = state;
        let server_id = |index: usize| ServerId(first.0 + index as u32);
        let reached = outbox.send_moves(|shard, index| {
            let address = servers[index].address.clone().map(Box::new);
            let server = self.gauges.server_tag(server_id(index));
            self.mailboxes[shard].post(Message::Moved { server, address }).is_ok()
        });
        let mut updated = state.health.take_updated();
        updated.extend(reached);
        // Of all servers it is the only one that being fenced, or no longer, makes a difference to.
        updated.extend(state.health.primary());
        let is_fenced = self.is_fenced(state, now);
        for index in updated {
            let eligibility = match state.health.eligibility(index, now) {
                _ if state.outbox.has_move(index) => Eligibility::CLOSED,
                open if is_fenced => open.closed_for_primary(),
                open => open,
            };
            let gauge = self.gauges.server(ServerId(state.first.0 + index as u32));
            // Storing an equal value would only evict it from the shards' caches.
            if gauge.eligibility() != eligibility {
                gauge.set_eligibility(eligibility);
            }
        }
        if let Some(queue) = self.gauges.queue(state.id) {
            let backend = self.gauges.backend_tag(state.id);
            queue.call_next(|line, shard| {
                // The first of a line looks by itself before long.
                let _ = self.mailboxes[shard].post(Message::PlaceFree { backend, line });
            });
        }
    }

    /// Whether sessions of a backend are still being fenced: shards have yet to end them, and it is
    /// not for too long.
    fn is_fenced(&self, state: &mut BackendState, now: Instant) -> bool {
        let shards = || state.sent.iter().enumerate();
        let is_behind =
            |(shard, sent): (usize, &u64)| self.gauges.common.acknowledged(shard) < *sent;
        let awaits = state.outbox.has_endings() || shards().any(is_behind);
        if awaits && state.fenced_until.is_some_and(|until| now >= until) {
            self.log_overdue(state);
        }
        state.fenced_until = state.fenced_until.filter(|until| awaits && now < *until);
        state.fenced_until.is_some()
    }

    /// Logs that a primary opens although some shard may still have sessions with the one before.
    fn log_overdue(&self, state: &BackendState) {
        let backend = &self.snapshot.backend(state.id).name;
        let text = format!(
            "backend {backend}: {FENCE_MAX:?} after the fence some shards still have sessions with the \
             former primary; new sessions that write are admitted anyway"
        );
        log::write(&Notice::new(Level::Warning, "fence_overdue", text).backend(backend));
    }

    /// Sends shards which sessions end.
    fn send_endings(&self, state: &mut BackendState) {
        let BackendState { first, outbox, sent, .. } = state;
        outbox.send_endings(|shard, ended| {
            let Ended { role, how, why, .. } = ended;
            let id = ServerId(first.0 + ended.server as u32);
            let sessions = self.gauges.server(id).sessions();
            let server = self.gauges.server_tag(id);
            let message = Message::EndSessions { server, sessions, role, how, why };
            let taken = self.mailboxes[shard].post(message).is_ok();
            if taken {
                sent[shard] = self.sent[shard].fetch_add(1, Ordering::Relaxed) + 1;
            }
            taken
        });
    }
}

impl BackendState {
    /// Servers of which nothing is known yet.
    fn new(
        snapshot: &Snapshot,
        id: BackendId,
        watch: &Watch,
        gauges: &Gauges,
        shards: usize,
    ) -> Self {
        let servers = snapshot.servers_of(id);
        let mut health = Backend::new(watch.rules, servers.iter().map(|server| server.weight));
        for (index, _) in servers.iter().enumerate().filter(|(_, s)| s.address.is_none()) {
            // What it begins as is no change.
            let _ = health.moved(index, false, "");
        }
        let ids = snapshot.ids_of(id).enumerate().zip(servers);
        for ((index, id), server) in ids.filter(|(_, server)| server.state != Ready) {
            let _ = health.set_admin(index, server.state.into(), "the configuration");
            gauges.server(id).set_eligibility(health.eligibility(index, Instant::now()));
        }
        Self {
            id,
            first: snapshot.backend(id).first_server,
            health,
            servers: servers.iter().map(ServerState::at).collect(),
            checked: watch.check.is_some(),
            outbox: Outbox::new(shards),
            sent: vec![0; shards],
            fenced_until: None,
        }
    }

    /// Whether shards have yet to take something, or to end sessions that are fenced.
    fn is_undelivered(&self) -> bool {
        self.fenced_until.is_some() || !self.outbox.is_empty()
    }
}

impl ServerState {
    /// One of which no more is known than where it is configured.
    fn at(settings: &Server) -> Self {
        Self { address: settings.address.clone(), ..Self::default() }
    }

    fn record(&mut self, from: String, to: String, reason: String) {
        if self.changes.len() == CHANGES_KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(Recorded { at: SystemTime::now(), from, to, reason });
    }
}

/// Why a state or a weight is as it is: it was ordered, by this caller.
fn ordered(by: &str) -> String {
    format!("ordered by an operator ({by})")
}

/// Whether sessions are to end at once among which are some that write.
fn fences_writers(ended: &Ended) -> bool {
    ended.how == Ending::Fence && ended.role != RoleWanted::Replica
}

/// A change of a server's state, to follow its name; it has been checked so many times.
fn sentence(change: &Change, ejected_for: Option<Duration>, checks: u64) -> String {
    let Change { from, to, reason, .. } = change;
    let is_down = (from.health, to.health) == (Health::Up, Health::Down);
    match (from.ejected, to.ejected, ejected_for) {
        // Servers begin as up, which nobody has seen.
        _ if is_down && checks == 1 => format!("is {to} at its first check: {reason}"),
        (false, true, Some(time)) => format!("ejected for {time:?} (was {from}): {reason}"),
        (true, false, _) => format!("is no longer ejected (now {to}): {reason}"),
        _ => format!("is {to} (was {from}): {reason}"),
    }
}

/// The level of a change of a server's state: loss of capacity or trust is a warning.
fn level(from: &State, to: &State) -> Level {
    let lost = |state: &State| {
        let is_out = matches!(state.health, Health::Down | Health::Absent);
        [is_out, state.ejected, state.stale, state.diverged, state.in_conflict]
    };
    let is_worse = lost(from).into_iter().zip(lost(to)).any(|(before, now)| now && !before);
    if is_worse { Level::Warning } else { Level::Info }
}

/// A server's address for log lines.
fn address_text(address: Option<&Address>) -> String {
    address.map_or_else(|| Health::Absent.name().to_owned(), |address| format!("at {address}"))
}
