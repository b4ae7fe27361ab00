//! What the servers of a backend have in common, kept up to date instead of counted anew.
//!
//! Not here: the state of one server (`server`). Invariant: [`Tally`] is the sum of the parts of
//! all servers at any time; a change of one server that leaves its part as it was costs nothing
//! here.

use std::collections::BTreeSet;
use std::time::Instant;

use super::server::Server;
use super::{Admin, OnConflict, Rules};

/// What the state and the orders of a server depend on besides the server itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Whole {
    /// Several servers report that they are primary.
    pub(super) in_conflict: bool,
    /// The server that takes what only a primary may take, if there is one.
    pub(super) primary: Option<usize>,
    /// Which timeline replicas must be on, if any is known.
    pub(super) timeline: Option<Timeline>,
    /// So few servers are healthy that all are used.
    pub(super) fails_open: bool,
}

/// The timeline of a primary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Timeline {
    pub(super) number: u32,
    /// A primary is on it now; otherwise replicas may be on a later one already.
    pub(super) is_current: bool,
}

/// A server's report that it is primary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Claim {
    pub(super) since: Option<Instant>,
    /// What operators say of it.
    pub(super) admin: Admin,
    pub(super) timeline: Option<u32>,
}

/// What one server adds to the whole.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Part {
    /// It reports that it is primary.
    pub(super) claim: Option<Claim>,
    /// It has an address, and nobody has taken it out.
    pub(super) ready: bool,
    /// It is ready, up and not ejected.
    pub(super) healthy: bool,
}

/// The parts of all servers together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Those that report that they are primary.
    claims: BTreeSet<usize>,
    ready: usize,
    healthy: usize,
}

impl Tally {
    /// A server's part is another one from now on.
    pub(super) fn replace(&mut self, index: usize, old: Part, new: Part) {
        self.ready = self.ready + usize::from(new.ready) - usize::from(old.ready);
        self.healthy = self.healthy + usize::from(new.healthy) - usize::from(old.healthy);
        if new.claim.is_some() {
            self.claims.insert(index);
        } else {
            self.claims.remove(&index);
        }
    }

    /// The whole; `last` is the timeline that counted before.
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

    /// The timeline that counts: that of the primary; while several claim to be primary and none is
    /// chosen, the latest, since a promotion begins a new one; while there is none, the last one's.
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
