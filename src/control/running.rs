//! The parts of a running balancer, put together at start and again for each configuration.
//!
//! A function takes the parts that it uses; only what reports everything takes them all: the status
//! page, the metrics, the admin API. Not here: threads, sockets, start-up (`run::supervisor`).
//! Invariants: every part is shared, so that a
//! clone is as good as the original; the parts of one [`Running`] are of one configuration, and
//! [`Current`] has those of the one that is served.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ringlane_core::balance::HashTable;
use ringlane_core::ids::ServerId;
use ringlane_core::machine::sys::DriverKind;
use ringlane_core::settings::Snapshot;
use ringlane_shard::Mailbox;

use super::Life;
use super::changes::Overlay;
use super::log::sink::RecordsLost;
use super::report::admin::Access;
use super::run::publish::{self, Logs};
use super::run::requests::Requests;
use super::servers::Servers;
use super::servers::follow::Newer;
use super::servers::names::Names;
use super::start::Listening;
use super::traffic::Traffic;
use super::traffic::threads::Threads;
use crate::config::{Global, Lookup, Resolver, Watch};

/// All parts of one running balancer.
#[derive(Clone, Debug)]
pub struct Running {
    /// Settings, live numbers and counters of the shards.
    pub traffic: Traffic,
    /// States of the servers.
    pub(super) servers: Arc<Servers>,
    /// How they are checked.
    pub(super) watches: Arc<[Watch]>,
    /// Servers that are configured by DNS name.
    pub(super) names: Arc<Names>,
    /// Addresses of the listeners.
    pub listening: Arc<Listening>,
    /// Stage and age of the process.
    pub life: Arc<Life>,
    /// Its threads.
    pub(super) threads: Arc<Threads>,
    /// Access-log records that their destination refused.
    pub(super) records_lost: RecordsLost,
    /// What operators changed at run time.
    pub(super) overlay: Arc<Overlay>,
    /// Who may use the admin API.
    pub(super) access: Arc<Access>,
    /// What carries out the shards' operations.
    pub(super) driver: DriverKind,
    /// The settings of all configurations that sessions still have.
    pub(super) snapshots: Arc<Snapshots>,
    /// The tables of backends that are balanced by hash.
    pub(super) tables: Arc<[HashTable]>,
    /// Where requests for another configuration go.
    pub(super) reloads: Requests,
    /// How it terminates.
    pub(super) shutdown: Shutdown,
    /// Where shards put finished sessions for the access log.
    pub(super) logs: Logs,
    /// How to send messages to each shard.
    pub(super) mailboxes: Arc<[Mailbox]>,
}

impl Running {
    /// A balancer that is about to start, with a shard on each of these cores.
    ///
    /// # Errors
    /// When the process has no descriptor left for the mailboxes.
    pub(super) fn new(
        config: Served,
        driver: DriverKind,
        cpus: Vec<Option<usize>>,
        listening: Listening,
        reloads: Requests,
    ) -> io::Result<Self> {
        let Served { snapshot, watches, lookups, resolver, shutdown } = config;
        let mailboxes = cpus.iter().map(|_| Mailbox::new()).collect::<io::Result<Vec<_>>>()?;
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let traffic = Traffic::new(snapshot, cpus);
        let (snapshot, gauges) = (Arc::clone(&traffic.snapshot), Arc::clone(&traffic.gauges));
        let snapshots = Snapshots::default();
        snapshots.add(&snapshot);
        Ok(Self {
            names: Arc::new(Names::new(lookups, snapshot.servers.len(), resolver.hold)),
            servers: Arc::new(Servers::new(snapshot, gauges, Arc::clone(&mailboxes), &watches)),
            watches: watches.into(),
            listening: Arc::new(listening),
            life: Arc::new(Life::begin()),
            threads: Arc::new(Threads::new(traffic.shards())),
            logs: publish::logs(&traffic.snapshot, traffic.shards()),
            tables: HashTable::of_all(&traffic.snapshot, None),
            snapshots: Arc::new(snapshots),
            traffic,
            records_lost: RecordsLost::default(),
            overlay: Arc::default(),
            access: Arc::default(),
            driver,
            mailboxes,
            shutdown,
            reloads,
        })
    }

