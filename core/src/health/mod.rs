//! Who may take sessions: the state of every server of a backend, told of checks, orders and time.
//!
//! Plain structs that know no shard, socket or clock. [`Backend`] is told what checks saw and what
//! operators ordered; it says what shards must know ([`Orders`]) and what changed ([`Change`]).
//! Not here: how a server is checked, and the passive view of it that shards have from their own
//! connects (`gauges`). Invariants: a server that was never checked counts as up, but has no role;
//! `rise` good checks bring a server up, `fall` bad ones take it down, but the very first check
//! decides alone; a server is open for a role only while it has it, and for nothing while it has
//! no address. Next: `seen`, `orders`.

mod endings;
mod orders;
mod outlier;
mod seen;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

pub use endings::{Ended, Ending, OnChange};
pub use orders::{Orders, RoleWanted, WEIGHT_SCALE};
pub use outlier::{Ejection, Met, Outlier, Verdict};
pub use seen::{Admin, Advice, Lag, LagLimit, Role, Seen};

/// Steps in which the weight of a warming server grows.
const WARMING_STEPS: u32 = 20;

/// What to do while two servers say that they are primary.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnConflict {
    /// Neither of them is: nothing is written until there is one again.
    #[default]
    Stop,
    /// The one that became primary last is.
    Newest,
    /// The first one in the configuration is.
    First,
}

/// What a backend makes of what it sees.
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
    /// What becomes of the sessions of a server that goes down.
    pub on_down: OnChange,
    /// What becomes of sessions whose server is no longer what their frontend wants.
    pub on_role_change: OnChange,
    /// What becomes of the sessions of a replica that falls too far behind.
    pub on_lag: OnChange,
    /// What becomes of the sessions of a server that is taken out by order.
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

/// How a server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// It takes its full share.
    Up,
    /// It has just come up and takes a growing share.
    Warming,
    /// Its checks fail.
    Down,
    /// It has no address.
    Absent,
}

/// The state of a server in its three parts, and what else keeps sessions away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    /// What checks say.
    pub health: Health,
    /// What operators say.
    pub admin: Admin,
    /// Which member of a replicated database it is.
    pub role: Role,
    /// Too far behind its primary.
    pub stale: bool,
    /// It says that it is primary, and so does another one.
    pub in_conflict: bool,
    /// Out for a while for what its sessions met.
    pub ejected: bool,
}

/// One change of a server's state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Which server of the backend.
    pub server: usize,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why, for operators.
    pub reason: String,
}

/// The servers of one backend.
#[derive(Debug)]
pub struct Backend {
    rules: Rules,
    servers: Vec<Server>,
    /// The last one that was the primary, even if nobody is now.
    last_primary: Option<usize>,
}

#[derive(Debug)]
struct Server {
    /// It has no address; then nothing below is known of it.
    absent: bool,
    up: bool,
    tested: bool,
    /// Checks in a row that speak against `up`.
    against: u32,
    ejected: bool,
    /// When it came up, while it is warming.
    warming_since: Option<Instant>,
    admin: Admin,
    advised: Option<Admin>,
    role: Role,
    /// Since when it says so, a time in which nobody could ask included.
    primary_since: Option<Instant>,
    lag: Option<Lag>,
    /// As configured.
    weight: u32,
    /// What its name says of its weight.
    named_weight: Option<u32>,
    /// As ordered, which counts before what its name says.
    ordered_weight: Option<u32>,
    /// Its name wants others to be used first.
    backup: bool,
    advised_percent: Option<u8>,
}

impl Backend {
    /// Servers with these weights, none of them checked yet.
    pub fn new(rules: Rules, weights: impl IntoIterator<Item = u32>) -> Self {
        let servers = weights.into_iter().map(Server::new).collect();
        Self { rules, servers, last_primary: None }
    }

    /// A check of a server has ended; an error is a phrase for operators.
    pub fn observe(
        &mut self,
        index: usize,
        outcome: Result<Seen, String>,
        now: Instant,
    ) -> Vec<Change> {
        let before = self.states();
        let (rise, fall) = (self.rules.rise, self.rules.fall);
        let slow_start = self.rules.slow_start;
        let server = self.servers.get_mut(index).filter(|server| !server.absent);
        let Some(server) = server else { return Vec::new() };
        let reason = match outcome {
            Ok(seen) => {
                if server.counts_as(true, rise) {
                    server.warming_since = (slow_start.is_some() && server.tested).then_some(now);
                }
                if server.up {
                    // What a server that is still down says of itself is not to be acted upon.
                    server.take(&seen, now);
                }
                seen.detail.unwrap_or_else(|| "the check succeeded".to_owned())
            }
            Err(why) => {
                if server.counts_as(false, fall) {
                    (server.role, server.lag) = (Role::Unknown, None);
                    server.warming_since = None;
                }
                why
            }
        };
        server.tested = true;
        self.changes(&before, &reason)
    }

