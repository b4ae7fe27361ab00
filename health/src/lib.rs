//! The state of every server of a backend, derived from checks, orders and time.
//!
//! Pure structs without shards, sockets or a clock, used by the control thread only. [`Backend`]
//! takes results of checks and orders of operators; it returns what changed ([`Change`]) and which
//! sessions a server may get ([`Eligibility`]). Not here: how servers are checked, and failed
//! connects, which shards track themselves (`ringlane_core::shared`). Invariants: a server that was
//! never checked is up, but has no role; `rise` good checks bring a server up and `fall` bad ones
//! take it down, except that the first check decides alone; a server is open for a role only while
//! it has that role, and closed while it has no address. The cost of a change does not grow with
//! the number of servers. Next: `server`, `whole`, `seen`, `endings`.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests make up times and print figures"
    )
)]

pub mod addresses;
mod endings;
mod outlier;
mod seen;
mod server;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::BTreeSet;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use ringlane_core::shared::Eligibility;

pub use endings::{Ended, OnChange};
pub use outlier::{Ejection, Met, Outlier, Verdict};
pub use seen::{Admin, Advice, Lag, LagLimit, Role, Seen};

use server::Server;
use whole::{Part, Tally, Whole};

/// Steps in which the weight of a warming server grows.
const WARMING_STEPS: u32 = 20;

/// What to do while two servers report the role primary.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnConflict {
    /// No server counts as primary, so nothing is written, until only one reports the role.
    #[default]
    Stop,
    /// The one that became primary last counts.
    Newest,
    /// The first one in the configuration counts.
    First,
}

/// How a backend reacts to results of checks and to orders.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Good checks in a row that bring a server up.
    pub rise: u32,
    /// Bad checks in a row that take a server down.
    pub fall: u32,
    /// How far a replica may be behind.
    pub max_lag: Option<LagLimit>,
    /// What to do with two primaries.
    pub on_conflict: OnConflict,
    /// How long a server that came up takes to its full weight.
    pub slow_start: Option<Duration>,
    /// Below this percentage of healthy servers all of them are used, except for a role; 0: never.
    pub fail_open: u32,
    /// What happens to the sessions of a server that goes down.
    pub on_down: OnChange,
    /// What happens to sessions whose server no longer has the role that they need.
    pub on_role_change: OnChange,
    /// What happens to the sessions of a replica that falls too far behind.
    pub on_lag: OnChange,
    /// What happens to the sessions of a server that an operator drains or puts into maintenance.
    pub on_drain: OnChange,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rise: 2,
            fall: 3,
            max_lag: None,
            on_conflict: OnConflict::Stop,
            slow_start: None,
            fail_open: 0,
            on_down: OnChange::Keep,
            on_role_change: OnChange::Keep,
            on_lag: OnChange::Keep,
            on_drain: OnChange::Keep,
        }
    }
}

/// The health of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// It gets its full share of sessions.
    Up,
    /// It has just come up and gets a growing share.
    Warming,
    /// Its checks fail.
    Down,
    /// It has no address.
    Absent,
}

/// The state of a server: health, administrative state, role, and what else excludes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    /// By its checks.
    pub health: Health,
    /// By orders of operators and its agent.
    pub admin: Admin,
    /// Which member of a replicated database it is.
    pub role: Role,
    /// A replica that is too far behind the primary.
    pub stale: bool,
    /// A replica whose timeline is not that of the primary: it follows an old primary, or none.
    pub diverged: bool,
    /// It reports the role primary, and so does another server.
    pub in_conflict: bool,
    /// Of several servers that report the role primary, the one that gets the writes
    /// (`on_conflict`).
    pub chosen: bool,
    /// Ejected for a while because of session failures.
    pub ejected: bool,
}

/// One change of a server's state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Index of the server in the backend.
    pub server: usize,
    /// Its state before.
    pub from: State,
    /// Its state now.
    pub to: State,
    /// The reason, for operators.
    pub reason: String,
}

/// A server of a configuration that follows another one.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    /// Its weight, as configured.
    pub weight: u32,
    /// Its place in the configuration before, if it was there.
    pub before: Option<usize>,
    /// Whether it is configured with another address than before.
    pub moved: bool,
}

/// The servers of one backend.
#[derive(Debug)]
pub struct Backend {
    rules: Rules,
    servers: Vec<Server>,
    tally: Tally,
    whole: Whole,
    /// Servers whose eligibility may have changed since [`Backend::take_updated`].
    updated: BTreeSet<usize>,
    warming: BTreeSet<usize>,
    /// The last primary, even if there is none now.
    last_primary: Option<usize>,
}

