//! `GET /status`: the whole balancer as one JSON page, for people and scripts.
//!
//! Not here: the Prometheus form (`metrics`). Invariants: field names are an interface, so they are
//! only added to; numbers are read one after another while shards go on counting, so that sums may
//! differ by what happened in between.

mod server;
#[cfg(test)]
pub(in crate::control) mod tests;

use std::process;

use ringlane_core::counters::FrontendCounters;
use ringlane_core::ids::{BackendId, FrontendId};
use ringlane_core::settings::BalanceKind;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::{REVISION, VERSION};
use crate::control::Running;
use crate::control::traffic::Traffic;
use crate::control::traffic::latency::Latency;
pub(super) use server::Server;

/// The page.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Status<'a> {
    version: &'static str,
    revision: &'static str,
    generation: u64,
    uptime_seconds: f64,
    state: &'static str,
    pid: u32,
    driver: &'static str,
    sessions_live: u32,
    sessions_max: u32,
    shards: Vec<Shard>,
    frontends: Vec<Frontend<'a>>,
    backends: Vec<Backend<'a>>,
    latency: Latencies,
}

/// One shard.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Shard {
    index: usize,
    cpu: Option<usize>,
    sessions_live: u32,
    turns: u64,
    completions: u64,
    completions_stale: u64,
    buffers_exhausted: u64,
    false_readiness: u64,
    accepts_paused: u64,
    accepts_failed: u64,
    handed_over: u64,
    taken_over: u64,
    splice_entered: u64,
    splice_left: u64,
    log_records_dropped: u64,
}

/// One frontend.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Frontend<'a> {
    name: &'a str,
    bind: Vec<String>,
    backend: &'a str,
    sessions_live: u32,
    /// Of the frontend or the process, whichever is lower; 0 while it is paused.
    sessions_max: u32,
    /// Its own limit in the configuration, if it has one.
    max_connections: Option<u32>,
    /// Its connections wait in the kernel's queue, by order of an operator.
    paused: bool,
    /// An operator changed a setting at run time.
    changed: bool,
    sessions: u64,
    sessions_ended: u64,
    sessions_failed: u64,
    sessions_empty: u64,
    sessions_ended_by_order: u64,
    left_at_gate: u64,
    refused_too_many: u64,
    refused_too_fast: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// One backend.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Backend<'a> {
    name: &'a str,
    balance: &'static str,
    /// Nothing where sessions do not wait.
    queue: Option<Queue>,
    servers: Vec<Server<'a>>,
}

/// Sessions that find no server with room.
#[derive(Debug, JsonSchema, Serialize)]
struct Queue {
    sessions_live: u32,
    size: u32,
    waited: u64,
    expired: u64,
    refused: u64,
}

/// All in microseconds.
#[derive(Debug, JsonSchema, Serialize)]
struct Latencies {
    unit: &'static str,
    session_duration: Quantiles,
    connect_time: Quantiles,
}

#[derive(Debug, JsonSchema, Serialize)]
struct Quantiles {
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    max: u64,
    count: u64,
}

impl<'a> Status<'a> {
    /// The balancer as it is now.
    pub fn of(running: &'a Running) -> Self {
        let Running { traffic, life, driver, .. } = running;
        let (snapshot, process) = (&traffic.snapshot, &traffic.gauges.common.process);
        Self {
            version: VERSION,
            revision: REVISION,
            generation: snapshot.generation,
            uptime_seconds: life.uptime().as_secs_f64(),
            state: life.stage().name(),
            pid: process::id(),
            driver: driver.name(),
            sessions_live: process.live(),
            sessions_max: process.max(),
            shards: Shard::all(running),
            frontends: Frontend::all(running),
            backends: Backend::all(running),
            latency: Latencies {
                unit: "us",
                session_duration: Quantiles::of(&Latency::merge(traffic, |s| &s.session_duration)),
                connect_time: Quantiles::of(&Latency::merge(traffic, |s| &s.connect_time)),
            },
        }
    }
}

impl Shard {
    /// All shards.
    pub(super) fn all(running: &Running) -> Vec<Self> {
        let traffic = &running.traffic;
        (0..traffic.shards()).map(|index| Self::of(traffic, index)).collect()
    }