    /// An operator orders a state.
    pub fn set_admin(&mut self, index: usize, admin: Admin) -> Vec<Change> {
        let before = self.states();
        if let Some(server) = self.servers.get_mut(index) {
            server.admin = admin;
        }
        self.changes(&before, "ordered by an operator")
    }

    /// An operator orders a weight, in the unit of the configuration.
    pub fn set_weight(&mut self, index: usize, weight: u32) {
        if let Some(server) = self.servers.get_mut(index) {
            server.ordered_weight = Some(weight);
        }
    }

    /// A server is out for what its sessions met, or in again. Sessions that want the primary still
    /// go to it, since they can go nowhere else.
    pub fn set_ejected(&mut self, index: usize, ejected: bool, why: &str) -> Vec<Change> {
        let before = self.states();
        if let Some(server) = self.servers.get_mut(index) {
            server.ejected = ejected;
        }
        self.changes(&before, why)
    }

    /// A server has another address than before, or, if it is not `present`, none. What was known
    /// of it is forgotten, all but what operators ordered.
    pub fn moved(&mut self, index: usize, present: bool, why: &str) -> Vec<Change> {
        let before = self.states();
        if let Some(server) = self.servers.get_mut(index) {
            let (admin, ordered_weight) = (server.admin, server.ordered_weight);
            *server =
                Server { admin, ordered_weight, absent: !present, ..Server::new(server.weight) };
        }
        self.changes(&before, why)
    }

    /// What a server's name says of it: its weight, in the unit of the configuration, and whether
    /// others are to be used first.
    pub fn named(&mut self, index: usize, weight: Option<u32>, backup: bool) {
        if let Some(server) = self.servers.get_mut(index) {
            (server.named_weight, server.backup) = (weight, backup);
        }
    }

    /// Time has passed: warming ends.
    pub fn pass(&mut self, now: Instant) -> Vec<Change> {
        let before = self.states();
        let slow_start = self.rules.slow_start.unwrap_or_default();
        for server in &mut self.servers {
            if server.warming_since.is_some_and(|since| now >= since + slow_start) {
                server.warming_since = None;
            }
        }
        self.changes(&before, "warm")
    }

    /// When to be told of the time again.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let warming = self.servers.iter().any(|server| server.warming_since.is_some());
        let step = self.rules.slow_start? / WARMING_STEPS;
        warming.then(|| now + step)
    }

    /// Whether checks of a server speak against its state, so that it is worth a closer look.
    pub fn is_changing(&self, index: usize) -> bool {
        self.servers.get(index).is_some_and(|server| server.against > 0 || !server.tested)
    }

    /// The state of a server; the first one's of an empty backend does not exist.
    pub fn state(&self, index: usize) -> Option<State> {
        let server = self.servers.get(index)?;
        let claims = self.servers.iter().filter(|server| server.is_primary()).count();
        Some(State {
            health: match (server.up, server.warming_since) {
                _ if server.absent => Health::Absent,
                (false, _) => Health::Down,
                (true, Some(_)) => Health::Warming,
                (true, None) => Health::Up,
            },
            admin: server.admin_now(),
            role: server.role,
            stale: server.is_stale(&self.rules),
            in_conflict: server.is_primary() && claims > 1,
            ejected: server.ejected,
        })
    }

    /// How far a server is behind, as its last check saw it.
    pub fn lag(&self, index: usize) -> Option<Lag> {
        self.servers.get(index)?.lag
    }

    /// The weight of a server in the unit of the configuration: as ordered, or as its name says.
    pub fn weight(&self, index: usize) -> u32 {
        self.servers.get(index).map_or(0, Server::weight)
    }

    /// What shards must know of a server.
    pub fn orders(&self, index: usize, now: Instant) -> Orders {
        let (Some(server), Some(state)) = (self.servers.get(index), self.state(index)) else {
            return Orders::CLOSED;
        };
        if state.health == Health::Absent {
            return Orders::CLOSED;
        }
        let takes = state.admin != Admin::Maint && !state.stale;
        let healthy = state.health != Health::Down && !state.ejected;
        let open = takes && (healthy || self.fails_open());
        let with_role = takes && healthy;
        let primary = self.the_primary() == Some(index);
        let replica = with_role && state.role == Role::Replica;
        let weight = server.effective_weight(&self.rules, now);
        let orders = Orders::new([open, primary, replica], weight);
        let orders = if server.backup { orders.as_backup() } else { orders };
        if state.admin == Admin::Drain { orders.draining() } else { orders }
    }

    /// The server that takes what only a primary may take, if there is one now.
    fn the_primary(&self) -> Option<usize> {
        let claims = || self.servers.iter().enumerate().filter(|(_, server)| server.is_primary());
        let (the_one, server) = match self.rules.on_conflict {
            OnConflict::Stop if claims().count() > 1 => None,
            OnConflict::Stop | OnConflict::First => claims().next(),
            OnConflict::Newest => claims().max_by_key(|(_, server)| server.primary_since),
        }?;
        (server.admin_now() == Admin::Ready).then_some(the_one)
    }

    fn fails_open(&self) -> bool {
        // Of those that are there and that nobody has taken out.
        let is_ready = |server: &&Server| !server.absent && server.admin_now() == Admin::Ready;
        let ready = || self.servers.iter().filter(is_ready);
        let healthy = ready().filter(|server| server.up && !server.ejected).count();
        healthy * 100 < ready().count() * self.rules.fail_open as usize
    }

    fn states(&self) -> Vec<Option<State>> {
        (0..self.servers.len()).map(|index| self.state(index)).collect()
    }

    fn changes(&self, before: &[Option<State>], reason: &str) -> Vec<Change> {
        let change = |(server, from): (usize, &Option<State>)| {
            let (from, to) = ((*from)?, self.state(server)?);
            (from != to).then(|| Change { server, from, to, reason: reason.to_owned() })
        };
        before.iter().enumerate().filter_map(change).collect()
    }
}

