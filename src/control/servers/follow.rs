//! The states of servers go on from one configuration to the next, found by name.
//!
//! Not here: when that happens (`run::reload`). Invariants: a server that stays keeps its state,
//! its history and what operators ordered; one that is gone takes no session any more, and those
//! that it has end as `on_drain` of its backend says.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ringlane_core::counters::{Ending, Reason};
use ringlane_core::ids::{BackendId, Places, ServerId, Tag};
use ringlane_core::settings::{OrderedState, RoleWanted, Snapshot};
use ringlane_core::shared::{Eligibility, Gauges};
use ringlane_health::{Backend, Followed};
use ringlane_shard::Message;
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::{BackendState, ServerState, Servers};
use crate::config::Watch;

/// A newer configuration.
pub(in crate::control) struct Newer<'a> {
    /// Its settings.
    pub(in crate::control) snapshot: Arc<Snapshot>,
    /// Its words.
    pub(in crate::control) gauges: Arc<Gauges>,
    /// How its servers are checked.
    pub(in crate::control) watches: &'a [Watch],
    /// Servers whose address comes from another name than before.
    pub(in crate::control) renamed: &'a HashSet<ServerId>,
}

impl Servers {
    /// The servers of a newer configuration, with what is known of those that were there. Their
    /// eligibility is published. Nothing changes in `self` afterwards.
    pub(in crate::control) fn follow(&self, newer: Newer<'_>) -> Self {
        let Newer { snapshot, gauges, watches, renamed } = newer;
        let older = self.lock();
        let (tags, before) = (gauges.tags(), self.gauges.tags());
        let backends = Places::new(&tags.backends, &before.backends);
        let servers: Vec<_> = Places::new(&tags.servers, &before.servers).iter().collect();
        let state = |(id, before): (BackendId, Option<usize>)| {
            let watch = watches.get(id.0 as usize).cloned().unwrap_or_default();
            let Some(before) = before.map(|before| &older[before]) else {
                return BackendState::new(&snapshot, id, &watch, &gauges, self.sent.len());
            };
            let followed = |server: ServerId| {
                let place = servers[server.0 as usize].filter(|_| !renamed.contains(&server));
                KeptServer::of(self, &snapshot, before, server, place)
            };
            BackendState::follow(before, &snapshot, id, &watch, followed)
        };
        let states: Vec<BackendState> =
            (0..).map(BackendId).zip(backends.iter()).map(state).collect();
        let kept = |all: &[Arc<Notify>], before: Option<usize>| {
            before.map_or_else(Arc::default, |before| Arc::clone(&all[before]))
        };
        let followed = Self {
            check_times: backends
                .iter()
                .map(|at| at.map_or_else(Arc::default, |at| Arc::clone(&self.check_times[at])))
                .collect(),
            sent: Arc::clone(&self.sent),
            moved: servers.iter().map(|at| kept(&self.moved, *at)).collect(),
            warming: backends.iter().map(|at| kept(&self.warming, at)).collect(),
            undelivered: Notify::new(),
            is_superseded: AtomicBool::new(false),
            mailboxes: Arc::clone(&self.mailboxes),
            backends: Mutex::new(states),
            snapshot,
            gauges,
        };
        // With the lock held: whatever comes after finds it.
        self.is_superseded.store(true, Ordering::Relaxed);
        drop(older);
        let now = Instant::now();
        followed.lock().iter_mut().for_each(|state| followed.publish(state, now));
        followed
    }

    /// Whether everything that shards were to be sent has been sent, and no session is being
    /// fenced; sends what there is.
    pub(in crate::control) fn settle(&self, now: Instant) -> bool {
        self.deliver_now(now)
    }

