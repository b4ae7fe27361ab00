//! The parts of a running balancer, put together once at start.
//!
//! A function takes the parts that it uses; only what reports everything takes them all: the status
//! page, the metrics, the admin API. Not here: threads, sockets, start-up (`run::supervisor`).
//! Invariant: every part is shared, so that a clone is as good as the original.

use std::io;
use std::sync::Arc;

use ringlane_core::machine::sys::DriverKind;
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::Mailbox;

use super::Life;
use super::changes::Overlay;
use super::log::sink::RecordsLost;
use super::report::admin::Access;
use super::servers::Servers;
use super::servers::names::Names;
use super::start::Listening;
use super::traffic::Traffic;
use super::traffic::threads::Threads;
use crate::config::{Lookup, Watch};

/// All parts of one running balancer.
#[derive(Clone, Debug)]
pub struct Running {
    /// Settings, live numbers and counters of the shards.
    pub traffic: Traffic,
    /// States of the servers.
    pub(super) servers: Arc<Servers>,
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
    /// How to send messages to each shard.
    pub(super) mailboxes: Arc<[Mailbox]>,
}

impl Running {
    /// A balancer that is about to start, with a shard on each of these cores.
    ///
    /// # Errors
    /// When the process has no descriptor left for the mailboxes.
    pub(super) fn new(
        snapshot: Snapshot,
        watches: &[Watch],
        lookups: Vec<Lookup>,
        driver: DriverKind,
        cpus: Vec<Option<usize>>,
        listening: Listening,
    ) -> io::Result<Self> {
        let mailboxes = cpus.iter().map(|_| Mailbox::new()).collect::<io::Result<Vec<_>>>()?;
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let traffic = Traffic::new(snapshot, cpus);
        let (snapshot, gauges) = (Arc::clone(&traffic.snapshot), Arc::clone(&traffic.gauges));
        Ok(Self {
            names: Arc::new(Names::new(lookups, snapshot.servers.len())),
            servers: Arc::new(Servers::new(snapshot, gauges, Arc::clone(&mailboxes), watches)),
            listening: Arc::new(listening),
            life: Arc::new(Life::begin()),
            threads: Arc::new(Threads::new(traffic.shards())),
            traffic,
            records_lost: RecordsLost::default(),
            overlay: Arc::default(),
            access: Arc::default(),
            driver,
            mailboxes,
        })
    }
}