    fn of(traffic: &Traffic, index: usize) -> Self {
        let counters = &traffic.shard_counters[index];
        Self {
            index,
            cpu: traffic.cpus[index],
            sessions_live: traffic.gauges.common.shard(index),
            turns: counters.event_loop.turns.get(),
            completions: counters.event_loop.completions.get(),
            completions_stale: counters.event_loop.completions_stale.get(),
            buffers_exhausted: counters.event_loop.buffers_exhausted.get(),
            false_readiness: counters.event_loop.false_readiness.get(),
            accepts_paused: counters.accepts_paused.get(),
            accepts_failed: counters.accepts_failed.get(),
            handed_over: counters.handed_over.get(),
            taken_over: counters.taken_over.get(),
            splice_entered: counters.splice_entered.get(),
            splice_left: counters.splice_left.get(),
            log_records_dropped: counters.log_dropped.get(),
        }
    }
}

impl<'a> Frontend<'a> {
    /// All frontends.
    pub(super) fn all(running: &'a Running) -> Vec<Self> {
        (0..).map(FrontendId).map_while(|id| Self::of(running, id)).collect()
    }

    /// One of them.
    pub(super) fn of(running: &'a Running, id: FrontendId) -> Option<Self> {
        let Running { traffic, listening, .. } = running;
        let frontend = traffic.snapshot.frontends.get(id.0 as usize)?;
        let gate = traffic.gauges.frontend(id);
        let total = |read: fn(&FrontendCounters) -> u64| traffic.frontend_total(id, read);
        Some(Self {
            name: &frontend.name,
            bind: listening.of(id).iter().map(ToString::to_string).collect(),
            backend: &traffic.snapshot.backend(frontend.backend).name,
            sessions_live: gate.live(),
            sessions_max: traffic.frontend_max(id),
            max_connections: limit(frontend.max_connections),
            paused: gate.max() == 0,
            changed: running.overlay.has_frontend(&frontend.name),
            sessions: total(|f| f.sessions.get()),
            sessions_ended: total(|f| f.sessions_ended.get()),
            sessions_failed: total(|f| f.sessions_failed.get()),
            sessions_empty: total(|f| f.sessions_empty.get()),
            sessions_ended_by_order: total(|f| f.sessions_ended_by_order.get()),
            left_at_gate: total(|f| f.left_at_gate.get()),
            refused_too_many: total(|f| f.refused_too_many.get()),
            refused_too_fast: total(|f| f.refused_too_fast.get()),
            bytes_in: total(|f| f.bytes_in.get()),
            bytes_out: total(|f| f.bytes_out.get()),
        })
    }
}

impl<'a> Backend<'a> {
    /// All backends.
    pub(super) fn all(running: &'a Running) -> Vec<Self> {
        (0..).map(BackendId).map_while(|id| Self::of(running, id)).collect()
    }

    /// One of them.
    pub(super) fn of(running: &'a Running, id: BackendId) -> Option<Self> {
        let traffic = &running.traffic;
        let backend = traffic.snapshot.backends.get(id.0 as usize)?;
        let servers = traffic.snapshot.ids_of(id);
        Some(Self {
            name: &backend.name,
            balance: balance_word(backend.balance),
            queue: traffic.gauges.queue(id).map(|queue| Queue {
                sessions_live: queue.waiting(),
                size: queue.size(),
                waited: traffic.queue_total(id, |q| q.waited.get()),
                expired: traffic.queue_total(id, |q| q.expired.get()),
                refused: traffic.queue_total(id, |q| q.refused.get()),
            }),
            servers: servers.filter_map(|id| Server::of(running, id)).collect(),
        })
    }
}

/// A limit; nothing where there is none.
fn limit(max: u32) -> Option<u32> {
    (max != u32::MAX).then_some(max)
}

/// The value of `balance` in the configuration file.
fn balance_word(balance: BalanceKind) -> &'static str {
    match balance {
        BalanceKind::RoundRobin => "round_robin",
        BalanceKind::LeastConn => "least_conn",
        BalanceKind::RandomTwo => "random_two",
        BalanceKind::Source => "source",
        BalanceKind::Maglev(_) => "maglev",
        BalanceKind::RingHash(_) => "ring_hash",
        BalanceKind::LeastBandwidth => "least_bandwidth",
        BalanceKind::First => "first",
    }
}

impl Quantiles {
    fn of(latency: &Latency) -> Self {
        Self {
            p50: latency.us_at(0.5),
            p90: latency.us_at(0.9),
            p99: latency.us_at(0.99),
            p99_9: latency.us_at(0.999),
            max: latency.max_us(),
            count: latency.count(),
        }
    }
}
