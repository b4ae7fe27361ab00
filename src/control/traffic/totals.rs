//! Sums of the shards' counters, for everything that publishes or judges them.

use std::time::Instant;

use ringlane_core::counters::{
    AffinityCounters, BackendCounters, Ending, FrontendCounters, QueueCounters, Reason,
    ServerCounters,
};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};

use super::Traffic;

/// Sessions of a server that were ended because of what became of it, which a stop is not.
pub(in crate::control) fn shut_down(server: &ServerCounters) -> u64 {
    let stopped = [Ending::Drain, Ending::Fence].map(|how| server.ended.get(how, Reason::Stopped));
    // The parts may be ahead of the total by what is being counted.
    server.ended.total().saturating_sub(stopped.iter().sum())
}

impl Traffic {
    /// The limit on open sessions of a frontend: its own or the process's, whichever is lower.
    pub(in crate::control) fn frontend_max(&self, id: FrontendId) -> u32 {
        self.gauges.frontend(id).max().min(self.gauges.common.process.max())
    }

    /// Clients of a backend that are remembered now; 0 for a backend without affinity.
    pub(in crate::control) fn remembered_clients(&self, id: BackendId) -> u64 {
        let now = self.gauges.millis(Instant::now());
        self.gauges.affinity(id).map_or(0, |table| table.entries(now).count() as u64)
    }

    /// Sums a counter of one frontend over all shards.
    pub(in crate::control) fn frontend_total(
        &self,
        id: FrontendId,
        read: fn(&FrontendCounters) -> u64,
    ) -> u64 {
        self.counters.iter().map(|shard| read(shard.frontend(id))).sum()
    }

    /// Sums a counter of one server over all shards.
    pub(in crate::control) fn server_total(
        &self,
        id: ServerId,
        read: fn(&ServerCounters) -> u64,
    ) -> u64 {
        self.counters.iter().map(|shard| read(shard.server(id))).sum()
    }

    /// Sums a counter of one backend's affinity table over all shards.
    pub(in crate::control) fn affinity_total(
        &self,
        id: BackendId,
        read: fn(&AffinityCounters) -> u64,
    ) -> u64 {
        self.counters.iter().map(|shard| read(shard.affinity(id))).sum()
    }

    /// Sums a counter of one backend's queue over all shards.
    pub(in crate::control) fn queue_total(
        &self,
        id: BackendId,
        read: fn(&QueueCounters) -> u64,
    ) -> u64 {
        self.counters.iter().map(|shard| read(shard.queue(id))).sum()
    }

    /// Sums a counter of one backend over all shards.
    pub(in crate::control) fn backend_total(
        &self,
        id: BackendId,
        read: fn(&BackendCounters) -> u64,
    ) -> u64 {
        self.counters.iter().map(|shard| read(shard.backend(id))).sum()
    }
}