impl Server {
    /// One that was never checked.
    fn new(weight: u32) -> Self {
        Self {
            absent: false,
            up: true,
            tested: false,
            against: 0,
            ejected: false,
            warming_since: None,
            admin: Admin::Ready,
            advised: None,
            role: Role::Unknown,
            primary_since: None,
            lag: None,
            weight,
            named_weight: None,
            ordered_weight: None,
            backup: false,
            advised_percent: None,
        }
    }

    fn weight(&self) -> u32 {
        self.ordered_weight.or(self.named_weight).unwrap_or(self.weight)
    }

    /// A check speaks for `up`; whether that has changed what the server counts as.
    fn counts_as(&mut self, up: bool, needed: u32) -> bool {
        if self.up == up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.tested && self.against < needed {
            return false;
        }
        (self.up, self.against) = (up, 0);
        true
    }

    /// What a good check saw.
    fn take(&mut self, seen: &Seen, now: Instant) {
        if let Some(role) = seen.role {
            self.primary_since = match role {
                Role::Primary => self.primary_since.or(Some(now)),
                Role::Replica | Role::Unknown => None,
            };
            self.role = role;
        }
        self.lag = seen.lag;
        if let Some(advice) = seen.advice {
            self.advised = advice.admin.or(self.advised);
            self.advised_percent = advice.weight_percent.or(self.advised_percent);
        }
    }

    fn is_primary(&self) -> bool {
        self.up && self.role == Role::Primary && self.admin_now() != Admin::Maint
    }

    /// What the operator ordered, or what the server itself asks for, whichever takes less.
    fn admin_now(&self) -> Admin {
        self.advised.map_or(self.admin, |advised| advised.max(self.admin))
    }

    /// Of a replica only: a primary is behind nobody.
    fn is_stale(&self, rules: &Rules) -> bool {
        let limit = rules.max_lag.filter(|_| self.role == Role::Replica);
        // A replica that can't tell how far it is behind is not to be trusted with a limit.
        limit.is_some_and(|limit| self.lag.is_none_or(|lag| !limit.allows(lag)))
    }

    fn effective_weight(&self, rules: &Rules, now: Instant) -> u32 {
        let full = u64::from(self.weight().saturating_mul(WEIGHT_SCALE));
        let advised = full * u64::from(self.advised_percent.unwrap_or(100)) / 100;
        let (Some(since), Some(whole)) = (self.warming_since, rules.slow_start) else {
            return advised as u32;
        };
        let step = whole / WARMING_STEPS;
        let elapsed = now.saturating_duration_since(since).as_nanos() / step.as_nanos().max(1);
        let steps = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1);
        let share = advised * steps.min(WARMING_STEPS.into()) / u64::from(WARMING_STEPS);
        // It fits: a weight is at most 1000, a percentage at most 255.
        share.max(u64::from(advised > 0)) as u32
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
        if self.in_conflict {
            f.write_str(" in conflict")?;
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
    /// The word for people and for `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Warming => "warming",
            Self::Down => "down",
            Self::Absent => "absent",
        }
    }
}
