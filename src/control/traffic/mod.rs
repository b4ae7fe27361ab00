//! What shards count and publish, for the readers on the control side.
//!
//! Sums over all shards are in `totals`, merged histograms in `latency` (quantiles) and `buckets`
//! (Prometheus). Not here: knowledge of servers from other sources than sessions (`servers`), pages
//! (`report`). Invariant: `counters`, `shard_counters` and `cpus` have one entry per shard, at the
//! shard's index.

pub(super) mod buckets;
pub(super) mod latency;
pub(super) mod threads;
pub(super) mod totals;

use std::sync::Arc;
use std::time::Instant;

use ringlane_core::counters::{Counters, ShardCounters};
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::Gauges;

/// The settings, the live numbers and the counters of all shards. Clones share them.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The settings that shards serve.
    pub snapshot: Arc<Snapshot>,
    /// Live numbers, shared by all shards.
    pub gauges: Arc<Gauges>,
    /// What each shard counted of frontends, backends and servers.
    pub counters: Arc<[Counters]>,
    /// What each shard counted of itself.
    pub shard_counters: Arc<[Arc<ShardCounters>]>,
    /// The core that each shard is pinned to; `None` for one that the scheduler may move.
    pub cpus: Arc<[Option<usize>]>,
}

impl Traffic {
    /// Zeros, for a shard on each of these cores.
    pub(super) fn new(snapshot: Snapshot, cpus: Vec<Option<usize>>) -> Self {
        Self {
            gauges: Arc::new(Gauges::new(&snapshot, cpus.len(), Instant::now())),
            counters: cpus.iter().map(|_| Counters::new(&snapshot)).collect(),
            shard_counters: cpus.iter().map(|_| Arc::default()).collect(),
            snapshot: Arc::new(snapshot),
            cpus: cpus.into(),
        }
    }

    /// The same shards with a newer configuration: what is still there by name goes on. Limits hold
    /// at once.
    pub(super) fn follow(&self, snapshot: Snapshot) -> Self {
        let gauges = self.gauges.follow(&self.snapshot, &snapshot, Instant::now());
        let counters = self.counters.iter();
        Self {
            counters: counters
                .map(|own| Counters::follow(&snapshot, Some((own, &self.snapshot))))
                .collect(),
            gauges: Arc::new(gauges),
            snapshot: Arc::new(snapshot),
            ..self.clone()
        }
    }

    /// How many shards serve.
    pub fn shards(&self) -> usize {
        self.cpus.len()
    }
}