impl Backend {
    /// Servers with these weights, none of them checked yet.
    pub fn new(rules: Rules, weights: impl IntoIterator<Item = u32>) -> Self {
        let servers: Vec<Server> = weights.into_iter().map(Server::new).collect();
        let mut tally = Tally::default();
        for (index, server) in servers.iter().enumerate() {
            tally.replace(index, Part::default(), server.part());
        }
        let whole = tally.whole(&servers, &rules, None);
        let updated = (0..servers.len()).collect();
        Self { rules, servers, tally, whole, updated, warming: BTreeSet::new(), last_primary: None }
    }

    /// The servers of a newer configuration: those that were there already, in `older`, keep their
    /// state, and new rules apply from the next check on. A server that is new, or has another
    /// address, waits for its first check where there are checks and another server is up.
    pub fn follow(older: &Self, rules: Rules, checked: bool, servers: &[Followed]) -> Self {
        let kept = |one: &Followed| older.servers.get(one.before?);
        let spare = |one: &Followed| !one.moved && kept(one).is_some_and(|server| server.up);
        let others_are_up = servers.iter().any(spare);
        let follow = |one: &Followed| {
            let awaits_check = checked && others_are_up;
            let new = Server { awaits_check, ..Server::new(one.weight) };
            let Some(server) = kept(one) else { return new };
            let ordered_weight = server.ordered_weight.filter(|_| server.weight == one.weight);
            if one.moved {
                return Server { admin: server.admin, ordered_weight, ..new };
            }
            Server { weight: one.weight, ordered_weight, ..server.clone() }
        };
        let all: Vec<Server> = servers.iter().map(follow).collect();
        let mut tally = Tally::default();
        for (index, server) in all.iter().enumerate() {
            tally.replace(index, Part::default(), server.part());
        }
        let place = |before| servers.iter().position(|one| one.before == Some(before));
        Self {
            rules,
            whole: tally.whole(&all, &rules, older.whole.timeline),
            tally,
            updated: (0..all.len()).collect(),
            warming: older.warming.iter().filter_map(|before| place(*before)).collect(),
            last_primary: older.last_primary.and_then(place),
            servers: all,
        }
    }

    /// Takes the outcome of a check; an error is a phrase for operators.
    pub fn observe(
        &mut self,
        index: usize,
        outcome: Result<Seen, String>,
        now: Instant,
    ) -> Vec<Change> {
        self.update(index, |server, rules| {
            if server.absent {
                return String::new();
            }
            let reason = match outcome {
                Ok(seen) => {
                    if server.counts_as(true, rules.rise) {
                        let warms = rules.slow_start.is_some() && server.tested;
                        server.warming_since = warms.then_some(now);
                    }
                    if server.up {
                        // While a server is still down, its role and lag are not used.
                        server.take(&seen, now);
                    }
                    seen.detail.unwrap_or_else(|| "the check succeeded".to_owned())
                }
                Err(why) => {
                    if server.counts_as(false, rules.fall) {
                        (server.role, server.lag) = (Role::Unknown, None);
                        server.timeline = None;
                        server.warming_since = None;
                    }
                    why
                }
            };
            server.tested = true;
            reason
        })
    }

    /// An operator orders a state.
    pub fn set_admin(&mut self, index: usize, admin: Admin, why: &str) -> Vec<Change> {
        self.update(index, |server, _| {
            server.admin = admin;
            why.to_owned()
        })
    }

    /// An operator orders a weight, in the unit of the configuration, or takes that order back.
    pub fn set_weight(&mut self, index: usize, weight: Option<u32>) {
        if let Some(server) = self.servers.get_mut(index) {
            server.ordered_weight = weight;
            self.updated.insert(index);
        }
    }

    /// A server was ejected because of session failures, or is back. Sessions for the primary are
    /// still sent to it, since no other server can take them.
    pub fn set_ejected(&mut self, index: usize, ejected: bool, why: &str) -> Vec<Change> {
        self.update(index, |server, _| {
            server.ejected = ejected;
            why.to_owned()
        })
    }

    /// The address of a server has changed or, if it is not `present`, is gone. Its state is reset,
    /// except for orders of operators.
    pub fn moved(&mut self, index: usize, present: bool, why: &str) -> Vec<Change> {
        self.update(index, |server, _| {
            let (admin, ordered_weight) = (server.admin, server.ordered_weight);
            *server =
                Server { admin, ordered_weight, absent: !present, ..Server::new(server.weight) };
            why.to_owned()
        })
    }

    /// Takes the weight of a server from its DNS answer, in the unit of the configuration, and
    /// whether the answer makes it a backup.
    pub fn named(&mut self, index: usize, weight: Option<u32>, backup: bool) {
        if let Some(server) = self.servers.get_mut(index) {
            (server.named_weight, server.backup) = (weight, backup);
            self.updated.insert(index);
        }
    }

    /// Ends the warming of servers whose time is over.
    pub fn pass(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for index in self.warming.clone() {
            changes.extend(self.update(index, |server, rules| {
                let whole = rules.slow_start.unwrap_or_default();
                server.warming_since = server.warming_since.filter(|since| now < *since + whole);
                "warm".to_owned()
            }));
        }
        changes
    }

