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

use ringlane_core::ids::Places;
use ringlane_core::settings::Tags;

use crate::control::log::Notice;
use crate::control::traffic::Traffic;
use pacing::Budget;

/// Between two looks.
pub(in crate::control) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// All that is remembered from look to look.
pub(in crate::control) struct Events {
    /// The configuration of the last look, and what its objects are recognised by.
    generation: u64,
    tags: Tags,
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
            generation: snapshot.generation,
            tags: traffic.gauges.tags().clone(),
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

    /// What was remembered of objects that are in this configuration as well, by their names.
    fn follow(&mut self, traffic: &Traffic, now: Instant) {
        let older = std::mem::replace(self, Self::new(traffic, now));
        let (tags, before) = (&self.tags, &older.tags);
        keep(
            &mut self.frontends,
            older.frontends,
            &Places::new(&tags.frontends, &before.frontends),
        );
        let fresh = std::mem::take(&mut self.backends);
        let mut kept: Vec<Option<_>> = older.backends.into_iter().map(Some).collect();
        let places = Places::new(&tags.backends, &before.backends);
        let follow = |(own, at): (backends::BackendEvents, Option<usize>)| match at
            .and_then(|at| kept[at].take())
        {
            Some(before) => own.follow(before),
            None => own,
        };
        self.backends = fresh.into_iter().zip(places.iter()).map(follow).collect();
        keep(&mut self.servers, older.servers, &Places::new(&tags.servers, &before.servers));
        (self.process, self.shards) = (older.process, older.shards);
    }

    fn look_at_all(&mut self, look: &mut Look<'_>) {
        if look.traffic.snapshot.generation != self.generation {
            self.follow(look.traffic, look.now);
        }
        // The most important lines come first, as a look may have more lines than its budget.
        (0..).zip(&mut self.backends).for_each(|(id, backend)| backend.look(id, look));
        frontends::attribute_waits(&mut self.process, &mut self.frontends, look.traffic);
        self.process.look(look);
        (0..).zip(&mut self.shards).for_each(|(index, shard)| shard.look(index, look));
        (0..).zip(&mut self.frontends).for_each(|(id, frontend)| frontend.look(id, look));
        (0..).zip(&mut self.servers).for_each(|(id, server)| server.look(id, look));
    }
}

/// Puts what was remembered of each object into its new place.
fn keep<T>(own: &mut [T], older: Vec<T>, places: &Places) {
    let mut older: Vec<Option<T>> = older.into_iter().map(Some).collect();
    for (own, before) in own.iter_mut().zip(places.iter()) {
        if let Some(before) = before.and_then(|before| older.get_mut(before)?.take()) {
            *own = before;
        }
    }
}

/// One look: what it sees, when, and the lines that it found.
struct Look<'a> {
    traffic: &'a Traffic,
    now: Instant,
    budget: Budget,
    notices: Vec<Notice>,
}
