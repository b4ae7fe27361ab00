//! Which sessions a change of state ends, and how.

use ringlane_core::counters::{Ending, Reason};
use ringlane_core::settings::RoleWanted;

use super::{Admin, Backend, Change, Health, OnConflict, Role};

/// What happens to sessions when the state of their server changes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnChange {
    /// They continue.
    #[default]
    Keep,
    /// They are ended when idle, a few at a time.
    Drain,
    /// They are ended at once.
    Fence,
}

/// A set of sessions that must end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ended {
    /// Index of their server in the backend.
    pub server: usize,
    /// Only sessions of frontends and routes that want this role; `Any`: all.
    pub role: RoleWanted,
    /// How.
    pub how: Ending,
    /// Why.
    pub why: Reason,
}

impl OnChange {
    /// How sessions end, if they do.
    pub fn ending(self) -> Option<Ending> {
        match self {
            Self::Keep => None,
            Self::Drain => Some(Ending::Drain),
            Self::Fence => Some(Ending::Fence),
        }
    }
}

impl Backend {
    /// The sessions that these changes end. Must be called with every change, in order.
    pub fn ended_by(&mut self, changes: &[Change]) -> Vec<Ended> {
        let rules = self.rules;
        let mut ended = Vec::new();
        let mut end = |server: usize, role: RoleWanted, what: OnChange, why: Reason| {
            ended.extend(what.ending().map(|how| Ended { server, role, how, why }));
        };
        for Change { server, from, to, .. } in changes {
            if to.health == Health::Down && from.health != Health::Down {
                end(*server, RoleWanted::Any, rules.on_down, Reason::Down);
            }
            if to.admin != Admin::Ready && from.admin == Admin::Ready {
                let drains = to.admin == Admin::Drain;
                let why = if drains { Reason::Drained } else { Reason::Maintenance };
                end(*server, RoleWanted::Any, rules.on_drain, why);
            }
            if (to.stale || to.diverged) && !(from.stale || from.diverged) {
                // Sessions that accept a replica or the primary read from the replica as well.
                for role in [RoleWanted::Replica, RoleWanted::ReplicaOrPrimary] {
                    end(*server, role, rules.on_lag, Reason::Lag);
                }
            }
            let stopped =
                to.in_conflict && !from.in_conflict && rules.on_conflict == OnConflict::Stop;
            if stopped || (from.role, to.role) == (Role::Primary, Role::Replica) {
                let why = if stopped { Reason::Conflict } else { Reason::Demoted };
                end(*server, RoleWanted::Primary, rules.on_role_change, why);
            }
            if (from.role, to.role) == (Role::Replica, Role::Primary) {
                end(*server, RoleWanted::Replica, rules.on_role_change, Reason::Promoted);
            }
        }
        let primary = self.whole.primary;
        if primary.is_some() && primary != self.last_primary {
            // No other server is the primary any more, even if it can't be checked.
            let others = (0..self.servers.len()).filter(|other| Some(*other) != primary);
            let why = Reason::Demoted;
            others.for_each(|other| end(other, RoleWanted::Primary, rules.on_role_change, why));
            self.last_primary = primary;
        }
        ended
    }
}
