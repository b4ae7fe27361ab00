//! The one list of metrics: name, meaning, how to read it.
//!
//! Not here: encoding (`metrics`). Invariants: names start with `ringlane_`, have the noun first and
//! the unit last; counters end in `_total`, and nothing else does; `docs/metrics.md` lists exactly
//! these (a test compares). Where a live number and a count of the same thing exist, the live one
//! ends in `_live`, since the exposition format allows only one of them without a suffix.

use std::sync::atomic::Ordering;

use ringlane_core::counters::{
    AffinityCounters, BackendCounters, FrontendCounters, QueueCounters, ServerCounters,
    ShardCounters,
};
use ringlane_core::health::{Health, RoleWanted};
use ringlane_core::snapshot::{BackendId, FrontendId, ServerId};

use super::Kind;
use crate::control::Running;
use crate::control::admin::affinity;
use crate::control::log;
use crate::control::names::Followed;
use crate::control::running::Stage;
use crate::control::servers::Known;
use crate::control::status::health;

/// One metric.
pub(super) struct Metric {
    /// Its whole name.
    pub(super) name: &'static str,
    /// What it means, in one sentence.
    pub(super) help: &'static str,
    /// Where its values come from.
    pub(super) read: Read,
}

/// Where a metric's values come from, which also says what its labels are.
#[derive(Clone, Copy)]
pub(super) enum Read {
    /// The program's version, as a label.
    Version,
    /// One number of the process.
    Process(fn(&Running) -> u64),
    /// One time of the process.
    ProcessSeconds(fn(&Running) -> f64),
    /// The quantiles of a time.
    Quantiles(Time),
    /// The sum of a time.
    Sum(Time),
    /// How often a time was taken.
    Count(Time),
    /// One number per shard.
    Shard(fn(&Running, usize) -> u64),
    /// One number per frontend.
    Frontend(fn(&Running, FrontendId) -> u64),
    /// One number per backend that remembers its clients.
    Affinity(fn(&Running, BackendId) -> u64),
    /// One number per backend that lets sessions wait.
    Queue(fn(&Running, BackendId) -> u64),
    /// Of a backend whose bandwidth is limited.
    Bandwidth(fn(&Running, BackendId) -> u64),
    /// Of a backend that has a mirror.
    Mirror(fn(&Running, BackendId) -> u64),
    /// One number per server entry that is given by name.
    Name(fn(&Followed) -> u64),
    /// One number per server.
    Server(fn(&Running, ServerId) -> u64),
    /// One number per server of which it is known.
    ServerIfKnown(fn(&Known) -> Option<f64>),
}

/// A time that the shards keep histograms of.
#[derive(Clone, Copy)]
pub(super) enum Time {
    SessionDuration,
    Connect,
}

impl Metric {
    pub(super) fn kind(&self) -> Kind {
        if self.name.ends_with("_total") { Kind::Counter } else { Kind::Gauge }
    }

    /// The labels, in the order in which they are printed.
    #[cfg(test)]
    pub(super) fn labels(&self) -> &'static [&'static str] {
        match self.read {
            Read::Version => &["version"],
            Read::Process(_) | Read::ProcessSeconds(_) | Read::Sum(_) | Read::Count(_) => &[],
            Read::Quantiles(_) => &["quantile"],
            Read::Shard(_) => &["shard"],
            Read::Frontend(_) => &["frontend"],
            Read::Affinity(_) | Read::Queue(_) | Read::Bandwidth(_) | Read::Mirror(_) => {
                &["backend"]
            }
            Read::Name(_) => &["backend", "server", "name"],
            Read::Server(_) | Read::ServerIfKnown(_) => &["backend", "server"],
        }
    }
}

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

fn shard(running: &Running, index: usize) -> &ShardCounters {
    &running.counters[index]
}

