//! The list of all metrics: name, meaning, how to read it.
//!
//! Not here: reading (`read`), encoding (`metrics`). Invariants: names start with `ringlane_`, or
//! with `process_` if every Prometheus client has them; they have the noun first and the unit last;
//! counters end in `_total`, and nothing else does; `docs/metrics.md` lists exactly these (a test
//! compares). Where a live number and a count of the same thing exist, the live one ends in
//! `_live`, since OpenMetrics allows only one of them without a suffix.

use std::sync::atomic::Ordering;

use ringlane_core::settings::{Backend, Bandwidth, RoleWanted};
use ringlane_health::Health;

use super::read::Read::{
    self, AffinityCount, BackendCount, BackendServers, Build, Closes, ControlLag, Frontend,
    FrontendCount, Name, Process, QueueCount, Refused, Server, ServerAdmin, ServerCount, Shard,
    ShardCount, ShardCpu, SourcePorts, Times,
};
use super::{MetricKind, process};
use crate::control::servers::Known;
use crate::control::traffic::buckets::{LONG, SHORT};
use crate::control::traffic::totals::shut_down;
use crate::control::{Stage, log};

/// One metric.
pub(super) struct Metric {
    /// Its whole name; that of a histogram without suffix.
    pub(super) name: &'static str,
    pub(super) kind: MetricKind,
    /// What it means, in one sentence.
    pub(super) help: &'static str,
    /// The source of its values.
    pub(super) read: Read,
}

impl Metric {
    /// Its name without what the encoder adds.
    pub(super) fn family(&self) -> &'static str {
        match self.kind {
            MetricKind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            MetricKind::Gauge | MetricKind::Histogram => self.name,
        }
    }
}

const fn counter(name: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: MetricKind::Counter, help, read }
}

const fn gauge(name: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help, read }
}

const fn histogram(name: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: MetricKind::Histogram, help, read }
}

/// Whether checks, or without checks the last connect, find the server there.
fn is_up(known: &Known) -> bool {
    matches!(known.health, Health::Up | Health::Warming)
}

/// Whether new sessions that want this role may choose the server.
fn is_open(known: &Known, role: RoleWanted) -> bool {
    known.eligibility.is_open_for(role)
}

fn has_mirror(backend: &Backend) -> bool {
    backend.mirror.is_some()
}

fn has_bandwidth(backend: &Backend) -> bool {
    backend.bandwidth != Bandwidth::default()
}