    /// A balancer that no thread serves.
    #[cfg(test)]
    pub(super) fn for_test(
        snapshot: Snapshot,
        lookups: Vec<Lookup>,
        driver: DriverKind,
        cpus: Vec<Option<usize>>,
        listening: Listening,
    ) -> Self {
        let resolver = Resolver::default();
        let shutdown = Shutdown { delay: Duration::ZERO, drain: Duration::ZERO };
        let served = Served { snapshot, watches: Vec::new(), lookups, resolver, shutdown };
        let (requests, _) = Requests::channel();
        Self::new(served, driver, cpus, listening, requests).unwrap()
    }

    /// The same balancer with a newer configuration.
    pub(super) fn follow(&self, newer: NewerParts<'_>) -> Self {
        let NewerParts { snapshot, watches, names, renamed, listening, tables, shutdown } = newer;
        let traffic = self.traffic.follow(snapshot);
        let servers = self.servers.follow(Newer {
            snapshot: Arc::clone(&traffic.snapshot),
            gauges: Arc::clone(&traffic.gauges),
            watches: &watches,
            renamed,
        });
        self.snapshots.add(&traffic.snapshot);
        let same_log = traffic.snapshot.log_sessions == self.traffic.snapshot.log_sessions;
        Self {
            logs: match same_log {
                true => Arc::clone(&self.logs),
                false => publish::logs(&traffic.snapshot, traffic.shards()),
            },
            servers: Arc::new(servers),
            watches: watches.into(),
            names,
            listening: Arc::new(listening),
            tables,
            traffic,
            shutdown,
            ..self.clone()
        }
    }
}

/// What a newer configuration brings along.
#[derive(Debug)]
pub(super) struct NewerParts<'a> {
    /// Settings of frontends, backends and servers.
    pub(super) snapshot: Snapshot,
    /// How servers are checked.
    pub(super) watches: Vec<Watch>,
    /// Servers that are configured by name.
    pub(super) names: Arc<Names>,
    /// Servers whose address comes from another name than before.
    pub(super) renamed: &'a HashSet<ServerId>,
    /// Addresses of the listeners.
    pub(super) listening: Listening,
    /// The tables of backends that are balanced by hash.
    pub(super) tables: Arc<[HashTable]>,
    /// How the process terminates.
    pub(super) shutdown: Shutdown,
}

/// The part of a configuration that is served, beside its listeners.
#[derive(Debug)]
pub(super) struct Served {
    /// Settings of frontends, backends and servers.
    pub(super) snapshot: Snapshot,
    /// How servers are checked.
    pub(super) watches: Vec<Watch>,
    /// Servers that are configured by name.
    pub(super) lookups: Vec<Lookup>,
    /// How names are resolved.
    pub(super) resolver: Resolver,
    /// How the process terminates.
    pub(super) shutdown: Shutdown,
}

/// How a balancer terminates.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Shutdown {
    /// How long it still accepts sessions after `/healthz` announces the end.
    pub(in crate::control) delay: Duration,
    /// How long sessions may go on after that.
    pub(in crate::control) drain: Duration,
}

impl Shutdown {
    pub(in crate::control) fn of(global: &Global) -> Self {
        Self { delay: global.shutdown_delay, drain: global.drain_timeout }
    }
}

/// The parts of the configuration that is served now. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::control) struct Current(Arc<RwLock<Running>>);

impl Current {
    pub(super) fn new(running: Running) -> Self {
        Self(Arc::new(RwLock::new(running)))
    }

    /// The parts now. What is kept of them is of one configuration, whatever comes after it.
    pub(in crate::control) fn get(&self) -> Running {
        // A clone of counted pointers: nothing can panic with it held.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another configuration is served from now on.
    pub(super) fn set(&self, running: Running) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = running;
    }
}

/// The settings of all configurations that sessions still have, for the names in their records.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Vec<KnownSnapshot>>);

#[derive(Debug)]
struct KnownSnapshot {
    snapshot: Arc<Snapshot>,
    /// No session had it at the last look.
    is_unused: bool,
}

impl Snapshots {
    pub(super) fn add(&self, snapshot: &Arc<Snapshot>) {
        let entry = KnownSnapshot { snapshot: Arc::clone(snapshot), is_unused: false };
        self.lock().push(entry);
    }

    /// The oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Snapshot>> {
        self.lock().iter().map(|entry| Arc::clone(&entry.snapshot)).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Forgets those that no session had at this look and the last, so that the records of the last
    /// sessions have been written.
    pub(super) fn prune(&self) {
        self.lock().retain_mut(|entry| {
            let is_unused = Arc::strong_count(&entry.snapshot) == 1;
            !(is_unused && std::mem::replace(&mut entry.is_unused, is_unused))
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<KnownSnapshot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
