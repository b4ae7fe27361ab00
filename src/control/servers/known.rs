//! Read access to the state of a server: a small copy for numbers, a large one for people.
//!
//! Not here: the state itself (`servers`). Invariant: a reader of all servers takes the lock anew
//! for each, so that nothing waits for a whole page.

use std::time::SystemTime;

use ringlane_core::ids::ServerId;
use ringlane_core::machine::Address;
use ringlane_core::shared::{Eligibility, ServerGauge};
use ringlane_health::{Health, Lag, State};

use super::Servers;

/// A change and when it was.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When.
    pub at: SystemTime,
    /// What it was: `up primary`, or `at 10.0.0.7:80`.
    pub from: String,
    /// What it is.
    pub to: String,
    /// Why.
    pub reason: String,
}

/// The present state of a server.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its state, by checks and orders.
    pub state: State,
    /// Its health by checks; without checks, by the last connects of sessions.
    pub health: Health,
    /// Whether its backend has checks; otherwise its health is known from sessions only.
    pub checked: bool,
    /// How far it is behind.
    pub lag: Option<Lag>,
    /// Its weight as ordered, in the unit of the configuration.
    pub weight: u32,
    /// Its eligibility as published to shards.
    pub eligibility: Eligibility,
    /// Whether the last check succeeded; nothing without checks, or before the first.
    pub last_check_ok: Option<bool>,
    /// Number of checks, and of failed ones.
    pub checks: [u64; 2],
    /// Days that its certificate has left, if the last check met one; negative once it has expired.
    pub certificate_days: Option<i64>,
}

/// Where a server is and what has happened to it, for people.
#[derive(Clone, Debug)]
pub struct History {
    /// Where it is; nothing while its name gives it no address.
    pub address: Option<Address>,
    /// The last check: its time, and its result in words.
    pub last_check: Option<(SystemTime, Result<String, String>)>,
    /// The last changes, the newest first.
    pub changes: Vec<Recorded>,
}

/// The health of a server as it is shown: by checks or, without checks, by the last connects.
pub(super) fn health(state: Health, checked: bool, gauge: &ServerGauge) -> Health {
    match state {
        Health::Absent => Health::Absent,
        _ if !checked && gauge.is_down() => Health::Down,
        health => health,
    }
}

impl Servers {
    /// The present state of a server.
    pub fn known(&self, id: ServerId) -> Option<Known> {
        let (backend, index) = self.locate(id);
        let backends = self.lock();
        let backend = &backends[backend.0 as usize];
        let server = &backend.servers[index];
        let (state, gauge) = (backend.health.state(index)?, self.gauges.server(id));
        Some(Known {
            health: health(state.health, backend.checked, gauge),
            state,
            checked: backend.checked,
            lag: backend.health.lag(index),
            weight: backend.health.weight(index),
            eligibility: gauge.eligibility(),
            last_check_ok: server.last_check.as_ref().map(|(_, result)| result.is_ok()),
            checks: server.checks,
            certificate_days: server.certificate_days,
        })
    }

    /// Where a server is and what has happened to it.
    pub fn history(&self, id: ServerId) -> History {
        let (backend, index) = self.locate(id);
        let backends = self.lock();
        let server = &backends[backend.0 as usize].servers[index];
        History {
            address: server.address.clone(),
            last_check: server.last_check.clone(),
            changes: server.changes.iter().rev().cloned().collect(),
        }
    }
}
