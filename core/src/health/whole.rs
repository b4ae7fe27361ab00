//! What the servers of a backend have in common, kept up to date instead of counted anew.
//!
//! Not here: the state of one server (`server`). Invariant: [`Tally`] is the sum of the parts of all
//! servers at any time; a change of one server that leaves its part as it was costs nothing here.

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
    /// So few servers are healthy that all are used.
    pub(super) fails_open: bool,
}

/// What one server adds to the whole.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Part {
    /// It reports that it is primary: since when, and what operators say of it.
    pub(super) claim: Option<(Option<Instant>, Admin)>,
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

    pub(super) fn whole(&self, servers: &[Server], rules: &Rules) -> Whole {
        Whole {
            in_conflict: self.claims.len() > 1,
            primary: self.primary(servers, rules.on_conflict),
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
}
