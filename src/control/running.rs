//! What a running balancer shows to the rest of the program: the admin API, the access log, the demo.
//!
//! Not here: threads, sockets, start-up (`supervisor`). Everything in it is immutable, or written by
//! the shards and only read here, but for the stage, which has one direction: starting, serving,
//! lame duck, draining, stopping. Invariant: `counters`, `cpus` and `mailboxes` have one entry per shard, at
//! the shard's index; `bound` has one entry per frontend, at the frontend's id.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::unistd::gettid;
use ringlane_core::counters::ShardCounters;
use ringlane_core::ids::ServerId;
use ringlane_core::machine::Address;
use ringlane_core::machine::sys::DriverKind;
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::{Gauges, Mailbox};
use tokio::sync::Notify;

use crate::config::{Lookup, Name, Watch};
use crate::control::report::metrics::Timings;
use crate::control::servers::Servers;
use crate::control::servers::names::Followed;

/// The shared state of one running balancer.
#[derive(Debug)]
pub struct Running {
    /// What is served.
    pub snapshot: Arc<Snapshot>,
    /// Live sessions.
    pub gauges: Arc<Gauges>,
    /// What is known of each server, and decided about it.
    pub servers: Servers,
    /// Those of them that are given by name.
    pub names: Vec<Followed>,
    /// Which of the names each server has its address from.
    name_of_server: Vec<Option<usize>>,
    /// What each shard counted.
    pub counters: Vec<Arc<ShardCounters>>,
    /// What carries the shards' operations out.
    pub driver: DriverKind,
    /// The core that each shard is pinned to; `None` for one that the scheduler may move.
    pub cpus: Vec<Option<usize>>,
    /// How to speak to each shard.
    pub mailboxes: Arc<[Mailbox]>,
    /// Where each frontend listens, with the port that the kernel chose where the configuration
    /// says port 0.
    pub bound: Vec<Vec<Address>>,
    /// The kernel's number of each shard's thread, and last that of the control thread; 0 before it
    /// runs.
    pub(super) threads: Vec<AtomicI32>,
    /// When the control thread last did its work of every second, milliseconds since the start.
    pub(super) control_ticked_ms: AtomicU64,
    /// Access-log records that their destination refused.
    pub log_records_lost: AtomicU64,
    /// How long the checks of each backend took.
    pub(super) check_times: Vec<Timings>,
    /// How much later than it was due the control thread came to something, once a second.
    pub(super) control_lag: Timings,
    started_at: Instant,
    /// The same by the clock on the wall.
    pub(super) started_on: SystemTime,
    stage: AtomicU8,
    asked_to_drain: Notify,
}

/// How far a balancer is in its life.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Stage {
    /// Shards are coming up.
    Starting,
    /// All shards accept sessions.
    Serving,
    /// All shards accept sessions, and `/healthz` says that they soon will not.
    LameDuck,
    /// No session is accepted any more; those that live may finish.
    Draining,
    /// All sessions are being ended.
    Stopping,
}

impl Running {
    /// The state of a balancer of `cpus.len()` shards that is about to start.
    ///
    /// # Errors
    /// When the process has no descriptor left for the mailboxes.
    pub fn new(
        (snapshot, watches, lookups): (Snapshot, &[Watch], Vec<Lookup>),
        driver: DriverKind,
        cpus: Vec<Option<usize>>,
        bound: Vec<Vec<Address>>,
    ) -> io::Result<Self> {
        let shards = cpus.len();
        let mailboxes = (0..shards).map(|_| Mailbox::new()).collect::<io::Result<Vec<_>>>()?;
        let snapshot = Arc::new(snapshot);
        let gauges = Arc::new(Gauges::new(&snapshot, shards, Instant::now()));
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let (known, gauged, mail) =
            (Arc::clone(&snapshot), Arc::clone(&gauges), Arc::clone(&mailboxes));
        let mut name_of_server = vec![None; snapshot.servers.len()];
        for (nth, lookup) in lookups.iter().enumerate() {
            let first = lookup.first.0 as usize;
            name_of_server[first..first + lookup.slots as usize].fill(Some(nth));
        }
        Ok(Self {
            name_of_server,
            servers: Servers::new(known, gauged, mail, watches),
            names: lookups.into_iter().map(Followed::from).collect(),
            gauges,
            check_times: snapshot.backends.iter().map(|_| Timings::default()).collect(),
            control_lag: Timings::default(),
            counters: (0..shards).map(|_| Arc::new(ShardCounters::new(&snapshot))).collect(),
            snapshot,
            driver,
            cpus,
            mailboxes,
            bound,
            threads: (0..=shards).map(|_| AtomicI32::new(0)).collect(),
            control_ticked_ms: AtomicU64::new(0),
            log_records_lost: AtomicU64::new(0),
            started_at: Instant::now(),
            started_on: SystemTime::now(),
            stage: AtomicU8::new(Stage::Starting as u8),
            asked_to_drain: Notify::new(),
        })
    }

    /// The name that gives a server its address, if it is not given by address.
    pub(super) fn name_of(&self, id: ServerId) -> Option<&Name> {
        let nth = self.name_of_server[id.0 as usize]?;
        Some(&self.names[nth].lookup.name)
    }

    /// How many shards serve.
    pub fn shards(&self) -> usize {
        self.cpus.len()
    }

    /// The calling thread is that of a shard, or, without one, the control thread.
    pub(super) fn i_am(&self, shard: Option<usize>) {
        let index = shard.unwrap_or_else(|| self.shards());
        self.threads[index].store(gettid().as_raw(), Ordering::Relaxed);
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Ordering::Relaxed))
    }

    /// Asks the control thread to drain and end, as SIGTERM does. May be called from any thread.
    pub fn drain(&self) {
        self.asked_to_drain.notify_one();
    }

    /// Completes when [`Running::drain`] was called.
    pub(crate) async fn drain_asked(&self) {
        self.asked_to_drain.notified().await;
    }

    /// Goes on to a later stage; never back.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }
}

impl Stage {
    /// The word for people and for `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }

    fn from_u8(value: u8) -> Self {
        [Self::Starting, Self::Serving, Self::LameDuck, Self::Draining]
            .into_iter()
            .find(|stage| *stage as u8 == value)
            .unwrap_or(Self::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_only_go_forward() {
        let snapshot = Snapshot {
            generation: 1,
            max_connections: 1,
            log_sessions: false,
            frontends: Vec::new(),
            backends: Vec::new(),
            servers: Vec::new(),
        };
        let running = Running::new(
            (snapshot, &[], Vec::new()),
            DriverKind::Uring,
            vec![None, Some(1)],
            Vec::new(),
        )
        .unwrap();
        assert_eq!((running.shards(), running.counters.len(), running.mailboxes.len()), (2, 2, 2));
        assert_eq!(running.stage(), Stage::Starting);
        for (enter, then) in [
            (Stage::Serving, Stage::Serving),
            (Stage::LameDuck, Stage::LameDuck),
            (Stage::Stopping, Stage::Stopping),
            (Stage::Draining, Stage::Stopping),
        ] {
            running.enter(enter);
            assert_eq!(running.stage(), then);
        }
    }
}
