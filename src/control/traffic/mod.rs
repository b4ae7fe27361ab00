//! What shards count and publish, for the readers on the control side.
//!
//! Sums over all shards are in `totals`, merged histograms in `latency` (quantiles) and `buckets`
//! (Prometheus). Not here: knowledge of servers from other sources than sessions (`servers`), pages
//! (`report`). Invariant: `counters` and `cpus` have one entry per shard, at the shard's index.

pub(super) mod buckets;
pub(super) mod latency;
pub(super) mod threads;
pub(super) mod totals;

use std::sync::Arc;
use std::time::Instant;

use ringlane_core::counters::ShardCounters;
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::Gauges;

/// The settings, the live numbers and the counters of all shards. Clones share them.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The settings that shards serve.
    pub snapshot: Arc<Snapshot>,
    /// Live numbers, shared by all shards.
    pub gauges: Arc<Gauges>,
    /// What each shard counted.
    pub counters: Arc<[Arc<ShardCounters>]>,
    /// The core that each shard is pinned to; `None` for one that the scheduler may move.
    pub cpus: Arc<[Option<usize>]>,
}

impl Traffic {
    /// Zeros, for a shard on each of these cores.
    pub(super) fn new(snapshot: Snapshot, cpus: Vec<Option<usize>>) -> Self {
        let counters = cpus.iter().map(|_| Arc::new(ShardCounters::new(&snapshot))).collect();
        Self {
            gauges: Arc::new(Gauges::new(&snapshot, cpus.len(), Instant::now())),
            counters,
            snapshot: Arc::new(snapshot),
            cpus: cpus.into(),
        }
    }

    /// How many shards serve.
    pub fn shards(&self) -> usize {
        self.cpus.len()
    }
}