/// Every metric, in the order in which they are printed.
pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "ringlane_build_info",
        help: "Always 1; the label says which version runs.",
        read: Read::Version,
    },
    Metric {
        name: "ringlane_snapshot_generation",
        help: "Number of the configuration that is served, from 1.",
        read: Read::Process(|running| running.snapshot.generation),
    },
    Metric {
        name: "ringlane_log_records_lost_total",
        help: "Access-log records that their destination refused.",
        read: Read::Process(|running| running.log_records_lost.load(Ordering::Relaxed)),
    },
    Metric {
        name: "ringlane_log_lines_lost_total",
        help: "Log lines that stderr did not take.",
        read: Read::Process(|_| log::lost()),
    },
    Metric {
        name: "ringlane_process_uptime_seconds",
        help: "Time since the start.",
        read: Read::ProcessSeconds(|running| running.uptime().as_secs_f64()),
    },
    Metric {
        name: "ringlane_process_draining",
        help: "1 while the process drains or stops, else 0.",
        read: Read::Process(|running| u64::from(running.stage() >= Stage::Draining)),
    },
    Metric {
        name: "ringlane_process_sessions_live",
        help: "Sessions open now, in all frontends.",
        read: Read::Process(|running| running.gauges.process.live().into()),
    },
    Metric {
        name: "ringlane_process_sessions_max",
        help: "Sessions that may be open at once; above it connections wait in the kernel's queue.",
        read: Read::Process(|running| running.gauges.process.max().into()),
    },
    Metric {
        name: "ringlane_session_duration_seconds",
        help: "Time from accept to the end of a session: quantiles over all sessions since the start.",
        read: Read::Quantiles(Time::SessionDuration),
    },
    Metric {
        name: "ringlane_session_duration_seconds_sum",
        help: "Time from accept to the end of a session: sum; only grows.",
        read: Read::Sum(Time::SessionDuration),
    },
    Metric {
        name: "ringlane_session_duration_seconds_count",
        help: "Time from accept to the end of a session: how many were measured; only grows.",
        read: Read::Count(Time::SessionDuration),
    },
    Metric {
        name: "ringlane_connect_time_seconds",
        help: "Time for a server to accept a connection: quantiles over all sessions since the start.",
        read: Read::Quantiles(Time::Connect),
    },
    Metric {
        name: "ringlane_connect_time_seconds_sum",
        help: "Time for a server to accept a connection: sum; only grows.",
        read: Read::Sum(Time::Connect),
    },
    Metric {
        name: "ringlane_connect_time_seconds_count",
        help: "Time for a server to accept a connection: how many were measured; only grows.",
        read: Read::Count(Time::Connect),
    },
    Metric {
        name: "ringlane_shard_sessions_live",
        help: "Sessions that belong to the shard now, those on their way to it included.",
        read: Read::Shard(|running, index| running.gauges.shard(index).into()),
    },
    Metric {
        name: "ringlane_shard_turns_total",
        help: "Iterations of the shard's loop.",
        read: Read::Shard(|running, index| shard(running, index).turns.get()),
    },
    Metric {
        name: "ringlane_shard_completions_total",
        help: "Completions reaped from the kernel.",
        read: Read::Shard(|running, index| shard(running, index).completions.get()),
    },
    Metric {
        name: "ringlane_shard_completions_stale_total",
        help: "Completions whose operation was gone already; they are dropped.",
        read: Read::Shard(|running, index| shard(running, index).completions_stale.get()),
    },
    Metric {
        name: "ringlane_shard_buffers_exhausted_total",
        help: "Times that a receive found no buffer and had to wait.",
        read: Read::Shard(|running, index| shard(running, index).buffers_exhausted.get()),
    },
    Metric {
        name: "ringlane_shard_false_readiness_total",
        help: "Times that a socket was said to be ready and no byte could be moved.",
        read: Read::Shard(|running, index| shard(running, index).false_readiness.get()),
    },
    Metric {
        name: "ringlane_shard_accepts_paused_total",
        help: "Times that accepting paused because a limit was reached.",
        read: Read::Shard(|running, index| shard(running, index).accepts_paused.get()),
    },
    Metric {
        name: "ringlane_shard_accepts_failed_total",
        help: "Accepts that failed for want of a descriptor or memory.",
        read: Read::Shard(|running, index| shard(running, index).accepts_failed.get()),
    },
    Metric {
        name: "ringlane_shard_connections_handed_over_total",
        help: "Connections handed to a less loaded shard right after accept.",
        read: Read::Shard(|running, index| shard(running, index).handed_over.get()),
    },
    Metric {
        name: "ringlane_shard_connections_taken_over_total",
        help: "Connections taken from a more loaded shard.",
        read: Read::Shard(|running, index| shard(running, index).taken_over.get()),
    },
    Metric {
        name: "ringlane_shard_splices_entered_total",
        help: "Directions of sessions that moved from copying to splicing.",
        read: Read::Shard(|running, index| shard(running, index).splice_entered.get()),
    },
    Metric {
        name: "ringlane_shard_splices_left_total",
        help: "Directions of sessions that moved back from splicing to copying.",
        read: Read::Shard(|running, index| shard(running, index).splice_left.get()),
    },
    Metric {
        name: "ringlane_log_records_dropped_total",
        help: "Access-log records dropped because the shard's queue was full.",
        read: Read::Shard(|running, index| shard(running, index).log_dropped.get()),
    },
    Metric {
        name: "ringlane_frontend_sessions_live",
        help: "Sessions of the frontend open now.",
        read: Read::Frontend(|running, id| running.gauges.frontend(id).live().into()),
    },
    Metric {
        name: "ringlane_frontend_sessions_max",
        help: "Sessions of the frontend that may be open at once.",
        read: Read::Frontend(|running, id| frontend_max(running, id).into()),
    },
    Metric {
        name: "ringlane_frontend_sessions_total",
        help: "Sessions begun.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |frontend| frontend.sessions.get())
        }),
    },
    Metric {
        name: "ringlane_frontend_sessions_ended_total",
        help: "Sessions ended, however they did.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |frontend| frontend.sessions_ended.get())
        }),
    },
    Metric {
        name: "ringlane_frontend_sessions_failed_total",
        help: "Sessions that ended by anything but both sides finishing.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |frontend| frontend.sessions_failed.get())
        }),
    },
    Metric {
        name: "ringlane_frontend_refused_too_many_total",
        help: "Sessions refused, since their client had as many as it may have.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |f| f.refused_too_many.get())
        }),
    },
    Metric {
        name: "ringlane_frontend_refused_too_fast_total",
        help: "Sessions refused, since their client's came faster than they may.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |f| f.refused_too_fast.get())
        }),
    },
    Metric {
        name: "ringlane_frontend_clients_unknown_total",
        help: "Sessions of clients that there was no room to count; they are not limited.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |f| f.clients_unknown.get())
        }),
    },
    Metric {
        name: "ringlane_frontend_received_bytes_total",
        help: "Bytes from clients.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |frontend| frontend.bytes_in.get())
        }),
    },
    Metric {
        name: "ringlane_frontend_sent_bytes_total",
        help: "Bytes to clients.",
        read: Read::Frontend(|running, id| {
            frontend_total(running, id, |frontend| frontend.bytes_out.get())
        }),
    },
    Metric {
        name: "ringlane_affinity_clients",
        help: "Clients of the backend that are remembered now.",
        read: Read::Affinity(affinity::remembered),
    },
    Metric {
        name: "ringlane_affinity_hits_total",
        help: "Sessions whose client was remembered and got its server again.",
        read: Read::Affinity(|running, id| affinity_total(running, id, |a| a.hits.get())),
    },
    Metric {
        name: "ringlane_affinity_misses_total",
        help: "Choices for clients that were not remembered, or whose server took no session.",
        read: Read::Affinity(|running, id| affinity_total(running, id, |a| a.misses.get())),
    },
    Metric {
        name: "ringlane_affinity_evictions_total",
        help: "Clients that were forgotten before their time, since the table was full.",
        read: Read::Affinity(|running, id| affinity_total(running, id, |a| a.evictions.get())),
    },
    Metric {
        name: "ringlane_queue_sessions",
        help: "Sessions that wait for a server with room.",
        read: Read::Queue(|running, id| {
            running.gauges.queue(id).map_or(0, |queue| queue.waiting().into())
        }),
    },
    Metric {
        name: "ringlane_queue_waited_total",
        help: "Sessions that had to wait for a server with room.",
        read: Read::Queue(|running, id| queue_total(running, id, |q| q.waited.get())),
    },
    Metric {
        name: "ringlane_queue_expired_total",
        help: "Sessions that waited too long and were refused.",
        read: Read::Queue(|running, id| queue_total(running, id, |q| q.expired.get())),
    },
    Metric {
        name: "ringlane_queue_refused_total",
        help: "Sessions refused at once, since too many waited.",
        read: Read::Queue(|running, id| queue_total(running, id, |q| q.refused.get())),
    },
    Metric {
        name: "ringlane_bandwidth_waits_total",
        help: "Times that a direction of a session waited, since its bandwidth was used up.",
        read: Read::Bandwidth(|running, id| {
            backend_total(running, id, |backend| backend.bandwidth_waits.get())
        }),
    },
    Metric {
        name: "ringlane_mirror_sessions_total",
        help: "Sessions that the mirror began to hear.",
        read: Read::Mirror(|running, id| {
            backend_total(running, id, |backend| backend.mirrored.get())
        }),
    },
    Metric {
        name: "ringlane_mirror_failed_total",
        help: "Sessions that the mirror did not hear to the end, or not at all.",
        read: Read::Mirror(|running, id| {
            backend_total(running, id, |backend| backend.mirror_failed.get())
        }),
    },
    Metric {
        name: "ringlane_mirror_sent_bytes_total",
        help: "Bytes that the mirror took.",
        read: Read::Mirror(|running, id| {
            backend_total(running, id, |backend| backend.mirror_bytes.get())
        }),
    },
    Metric {
        name: "ringlane_mirror_dropped_bytes_total",
        help: "Bytes that the mirror was to have and did not take in time.",
        read: Read::Mirror(|running, id| {
            backend_total(running, id, |backend| backend.mirror_dropped.get())
        }),
    },
    Metric {
        name: "ringlane_name_resolutions_total",
        help: "Times that DNS was asked for the addresses of the name.",
        read: Read::Name(|name| name.resolutions.load(Ordering::Relaxed)),
    },
    Metric {
        name: "ringlane_name_failures_total",
        help: "Times that nobody could answer; the last addresses were kept.",
        read: Read::Name(|name| name.failures.load(Ordering::Relaxed)),
    },
    Metric {
        name: "ringlane_name_addresses",
        help: "Slots of the name that have an address now.",
        read: Read::Name(|name| name.addresses.load(Ordering::Relaxed).into()),
    },
    Metric {
        name: "ringlane_server_up",
        help: "0 when it has no address, its checks fail, or, without checks, the last connect failed; else 1.",
        read: Read::Server(|running, id| {
            let health = running.servers.known(id).map(|known| health(running, id, &known));
            u64::from(matches!(health, Some(Health::Up | Health::Warming)))
        }),
    },
    Metric {
        name: "ringlane_server_open",
        help: "1 while it takes new sessions of frontends that want any server, else 0.",
        read: Read::Server(|running, id| {
            u64::from(running.gauges.server(id).orders().is_open_for(RoleWanted::Any))
        }),
    },
    Metric {
        name: "ringlane_server_primary",
        help: "1 while it takes new sessions of frontends that want the primary, else 0.",
        read: Read::Server(|running, id| {
            u64::from(running.gauges.server(id).orders().is_open_for(RoleWanted::Primary))
        }),
    },
    Metric {
        name: "ringlane_server_replica",
        help: "1 while it takes new sessions of frontends that want a replica, else 0.",
        read: Read::Server(|running, id| {
            u64::from(running.gauges.server(id).orders().is_open_for(RoleWanted::Replica))
        }),
    },
    Metric {
        name: "ringlane_server_ejected",
        help: "1 while it is out for what its sessions met (`outlier`), else 0.",
        read: Read::ServerIfKnown(|known| Some(f64::from(u8::from(known.state.ejected)))),
    },
    Metric {
        name: "ringlane_server_weight",
        help: "Share of sessions relative to the other servers of the backend, as configured, ordered or said by its name.",
        read: Read::Server(|running, id| {
            running.servers.known(id).map_or(0, |known| known.weight.into())
        }),
    },
    Metric {
        name: "ringlane_server_lag_seconds",
        help: "How far a replica is behind its primary, in time; absent while that is not known.",
        read: Read::ServerIfKnown(|known| Some(known.lag?.time?.as_secs_f64())),
    },
    Metric {
        name: "ringlane_server_lag_bytes",
        help: "How far a replica is behind its primary, in bytes; absent while that is not known.",
        read: Read::ServerIfKnown(|known| Some(known.lag?.bytes? as f64)),
    },
    Metric {
        name: "ringlane_server_certificate_days",
        help: "Days that the server's certificate has left, negative once it has expired; absent \
               where the last check met none.",
        read: Read::ServerIfKnown(|known| Some(known.certificate_days? as f64)),
    },
    Metric {
        name: "ringlane_server_sessions_live",
        help: "Sessions that the server has now, those still connecting included.",
        read: Read::Server(|running, id| running.gauges.server(id).sessions().into()),
    },
    Metric {
        name: "ringlane_server_rate_bytes_per_second",
        help: "Bytes to and from the server per second, smoothed over three seconds.",
        read: Read::Server(|running, id| running.gauges.server(id).rate()),
    },
    Metric {
        name: "ringlane_server_sessions_total",
        help: "Sessions that the server accepted.",
        read: Read::Server(|running, id| server_total(running, id, |server| server.sessions.get())),
    },
    Metric {
        name: "ringlane_server_sessions_failed_total",
        help: "Sessions that the server reset, or that failed on its side.",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.sessions_failed.get())
        }),
    },
    Metric {
        name: "ringlane_server_sessions_failed_early_total",
        help: "Sessions that the server reset before its first byte, or left unanswered for its timeout.",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.sessions_failed_early.get())
        }),
    },
    Metric {
        name: "ringlane_server_sessions_lossy_total",
        help: "Sessions of which too much had to be sent to the server again (`retransmits` of `outlier`).",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.sessions_lossy.get())
        }),
    },
    Metric {
        name: "ringlane_server_sessions_late_total",
        help: "Sessions that the server answered too late (`first_byte` of `outlier`).",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.sessions_late.get())
        }),
    },
    Metric {
        name: "ringlane_server_connects_failed_total",
        help: "Connects that failed, those that timed out included.",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.connects_failed.get())
        }),
    },
    Metric {
        name: "ringlane_server_connects_timed_out_total",
        help: "Connects that timed out.",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.connects_timed_out.get())
        }),
    },
    Metric {
        name: "ringlane_server_connects_impossible_total",
        help: "Connects that this machine could not even begin: no descriptor or port was left, or \
               the kernel refused the source address or an option.",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.connects_impossible.get())
        }),
    },
    Metric {
        name: "ringlane_server_races_won_total",
        help: "Sessions that the server got since the one before it took too long to accept.",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.races_won.get())
        }),
    },
    Metric {
        name: "ringlane_server_sent_bytes_total",
        help: "Bytes to the server.",
        read: Read::Server(|running, id| server_total(running, id, |server| server.bytes_in.get())),
    },
    Metric {
        name: "ringlane_server_received_bytes_total",
        help: "Bytes from the server.",
        read: Read::Server(|running, id| {
            server_total(running, id, |server| server.bytes_out.get())
        }),
    },
];
