//! A server's part of the status page: its state and its traffic.

use ringlane_core::counters::ServerCounters;
use ringlane_core::ids::ServerId;
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::WEIGHT_SCALE;
use schemars::JsonSchema;
use serde::Serialize;

use super::limit;
use crate::control::Running;
use crate::control::changes::time;
use crate::control::servers::Recorded;

/// One server.
#[derive(Debug, JsonSchema, Serialize)]
pub(in crate::control::report) struct Server<'a> {
    name: &'a str,
    /// Nothing while it has none.
    address: Option<String>,
    /// What gives it its address, as in the configuration; nothing for one with a fixed address.
    dns_name: Option<String>,
    /// `up`, `warming`, `down` or `absent`.
    state: &'static str,
    /// `ready`, `drain` or `maint`.
    admin: &'static str,
    /// `primary`, `replica` or `unknown`.
    role: &'static str,
    stale: bool,
    /// A replica on another timeline than the primary.
    diverged: bool,
    in_conflict: bool,
    /// It gets the sessions that want the primary.
    takes_writes: bool,
    ejected: bool,
    lag_seconds: Option<f64>,
    lag_bytes: Option<u64>,
    /// In the unit of the configuration, as it was ordered last.
    weight: u32,
    /// The same with what warming and an agent make of it.
    weight_effective: f64,
    /// In the configuration.
    weight_configured: u32,
    backup: bool,
    /// An operator changed a setting at run time.
    changed: bool,
    sessions_live: u32,
    /// As it is now; nothing without a limit.
    max_connections: Option<u32>,
    /// In the configuration.
    max_connections_configured: Option<u32>,
    sessions: u64,
    sessions_failed: u64,
    sessions_failed_early: u64,
    sessions_lossy: u64,
    sessions_late: u64,
    connects_failed: u64,
    connects_timed_out: u64,
    connects_impossible: u64,
    bytes_in: u64,
    bytes_out: u64,
    bytes_per_second: u64,
    /// Of the certificate that the last check met; negative once it has expired.
    certificate_days: Option<i64>,
    /// The last check; nothing without checks, or before the first.
    check: Option<CheckResult>,
    /// The newest first.
    changes: Vec<Change>,
}

#[derive(Debug, JsonSchema, Serialize)]
struct CheckResult {
    at: String,
    ok: bool,
    said: String,
}

#[derive(Debug, JsonSchema, Serialize)]
struct Change {
    at: String,
    from: String,
    to: String,
    reason: String,
}

impl<'a> Server<'a> {
    /// A server as it is now.
    pub(in crate::control::report) fn of(running: &'a Running, id: ServerId) -> Option<Self> {
        let Running { traffic, servers: states, names, .. } = running;
        let server = traffic.snapshot.server(id);
        let backend = &traffic.snapshot.backend(server.backend).name;
        let gauge = traffic.gauges.server(id);
        let known = states.known(id)?;
        let total = |read: fn(&ServerCounters) -> u64| traffic.server_total(id, read);
        let history = states.history(id);
        let lag = known.lag.unwrap_or_default();
        Some(Self {
            name: &server.name,
            address: history.address.as_ref().map(ToString::to_string),
            dns_name: names.of(id).map(ToString::to_string),
            state: known.health.name(),
            admin: known.state.admin.name(),
            role: known.state.role.name(),
            stale: known.state.stale,
            diverged: known.state.diverged,
            in_conflict: known.state.in_conflict,
            takes_writes: known.eligibility.is_open_for(RoleWanted::Primary),
            ejected: known.state.ejected,
            lag_seconds: lag.time.map(|time| time.as_secs_f64()),
            lag_bytes: lag.bytes,
            weight: known.weight,
            weight_effective: f64::from(known.eligibility.weight()) / f64::from(WEIGHT_SCALE),
            weight_configured: server.weight,
            changed: running.overlay.has_server(backend, &server.name),
            backup: server.backup || known.eligibility.is_backup(),
            sessions_live: gauge.sessions(),
            max_connections: limit(gauge.max()),
            max_connections_configured: limit(server.max_connections),
            sessions: total(|s| s.sessions.get()),
            sessions_failed: total(|s| s.sessions_failed.get()),
            sessions_failed_early: total(|s| s.sessions_failed_early.get()),
            sessions_lossy: total(|s| s.sessions_lossy.get()),
            sessions_late: total(|s| s.sessions_late.get()),
            connects_failed: total(|s| s.connects_failed.get()),
            connects_timed_out: total(|s| s.connects_timed_out.get()),
            connects_impossible: total(|s| s.connects_impossible.get()),
            bytes_in: total(|s| s.bytes_in.get()),
            bytes_out: total(|s| s.bytes_out.get()),
            bytes_per_second: gauge.rate(),
            certificate_days: known.certificate_days,
            check: history.last_check.map(|(at, said)| CheckResult {
                at: time(at),
                ok: said.is_ok(),
                said: said.unwrap_or_else(|why| why),
            }),
            changes: history.changes.into_iter().map(Change::from).collect(),
        })
    }
}

impl Server<'_> {
    /// Whether one of its states has this name.
    pub(in crate::control::report) fn is(&self, state: &str) -> bool {
        state == self.state || state == self.admin || (state == "ejected" && self.ejected)
    }
}

impl From<Recorded> for Change {
    fn from(Recorded { at, from, to, reason }: Recorded) -> Self {
        Self { at: time(at), from, to, reason }
    }
}
