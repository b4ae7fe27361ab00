//! Sums of the shards' counters, for everything that publishes or judges them.

use ringlane_core::counters::{
    AffinityCounters, BackendCounters, FrontendCounters, QueueCounters, ServerCounters,
};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};

use crate::control::Running;

/// Sessions that a frontend may have at once; one without a limit of its own has the process's.
pub(in crate::control) fn frontend_max(running: &Running, id: FrontendId) -> u32 {
    running.gauges.frontend(id).max().min(running.gauges.process.max())
}

/// Sums a counter of one frontend over all shards.
pub(in crate::control) fn frontend_total(
    running: &Running,
    id: FrontendId,
    read: fn(&FrontendCounters) -> u64,
) -> u64 {
    running.counters.iter().map(|shard| read(shard.frontend(id))).sum()
}

/// Sums a counter of one server over all shards.
pub(in crate::control) fn server_total(
    running: &Running,
    id: ServerId,
    read: fn(&ServerCounters) -> u64,
) -> u64 {
    running.counters.iter().map(|shard| read(shard.server(id))).sum()
}

/// Sums a counter of one backend's affinity table over all shards.
pub(in crate::control) fn affinity_total(
    running: &Running,
    id: BackendId,
    read: fn(&AffinityCounters) -> u64,
) -> u64 {
    running.counters.iter().map(|shard| read(shard.affinity(id))).sum()
}

/// Sums a counter of one backend's queue over all shards.
pub(in crate::control) fn queue_total(
    running: &Running,
    id: BackendId,
    read: fn(&QueueCounters) -> u64,
) -> u64 {
    running.counters.iter().map(|shard| read(shard.queue(id))).sum()
}

/// Sums a counter of one backend over all shards.
pub(in crate::control) fn backend_total(
    running: &Running,
    id: BackendId,
    read: fn(&BackendCounters) -> u64,
) -> u64 {
    running.counters.iter().map(|shard| read(shard.backend(id))).sum()
}
