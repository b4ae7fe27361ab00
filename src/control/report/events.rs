//! Log lines about sessions: limits reached, connections refused, servers lost.
//!
//! Shards never log: they count. About once a second the control thread looks at counters and
//! gauges and logs what an operator must not miss. A look is linear in frontends, backends and
//! servers, and formats no text unless there is a line. Not here: changes of a server's state,
//! which `servers` logs as they happen. Invariant: a condition is one line when it begins and one
//! when it is over; a kind of loss is one line per object and interval, with its count.

mod backends;
mod frontends;
mod pacing;
mod servers;
mod shards;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::control::log::Notice;
use crate::control::traffic::Traffic;
use pacing::Budget;

/// Between two looks.
pub(in crate::control) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// All that is remembered from look to look.
pub(in crate::control) struct Events {
    process: frontends::Process,
    frontends: Vec<frontends::FrontendEvents>,
    backends: Vec<backends::BackendEvents>,
    servers: Vec<servers::ServerEvents>,
    shards: Vec<shards::ShardEvents>,
}

impl Events {
    /// Nothing has been seen yet.
    pub(in crate::control) fn new(traffic: &Traffic, now: Instant) -> Self {
        let snapshot = &traffic.snapshot;
        Self {
            process: frontends::Process::new(),
            frontends: snapshot
                .frontends
                .iter()
                .map(|_| frontends::FrontendEvents::new(now))
                .collect(),
            backends: backends::all(snapshot, now),
            servers: snapshot.servers.iter().map(|_| servers::ServerEvents::new(now)).collect(),
            shards: (0..traffic.shards()).map(|_| shards::ShardEvents::new(now)).collect(),
        }
    }

    /// The lines that are due.
    pub(in crate::control) fn look(&mut self, traffic: &Traffic, now: Instant) -> Vec<Notice> {
        let mut look = Look { traffic, now, budget: Budget::new(), notices: Vec::new() };
        self.look_at_all(&mut look);
        look.notices
    }

    /// The lines at the end of the process, which cut sessions for this reason.
    pub(in crate::control) fn last_look(
        &mut self,
        traffic: &Traffic,
        now: Instant,
        why: &str,
    ) -> Vec<Notice> {
        let mut look = Look { traffic, now, budget: Budget::last(), notices: Vec::new() };
        self.look_at_all(&mut look);
        servers::cut(&mut look, why);
        look.notices
    }

    fn look_at_all(&mut self, look: &mut Look<'_>) {
        // The most important lines come first, as a look may have more lines than its budget.
        (0..).zip(&mut self.backends).for_each(|(id, backend)| backend.look(id, look));
        frontends::attribute_waits(&mut self.process, &mut self.frontends, look.traffic);
        self.process.look(look);
        (0..).zip(&mut self.shards).for_each(|(index, shard)| shard.look(index, look));
        (0..).zip(&mut self.frontends).for_each(|(id, frontend)| frontend.look(id, look));
        (0..).zip(&mut self.servers).for_each(|(id, server)| server.look(id, look));
    }
}

/// One look: what it sees, when, and the lines that it found.
struct Look<'a> {
    traffic: &'a Traffic,
    now: Instant,
    budget: Budget,
    notices: Vec<Notice>,
}