    /// Changes one server; returns the changes of its state and of others that follow. `change`
    /// returns the reason.
    ///
    /// Everything about a server that others depend on is changed here. The cost does not grow with
    /// the backend, unless the shared state changes, which is rare.
    fn update(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Server, &Rules) -> String,
    ) -> Vec<Change> {
        let (rules, was) = (self.rules, self.whole);
        let Some(server) = self.servers.get_mut(index) else { return Vec::new() };
        let (from, part) = (server.state(index, &rules, &was), server.part());
        let reason = change(server, &rules);
        let new_part = server.part();
        if server.warming_since.is_some() {
            self.warming.insert(index);
        } else {
            self.warming.remove(&index);
        }
        self.updated.insert(index);
        if new_part != part {
            self.tally.replace(index, part, new_part);
            self.whole = self.tally.whole(&self.servers, &rules, was.timeline);
        }
        let whole = self.whole;
        let change = |server: usize, from: State, to: State| {
            (from != to).then(|| Change { server, from, to, reason: reason.clone() })
        };
        let own = change(index, from, self.servers[index].state(index, &rules, &whole));
        if whole == was {
            return own.into_iter().collect();
        }
        self.updated.extend(0..self.servers.len());
        let others = self.servers.iter().enumerate().map(|(other, server)| match other == index {
            true => own.clone(),
            false => {
                let (from, to) =
                    (server.state(other, &rules, &was), server.state(other, &rules, &whole));
                change(other, from, to)
            }
        });
        others.flatten().collect()
    }

    /// Servers whose eligibility may have changed since the last call, each once: those that were
    /// updated, or all if their shared state changed.
    pub fn take_updated(&mut self) -> BTreeSet<usize> {
        mem::take(&mut self.updated)
    }

    /// When [`Backend::pass`] must be called next.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let step = self.rules.slow_start? / WARMING_STEPS;
        (!self.warming.is_empty()).then(|| now + step)
    }

    /// What states are made by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The server that gets the sessions for a primary, if there is one now.
    pub fn primary(&self) -> Option<usize> {
        self.whole.primary
    }

    /// Whether recent checks contradict the state of a server, so it should be checked faster.
    pub fn is_changing(&self, index: usize) -> bool {
        self.servers.get(index).is_some_and(|server| server.against > 0 || !server.tested)
    }

    /// The state of a server; `None` for an index beyond the last.
    pub fn state(&self, index: usize) -> Option<State> {
        Some(self.servers.get(index)?.state(index, &self.rules, &self.whole))
    }

    /// The lag of a server by its last check.
    pub fn lag(&self, index: usize) -> Option<Lag> {
        self.servers.get(index)?.lag
    }

    /// The weight of a server in the unit of the configuration: as ordered, as in its DNS answer,
    /// or as configured.
    pub fn weight(&self, index: usize) -> u32 {
        self.servers.get(index).map_or(0, Server::weight)
    }

    /// Which sessions a server may get.
    pub fn eligibility(&self, index: usize, now: Instant) -> Eligibility {
        let (Some(server), Some(state)) = (self.servers.get(index), self.state(index)) else {
            return Eligibility::CLOSED;
        };
        if state.health == Health::Absent || (server.awaits_check && !server.tested) {
            return Eligibility::CLOSED;
        }
        let takes = state.admin != Admin::Maint && !state.stale && !state.diverged;
        let healthy = state.health != Health::Down && !state.ejected;
        let open = takes && (healthy || self.whole.fails_open);
        let with_role = takes && healthy;
        let primary = self.whole.primary == Some(index);
        let replica = with_role && state.role == Role::Replica;
        let weight = server.effective_weight(&self.rules, now);
        let open = Eligibility::new([open, primary, replica], weight);
        let open = if server.backup { open.as_backup() } else { open };
        if state.admin == Admin::Drain { open.draining() } else { open }
    }
}

impl fmt::Display for State {
    /// As in `up primary`, `down`, `up replica stale, drain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.health.name())?;
        if self.role != Role::Unknown {
            write!(f, " {}", self.role.name())?;
        }
        if self.stale {
            f.write_str(" stale")?;
        }
        if self.diverged {
            f.write_str(" diverged")?;
        }
        if self.in_conflict {
            f.write_str(" in conflict")?;
        }
        if self.chosen {
            f.write_str(" taking the writes")?;
        }
        if self.ejected {
            f.write_str(" ejected")?;
        }
        if self.admin != Admin::Ready {
            write!(f, ", {}", self.admin.name())?;
        }
        Ok(())
    }
}

impl Health {
    /// The word in log lines and `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Warming => "warming",
            Self::Down => "down",
            Self::Absent => "absent",
        }
    }
}
