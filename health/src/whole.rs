//! The state that all servers of a backend share, updated incrementally.
//!
//! Not here: the state of one server (`server`). Invariant: [`Tally`] is the sum of the parts of
//! all servers at any time; a change of one server that leaves its part unchanged costs nothing
//! here.

use std::collections::BTreeSet;
use std::time::Instant;

use super::server::Server;
use super::{Admin, OnConflict, Rules};

/// What the state of a server depends on besides the server itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Whole {
    /// Several servers report the role primary.
    pub(super) in_conflict: bool,
    /// The server that gets the sessions for a primary, if there is one.
    pub(super) primary: Option<usize>,
    /// The timeline that replicas must follow, if it is known.
    pub(super) timeline: Option<Timeline>,
    /// So few servers are healthy that all are used (`fail_open`).
    pub(super) fails_open: bool,
}

/// The timeline of a primary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Timeline {
    pub(super) number: u32,
    /// A primary is on it now; otherwise replicas may already be on a later one.
    pub(super) is_current: bool,
}

/// A server that reports the role primary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Claim {
    pub(super) since: Option<Instant>,
    /// Its administrative state.
    pub(super) admin: Admin,
    pub(super) timeline: Option<u32>,
}

/// The contribution of one server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Part {
    /// Set if it reports the role primary.
    pub(super) claim: Option<Claim>,
    /// It has an address and its administrative state is ready.
    pub(super) ready: bool,
    /// It is ready, up and not ejected.
    pub(super) healthy: bool,
}

/// The sum of the parts of all servers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Indices of the servers that report the role primary.
    claims: BTreeSet<usize>,
    ready: usize,
    healthy: usize,
}

impl Tally {
    /// Replaces the part of a server.
    pub(super) fn replace(&mut self, index: usize, old: Part, new: Part) {
        self.ready = self.ready + usize::from(new.ready) - usize::from(old.ready);
        self.healthy = self.healthy + usize::from(new.healthy) - usize::from(old.healthy);
        if new.claim.is_some() {
            self.claims.insert(index);
        } else {
            self.claims.remove(&index);
        }
    }

    /// The shared state; `last` is the timeline that was valid before.
    pub(super) fn whole(&self, servers: &[Server], rules: &Rules, last: Option<Timeline>) -> Whole {
        let primary = self.primary(servers, rules.on_conflict);
        Whole {
            in_conflict: self.claims.len() > 1,
            primary,
            timeline: self.timeline(servers, primary, last),
            fails_open: self.healthy * 100 < self.ready * rules.fail_open as usize,
        }
    }

    fn primary(&self, servers: &[Server], on_conflict: OnConflict) -> Option<usize> {
        let mut claims = self.claims.iter().copied();
        let the_one = match on_conflict {
            OnConflict::Stop if self.claims.len() > 1 => None,
            OnConflict::Stop | OnConflict::First => claims.next(),
            OnConflict::Newest => claims.max_by_key(|index| servers[*index].primary_since),
        };
        the_one.filter(|index| servers[*index].admin_now() == Admin::Ready)
    }

    /// The valid timeline: that of the primary; while several servers report the role primary and
    /// none is chosen, the latest, since a promotion begins a new one; without any, the last one.
    fn timeline(
        &self,
        servers: &[Server],
        primary: Option<usize>,
        last: Option<Timeline>,
    ) -> Option<Timeline> {
        let latest = self.claims.iter().filter_map(|index| servers[*index].timeline).max();
        match primary.and_then(|index| servers[index].timeline).or(latest) {
            Some(number) => Some(Timeline { number, is_current: true }),
            None => last.map(|last| Timeline { is_current: false, ..last }),
        }
    }
}
