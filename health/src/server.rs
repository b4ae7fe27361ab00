//! The state of one server: results of checks, orders of operators, and its DNS answer.
//!
//! Not here: what depends on other servers (`whole`). Invariant: everything here concerns this
//! server alone, so a change costs the same in a backend of any size.

use std::time::Instant;

use super::whole::{Claim, Part, Timeline, Whole};
use super::{Admin, Health, Lag, Role, Rules, Seen, State, WARMING_STEPS};
use ringlane_core::shared::WEIGHT_SCALE;

#[derive(Clone, Debug)]
pub(super) struct Server {
    /// It has no address; then the fields below have their initial values.
    pub(super) absent: bool,
    pub(super) up: bool,
    pub(super) tested: bool,
    /// It takes no session before its first check: other servers can do without it.
    pub(super) awaits_check: bool,
    /// Consecutive checks that contradict `up`.
    pub(super) against: u32,
    pub(super) ejected: bool,
    /// When it came up; set while it is warming.
    pub(super) warming_since: Option<Instant>,
    pub(super) admin: Admin,
    pub(super) advised: Option<Admin>,
    pub(super) role: Role,
    /// Since when it reports the role primary; kept while it can't be checked.
    pub(super) primary_since: Option<Instant>,
    pub(super) lag: Option<Lag>,
    /// The branch of history that it writes or follows.
    pub(super) timeline: Option<u32>,
    /// The configured weight.
    pub(super) weight: u32,
    /// The weight in its DNS answer.
    pub(super) named_weight: Option<u32>,
    /// The weight ordered by an operator, which overrides that of DNS.
    pub(super) ordered_weight: Option<u32>,
    /// Its DNS answer gives others priority over it.
    pub(super) backup: bool,
    pub(super) advised_percent: Option<u8>,
}

impl Server {
    /// A server that was never checked.
    pub(super) fn new(weight: u32) -> Self {
        Self {
            absent: false,
            up: true,
            tested: false,
            awaits_check: false,
            against: 0,
            ejected: false,
            warming_since: None,
            admin: Admin::Ready,
            advised: None,
            role: Role::Unknown,
            primary_since: None,
            lag: None,
            timeline: None,
            weight,
            named_weight: None,
            ordered_weight: None,
            backup: false,
            advised_percent: None,
        }
    }

    pub(super) fn weight(&self) -> u32 {
        self.ordered_weight.or(self.named_weight).unwrap_or(self.weight)
    }

    /// Records a check whose result is `up`; whether the state of the server changed.
    pub(super) fn counts_as(&mut self, up: bool, needed: u32) -> bool {
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

    /// Takes the result of a check that succeeded.
    pub(super) fn take(&mut self, seen: &Seen, now: Instant) {
        if let Some(role) = seen.role {
            self.primary_since = match role {
                Role::Primary => self.primary_since.or(Some(now)),
                Role::Replica | Role::Unknown => None,
            };
            self.role = role;
        }
        (self.lag, self.timeline) = (seen.lag, seen.timeline);
        if let Some(advice) = seen.advice {
            self.advised = advice.admin.or(self.advised);
            self.advised_percent = advice.weight_percent.or(self.advised_percent);
        }
    }

    pub(super) fn is_primary(&self) -> bool {
        self.up && self.role == Role::Primary && self.admin_now() != Admin::Maint
    }

    /// The order of the operator or the state that the agent requests, whichever accepts less.
    pub(super) fn admin_now(&self) -> Admin {
        self.advised.map_or(self.admin, |advised| advised.max(self.admin))
    }

    /// Whether it lags too far behind. Replicas only: a primary has no lag.
    pub(super) fn is_stale(&self, rules: &Rules) -> bool {
        let limit = rules.max_lag.filter(|_| self.role == Role::Replica);
        // With a limit configured, a replica of unknown lag counts as too far behind.
        limit.is_some_and(|limit| self.lag.is_none_or(|lag| !limit.allows(lag)))
    }

    /// Whether its timeline is not that of the primary. Replicas only. Without a primary it may be
    /// ahead: it may follow a new primary that was not checked yet.
    fn has_diverged(&self, timeline: Option<Timeline>) -> bool {
        let (Role::Replica, Some(own), Some(the)) = (self.role, self.timeline, timeline) else {
            return false;
        };
        own < the.number || (own > the.number && the.is_current)
    }

    pub(super) fn effective_weight(&self, rules: &Rules, now: Instant) -> u32 {
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

    /// Its state; `index` is its place in the backend, which `whole` describes.
    pub(super) fn state(&self, index: usize, rules: &Rules, whole: &Whole) -> State {
        #[cfg(test)]
        super::tests::count_step();
        State {
            health: match (self.up, self.warming_since) {
                _ if self.absent => Health::Absent,
                (false, _) => Health::Down,
                (true, Some(_)) => Health::Warming,
                (true, None) => Health::Up,
            },
            admin: self.admin_now(),
            role: self.role,
            stale: self.is_stale(rules),
            diverged: self.has_diverged(whole.timeline),
            in_conflict: self.is_primary() && whole.in_conflict,
            chosen: whole.in_conflict && whole.primary == Some(index),
            ejected: self.ejected,
        }
    }

    /// Its contribution to the state of the backend.
    pub(super) fn part(&self) -> Part {
        let admin = self.admin_now();
        let ready = !self.absent && admin == Admin::Ready;
        Part {
            claim: self.is_primary().then_some(Claim {
                since: self.primary_since,
                admin,
                timeline: self.timeline,
            }),
            ready,
            healthy: ready && self.up && !self.ejected,
        }
    }
}