/// Every metric, in the order in which they are printed.
#[rustfmt::skip] // a row per metric
pub(super) const METRICS: &[Metric] = &[
    gauge("ringlane_build_info", 
        "Always 1; the labels name the version and the revision of its sources.", Build),
    gauge("process_start_time_seconds", "Time at which the process started, in seconds since 1970.",
        Process(|r| Some(process::start_time(r.life.started_on())?.into()))),
    counter("process_cpu_seconds_total", "CPU time of the process, user and system.",
        Process(|_| Some(process::cpu_seconds()?.into()))),
    gauge("process_resident_memory_bytes", "Resident memory of the process.",
        Process(|_| Some(process::memory()?[1].into()))),
    gauge("process_virtual_memory_bytes", "Virtual memory of the process.",
        Process(|_| Some(process::memory()?[0].into()))),
    gauge("process_open_fds", "Open file descriptors.",
        Process(|_| Some(process::open_fds()?.into()))),
    gauge("process_max_fds", "Limit of open file descriptors (RLIMIT_NOFILE).",
        Process(|_| Some(process::max_fds()?.into()))),
    gauge("ringlane_snapshot_generation", "Number of the active configuration, from 1.",
        Process(|r| Some(r.traffic.snapshot.generation.into()))),
    gauge("ringlane_generations_live", "Configurations that are served or still have sessions.",
        Process(|r| Some((r.snapshots.len() as u64).into()))),
    counter("ringlane_log_records_lost_total",
        "Access-log records that could not be written to their destination.",
        Process(|r| Some(r.records_lost.get().into()))),
    counter("ringlane_log_lines_lost_total", "Log lines lost because their destination was full or failed.",
        Process(|_| Some(log::lost().into()))),
    gauge("ringlane_process_uptime_seconds", "Time since the process started.",
        Process(|r| Some(r.life.uptime().as_secs_f64().into()))),
    gauge("ringlane_process_draining", "1 while the process drains or stops, else 0.",
        Process(|r| Some((r.life.stage() >= Stage::Draining).into()))),
    gauge("ringlane_process_sessions_live", "Open sessions, all frontends together.",
        Process(|r| Some(r.traffic.gauges.common.process.live().into()))),
    gauge("ringlane_process_sessions_max",
        "Limit of open sessions (`max_connections`); connections above it wait in the kernel's \
         queue.",
        Process(|r| Some(r.traffic.gauges.common.process.max().into()))),
    counter("ringlane_admin_requests_refused_total",
        "Requests to the admin API that were refused: 401 without a valid token, 403 not permitted, \
         503 too many streams.",
        Refused),
    histogram("ringlane_session_duration_seconds",
        "Duration of sessions, from accept to the end.",
        Times(LONG, |shard| &shard.session_duration)),
    histogram("ringlane_connect_time_seconds",
        "Time from accepting a client until a server had accepted its session.",
        Times(SHORT, |shard| &shard.connect_time)),

    histogram("ringlane_queue_wait_seconds",
        "Time that sessions spent in a backend's queue; sessions refused at once are not counted.",
        Times(SHORT, |shard| &shard.queue_wait)),
    counter("ringlane_control_cpu_seconds_total", "CPU time of the control thread.",
        Process(|r| Some(r.threads.cpu_time(None)?.as_secs_f64().into()))),
    gauge("ringlane_control_tick_age_seconds",
        "Time since the control thread last did its work of every second; far above 1 when it hangs.",
        Process(|r| Some(r.threads.since_tick().as_secs_f64().into()))),
    histogram("ringlane_control_lag_seconds",
        "How late the control thread ran something due, measured once a second.",
        ControlLag),

    counter("ringlane_shard_cpu_seconds_total", "CPU time of the shard's thread.",
        ShardCpu),
    gauge("ringlane_shard_sessions_live",
        "Open sessions of the shard, those being handed over to it included.",
        Shard(|t, index| t.gauges.common.shard(index).into())),
    counter("ringlane_shard_turns_total", "Iterations of the shard's event loop.",
        ShardCount(|s| s.event_loop.turns.get())),
    counter("ringlane_shard_completions_total", "Completions received from the kernel.",
        ShardCount(|s| s.event_loop.completions.get())),
    counter("ringlane_shard_completions_stale_total",
        "Completions of operations that had been given up; they are dropped.",
        ShardCount(|s| s.event_loop.completions_stale.get())),
    counter("ringlane_shard_buffers_exhausted_total",
        "Receives that had to wait because no buffer was free.",
        ShardCount(|s| s.event_loop.buffers_exhausted.get())),
    counter("ringlane_shard_false_readiness_total",
        "Times that a socket was reported ready although no byte could be moved.",
        ShardCount(|s| s.event_loop.false_readiness.get())),
    counter("ringlane_shard_accepts_paused_total",
        "Times that accepting paused because a limit of sessions was reached.",
        ShardCount(|s| s.accepts_paused.get())),
    counter("ringlane_shard_accepts_failed_total",
        "Accepts that failed for lack of a descriptor or of memory.",
        ShardCount(|s| s.accepts_failed.get())),
    counter("ringlane_shard_connections_handed_over_total",
        "Connections handed over to a less loaded shard right after accept.",
        ShardCount(|s| s.handed_over.get())),
    counter("ringlane_shard_connections_taken_over_total",
        "Connections taken over from a more loaded shard.",
        ShardCount(|s| s.taken_over.get())),
    counter("ringlane_shard_splices_entered_total",
        "Directions of sessions that moved from copying to splicing.",
        ShardCount(|s| s.splice_entered.get())),
    counter("ringlane_shard_splices_left_total",
        "Directions of sessions that moved back from splicing to copying.",
        ShardCount(|s| s.splice_left.get())),
    counter("ringlane_log_records_dropped_total",
        "Access-log records dropped because the shard's queue was full.",
        ShardCount(|s| s.log_dropped.get())),

    gauge("ringlane_frontend_sessions_live", "Open sessions of the frontend.",
        Frontend(|t, id| t.gauges.frontend(id).live().into())),
    gauge("ringlane_frontend_sessions_max",
        "Limit of open sessions: the frontend's `max_connections` or the process's, whichever \
         is lower.",
        Frontend(|t, id| t.frontend_max(id).into())),
    counter("ringlane_frontend_sessions_total", "Sessions started.",
        FrontendCount(|f| f.sessions.get())),
    counter("ringlane_frontend_sessions_ended_total", "Sessions ended, for whatever reason.",
        FrontendCount(|f| f.sessions_ended.get())),
    counter("ringlane_frontend_sessions_failed_total",
        "Sessions that ended in any other way than by both sides finishing, by order, or by a \
         client that sent nothing.",
        FrontendCount(|f| f.sessions_failed.get())),
    counter("ringlane_frontend_sessions_empty_total",
        "Sessions whose client left before any byte was exchanged, or sent nothing until the time \
         for its first message or PROXY header was over, such as health checks and port scans. A \
         server that closes first does not count.",
        FrontendCount(|f| f.sessions_empty.get())),
    counter("ringlane_frontend_sessions_ended_by_order_total",
        "Sessions ended by an operator's drain, maintenance or stop.",
        FrontendCount(|f| f.sessions_ended_by_order.get())),
    counter("ringlane_frontend_left_at_gate_total",
        "Connections whose client left while they waited for `max_connections` or `rate`; they \
         never became sessions.",
        FrontendCount(|f| f.left_at_gate.get())),
    counter("ringlane_frontend_closes_total",
        "Sessions ended, by close code; a code appears with its first session.",
        Closes),
    counter("ringlane_frontend_sessions_cut_total",
        "Sessions cut by a stop or at the end of `drain_timeout`.",
        FrontendCount(|f| f.cut.get())),
    counter("ringlane_frontend_waited_full_total",
        "Connections that waited because `max_connections` of the frontend or the process was reached.",
        FrontendCount(|f| f.waited_full.get())),
    counter("ringlane_frontend_waited_rate_total",
        "Connections that waited because the frontend's `rate` was reached.",
        FrontendCount(|f| f.waited_rate.get())),
    counter("ringlane_frontend_loops_suspected_total",
        "Connections refused because they seem to have passed through this balancer before.",
        FrontendCount(|f| f.loops_suspected.get())),
    counter("ringlane_frontend_refused_too_many_total",
        "Sessions refused because the client had reached its limit of open sessions.",
        FrontendCount(|f| f.refused_too_many.get())),
    counter("ringlane_frontend_refused_too_fast_total",
        "Sessions refused because the client had reached its limit of new sessions per second.",
        FrontendCount(|f| f.refused_too_fast.get())),
    counter("ringlane_frontend_clients_unknown_total",
        "Sessions not limited per client because the table of clients was full.",
        FrontendCount(|f| f.clients_unknown.get())),
    counter("ringlane_frontend_received_bytes_total", "Bytes received from clients.",
        FrontendCount(|f| f.bytes_in.get())),
    counter("ringlane_frontend_sent_bytes_total", "Bytes sent to clients.",
        FrontendCount(|f| f.bytes_out.get())),

    gauge("ringlane_backend_servers_up", "Servers of the backend that are up.",
        BackendServers(is_up)),
    gauge("ringlane_backend_servers_open",
        "Servers of the backend that take new sessions, in whatever role; at 0 every session \
         fails.",
        BackendServers(|known| {
            [RoleWanted::Any, RoleWanted::Primary, RoleWanted::Replica]
                .iter().any(|role| is_open(known, *role))
        })),
    counter("ringlane_backend_sessions_unserved_total",
        "Sessions that ended because no server was open for them or accepted the connection.",
        BackendCount(|_| true, |b| b.unserved.get())),
    histogram("ringlane_check_duration_seconds",
        "Duration of the checks of the backend's servers, failed ones included.",
        Read::CheckTimes),
    gauge("ringlane_affinity_clients", "Clients whose server is remembered.",
        Read::Backend(|t, id| t.gauges.affinity(id).map(|_| t.remembered_clients(id).into()))),
    counter("ringlane_affinity_hits_total",
        "Sessions that went to the server remembered for their client.",
        AffinityCount(|a| a.hits.get())),
    counter("ringlane_affinity_misses_total",
        "Sessions whose client was not remembered, or whose server took no sessions.",
        AffinityCount(|a| a.misses.get())),
    counter("ringlane_affinity_evictions_total",
        "Clients forgotten before their `ttl` because the table was full.",
        AffinityCount(|a| a.evictions.get())),
    gauge("ringlane_queue_sessions", "Sessions waiting for a server with a free slot.",
        Read::Backend(|t, id| Some(t.gauges.queue(id)?.waiting().into()))),
    gauge("ringlane_queue_sessions_max", "Limit of waiting sessions (`size` of the queue).",
        Read::Backend(|t, id| Some(t.gauges.queue(id)?.size().into()))),
    counter("ringlane_queue_waited_total",
        "Sessions that had to wait for a server with a free slot.",
        QueueCount(|q| q.waited.get())),
    counter("ringlane_queue_expired_total", "Sessions refused because they had waited too long.",
        QueueCount(|q| q.expired.get())),
    counter("ringlane_queue_refused_total", "Sessions refused at once because the queue was full.",
        QueueCount(|q| q.refused.get())),
    counter("ringlane_bandwidth_waits_total",
        "Times that a direction of a session waited because the bandwidth limit was reached.",
        BackendCount(has_bandwidth, |b| b.bandwidth_waits.get())),
    counter("ringlane_mirror_sessions_total", "Sessions mirrored.",
        BackendCount(has_mirror, |b| b.mirrored.get())),
    counter("ringlane_mirror_failed_total",
        "Mirrored sessions that the mirror did not receive to their end, or not at all.",
        BackendCount(has_mirror, |b| b.mirror_failed.get())),
    counter("ringlane_mirror_sent_bytes_total", "Bytes sent to the mirror.",
        BackendCount(has_mirror, |b| b.mirror_bytes.get())),
    counter("ringlane_mirror_dropped_bytes_total",
        "Bytes not sent to the mirror because it was too slow.",
        BackendCount(has_mirror, |b| b.mirror_dropped.get())),

    counter("ringlane_name_resolutions_total", "DNS lookups of the name.",
        Name(|name| name.state.resolutions.load(Ordering::Relaxed).into())),
    counter("ringlane_name_failures_total",
        "DNS lookups that failed; the last addresses stay in use.",
        Name(|name| name.state.failures.load(Ordering::Relaxed).into())),
    gauge("ringlane_name_addresses", "Slots of the name that have an address.",
        Name(|name| name.state.addresses.load(Ordering::Relaxed).into())),

    gauge("ringlane_server_up",
        "0 when the server's checks fail or, without checks, the last connect failed; else 1; \
         absent while it has no address.",
        Server(|_, _, known| (known.health != Health::Absent).then(|| is_up(known).into()))),
    gauge("ringlane_server_open",
        "1 while the server takes new sessions of frontends without a `role`, else 0.",
        Server(|_, _, known| Some(is_open(known, RoleWanted::Any).into()))),
    gauge("ringlane_server_primary",
        "1 while the server takes new sessions of frontends that want the primary, else 0.",
        Server(|_, _, known| Some(is_open(known, RoleWanted::Primary).into()))),
    gauge("ringlane_server_replica",
        "1 while the server takes new sessions of frontends that want a replica, else 0.",
        Server(|_, _, known| Some(is_open(known, RoleWanted::Replica).into()))),
    gauge("ringlane_server_in_conflict",
        "1 while the server claims to be the primary and another server of its backend does, \
         too, else 0.",
        Server(|_, _, known| Some(known.state.in_conflict.into()))),
    gauge("ringlane_server_stale",
        "1 while the server is a replica that is further behind than `max_lag`, else 0.",
        Server(|_, _, known| Some(known.state.stale.into()))),
    gauge("ringlane_server_ejected",
        "1 while the server is ejected because of failed sessions (`outlier`), else 0.",
        Server(|_, _, known| Some(known.state.ejected.into()))),
    gauge("ringlane_server_admin_state",
        "1 for the administrative state that the server is in (`ready`, `drain` or `maint`), 0 \
         for the others.",
        ServerAdmin),
    gauge("ringlane_server_weight",
        "Weight of the server as configured, ordered, or given by its SRV record.",
        Server(|_, _, known| Some(known.weight.into()))),
    gauge("ringlane_server_lag_seconds",
        "Replication lag in time; absent while it is unknown.",
        Server(|_, _, known| Some(known.lag?.time?.as_secs_f64().into()))),
    gauge("ringlane_server_lag_bytes",
        "Replication lag in bytes; absent while it is unknown.",
        Server(|_, _, known| Some(known.lag?.bytes?.into()))),
    gauge("ringlane_server_certificate_expiry_seconds",
        "Time until the server's certificate expires, in whole days, negative afterwards; \
         absent where the last check saw none.",
        Server(|_, _, known| Some((known.certificate_days? as f64 * 86_400.0).into()))),
    counter("ringlane_server_checks_total", "Checks of the server; absent without checks.",
        Server(|_, _, known| known.checked.then(|| known.checks[0].into()))),
    counter("ringlane_server_checks_failed_total",
        "Checks of the server that failed; absent without checks.",
        Server(|_, _, known| known.checked.then(|| known.checks[1].into()))),
    gauge("ringlane_server_check_ok",
        "1 if the last check succeeded, 0 if it failed; absent before the first one.",
        Server(|_, _, known| Some(known.last_check_ok?.into()))),
    gauge("ringlane_server_sessions_live",
        "Open sessions of the server, those still connecting included.",
        Server(|t, id, _| Some(t.gauges.server(id).sessions().into()))),
    gauge("ringlane_server_sessions_max",
        "Limit of open sessions (`max_connections` of the server); absent where there is none.",
        Server(|t, id, _| {
            let max = t.snapshot.server(id).max_connections;
            (max != u32::MAX).then(|| max.into())
        })),
    gauge("ringlane_server_source_ports",
        "Source ports for connections to the server's address; absent where they are no limit.",
        SourcePorts),
    gauge("ringlane_server_rate_bytes_per_second",
        "Bytes to and from the server per second, smoothed over three seconds.",
        Server(|t, id, _| Some(t.gauges.server(id).rate().into()))),
    counter("ringlane_server_sessions_total", "Sessions that the server accepted.",
        ServerCount(|s| s.sessions.get())),
    counter("ringlane_server_sessions_failed_total",
        "Sessions that the server reset, or that failed on the server's side.",
        ServerCount(|s| s.sessions_failed.get())),
    counter("ringlane_server_sessions_failed_early_total",
        "Sessions that the server reset before its first byte, or left unanswered: the client had \
         sent something, or a PostgreSQL client waited for the answer to its question for TLS, and \
         a timeout of either side ended the session.",
        ServerCount(|s| s.sessions_failed_early.get())),
    counter("ringlane_server_sessions_lossy_total",
        "Sessions with too many retransmissions towards the server (`retransmits` of `outlier`).",
        ServerCount(|s| s.sessions_lossy.get())),
    counter("ringlane_server_sessions_late_total",
        "Sessions whose first byte from the server came too late (`first_byte` of `outlier`).",
        ServerCount(|s| s.sessions_late.get())),
    counter("ringlane_server_sessions_shut_down_total",
        "Sessions ended by a drain or a fence because of what became of the server.",
        ServerCount(shut_down)),
    counter("ringlane_server_sessions_cut_total",
        "Sessions cut by a stop or at the end of `drain_timeout`.",
        ServerCount(|s| s.cut.get())),
    counter("ringlane_server_connects_failed_total", "Connects that failed, timeouts included.",
        ServerCount(|s| s.connects_failed.get())),
    counter("ringlane_server_connects_timed_out_total", "Connects that timed out.",
        ServerCount(|s| s.connects_timed_out.get())),
    counter("ringlane_server_connects_impossible_total",
        "Connects that this machine could not start: no descriptor or port was free, or the \
         kernel refused the source address or an option.",
        ServerCount(|s| s.connects_impossible.get())),
    counter("ringlane_server_races_won_total",
        "Sessions that the server got because the one tried before it was slow to accept \
         (`race_after`).",
        ServerCount(|s| s.races_won.get())),
    counter("ringlane_server_sent_bytes_total", "Bytes sent to the server.",
        ServerCount(|s| s.bytes_in.get())),
    counter("ringlane_server_received_bytes_total", "Bytes received from the server.",
        ServerCount(|s| s.bytes_out.get())),
];