    /// Closes the servers that a newer configuration does not have, and ends their sessions where
    /// `on_drain` says so. Returns what each shard is to be sent.
    pub(in crate::control) fn leave(&self, newer: &Gauges) -> Vec<Leaving> {
        let there: HashSet<Tag> = newer.tags().servers.iter().copied().collect();
        let mut all = Vec::new();
        for state in self.lock().iter() {
            let gone = self
                .snapshot
                .ids_of(state.id)
                .filter(|id| !there.contains(&self.gauges.server_tag(*id)));
            for id in gone {
                let gauge = self.gauges.server(id);
                gauge.set_eligibility(Eligibility::CLOSED);
                let Some(how) = state.health.rules().on_drain.ending() else { continue };
                let server = self.gauges.server_tag(id);
                all.push(Leaving { server, sessions: gauge.sessions(), how });
            }
        }
        let orders = u64::try_from(all.len()).unwrap_or(u64::MAX);
        for sent in &*self.sent {
            sent.fetch_add(orders, Ordering::Relaxed);
        }
        all
    }

    /// Tasks that wait for a change of an address look again.
    pub(in crate::control) fn wake(&self) {
        self.moved.iter().for_each(|moved| moved.notify_waiters());
    }
}

/// A server that is gone, whose sessions are to end.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Leaving {
    server: Tag,
    sessions: u32,
    how: Ending,
}

impl Leaving {
    /// What shards are sent.
    pub(in crate::control) fn message(self) -> Message {
        let Self { server, sessions, how } = self;
        let (role, why) = (RoleWanted::Any, Reason::Drained);
        Message::EndSessions { server, sessions, role, how, why }
    }
}

/// A server of the newer configuration, and its state if it was there before.
struct KeptServer<'a> {
    followed: Followed,
    state: Option<&'a ServerState>,
    /// The state that the file orders, where the file orders another one than before.
    ordered: Option<OrderedState>,
}

impl<'a> KeptServer<'a> {
    /// `place` counts through all servers of the configuration before.
    fn of(
        servers: &Servers,
        snapshot: &Snapshot,
        before: &'a BackendState,
        id: ServerId,
        place: Option<usize>,
    ) -> Self {
        let settings = snapshot.server(id);
        let place = place.and_then(|place| u32::try_from(place).ok()).map(ServerId);
        let older = place.map(|place| servers.snapshot.server(place));
        let index = place.map(|place| servers.snapshot.index_in_backend(place));
        let moved = older.is_some_and(|older| older.address != settings.address);
        Self {
            followed: Followed { weight: settings.weight, before: index, moved },
            state: index.and_then(|index| before.servers.get(index)).filter(|_| !moved),
            ordered: (older.map(|older| older.state) != Some(settings.state))
                .then_some(settings.state),
        }
    }
}

impl BackendState {
    fn follow<'a>(
        before: &Self,
        snapshot: &Snapshot,
        id: BackendId,
        watch: &Watch,
        kept: impl Fn(ServerId) -> KeptServer<'a>,
    ) -> Self {
        let kept: Vec<KeptServer<'_>> = snapshot.ids_of(id).map(kept).collect();
        let followed: Vec<Followed> = kept.iter().map(|kept| kept.followed).collect();
        let checked = watch.check.is_some();
        let mut health = Backend::follow(&before.health, watch.rules, checked, &followed);
        let settings = snapshot.servers_of(id);
        let mut servers = Vec::with_capacity(settings.len());
        for (index, (kept, settings)) in kept.into_iter().zip(settings).enumerate() {
            let state = kept.state.cloned().unwrap_or_else(|| ServerState::at(settings));
            if state.address.is_none() && kept.state.is_none() {
                // What it begins as is no change.
                let _ = health.moved(index, false, "");
            }
            if let Some(ordered) = kept.ordered {
                let _ = health.set_admin(index, ordered.into(), "the configuration");
            }
            servers.push(state);
        }
        Self {
            id,
            first: snapshot.backend(id).first_server,
            health,
            servers,
            checked,
            outbox: Outbox::new(before.sent.len()),
            sent: before.sent.clone(),
            fenced_until: None,
        }
    }
}
