//! One configuration on one shard: what was published to all shards, and this shard's choosers.
//!
//! Every session holds the generation that it began with, so that ids and settings mean the same to
//! it until its end; the last one frees it. What outlives a configuration is on the [`Shard`], or
//! shared with the generation before, object by object, found by tag. Invariant: ids belong to the
//! snapshot of their generation.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Instant;

use ringlane_core::balance::{Chooser, View, chosen_alike};
use ringlane_core::counters::{Counters, SessionRecord};
use ringlane_core::ids::{BackendId, FrontendId, Places, ServerId, Tag};
use ringlane_core::machine::Address;
use ringlane_core::machine::reactor::Reactor;
use ringlane_core::settings::{Backend, Frontend, RoleWanted, Snapshot};
use ringlane_core::shared::{Gauges, ServerGauge};

use crate::addresses::Place;
use crate::published::{ListenerId, Published};
use crate::shard::Shard;
use crate::wait_queues::Lines;

/// A published configuration as one shard serves it.
pub struct Generation {
    /// The shard.
    pub shard: Rc<Shard>,
    /// The one that the shard serves, this one or a newer.
    newest: Rc<Newest>,
    published: Published,
    choosers: Vec<Rc<RefCell<Chooser>>>,
    /// Where each server is.
    addresses: Vec<Rc<Place>>,
    /// The sessions of this shard that wait for servers of each backend.
    lines: Vec<Rc<Lines>>,
}

/// The configuration that a shard serves. It owns none, since every generation owns it.
#[derive(Default)]
pub(crate) struct Newest(RefCell<Weak<Generation>>);

impl Newest {
    /// That generation; nothing once the shard ends.
    pub(crate) fn get(&self) -> Option<Rc<Generation>> {
        self.0.borrow().upgrade()
    }

    /// Another one is served from now on.
    pub(crate) fn set(&self, generation: &Rc<Generation>) {
        *self.0.borrow_mut() = Rc::downgrade(generation);
    }

    /// What a listener accepts for now; nothing when it is to close.
    pub(crate) fn owner(&self, listener: ListenerId) -> Option<(Rc<Generation>, FrontendId)> {
        let generation = self.get()?;
        let frontend = generation.published.owners.get(&listener).copied()?;
        Some((generation, frontend))
    }
}

impl Generation {
    /// A configuration that is to be served behind `older`.
    pub(crate) fn new(
        shard: Rc<Shard>,
        newest: Rc<Newest>,
        published: Published,
        addresses: Vec<Option<Address>>,
        older: Option<&Self>,
    ) -> Self {
        let tags = published.gauges.tags();
        let place = |(tag, address): (&Tag, Option<Address>)| shard.addresses.place(*tag, address);
        Self {
            choosers: choosers(&published, older),
            addresses: tags.servers.iter().zip(addresses).map(place).collect(),
            lines: tags.backends.iter().map(|tag| shard.wait_queues.lines(*tag)).collect(),
            published,
            newest,
            shard,
        }
    }

    /// The shard's executor.
    pub fn reactor(&self) -> &Reactor {
        &self.shard.reactor
    }

    /// The number of the configuration.
    pub fn number(&self) -> u64 {
        self.snapshot().generation
    }

    /// What is served.
    pub fn snapshot(&self) -> &Snapshot {
        &self.published.snapshot
    }

    /// The words that shards share.
    pub fn gauges(&self) -> &Gauges {
        &self.published.gauges
    }

    /// What this shard counts of the objects that are served.
    pub fn counters(&self) -> &Counters {
        &self.published.counters[self.reactor().shard()]
    }

    /// The settings of a frontend.
    pub fn frontend(&self, id: FrontendId) -> &Frontend {
        self.snapshot().frontend(id)
    }

    /// The settings of a backend.
    pub fn backend(&self, id: BackendId) -> &Backend {
        self.snapshot().backend(id)
    }

    /// The settings of the backend of a server.
    pub fn backend_of(&self, id: ServerId) -> &Backend {
        self.backend(self.snapshot().server(id).backend)
    }

    /// The words of a server.
    pub fn server(&self, id: ServerId) -> &ServerGauge {
        self.gauges().server(id)
    }

    /// Where a server is now; nothing for one that has no address.
    pub fn address(&self, id: ServerId) -> Option<Rc<Address>> {
        self.addresses[id.0 as usize].get()
    }

    /// The sessions of this shard that wait for servers of a backend.
    pub(crate) fn lines(&self, id: BackendId) -> &Rc<Lines> {
        &self.lines[id.0 as usize]
    }

    /// Now, on the reactor's clock.
    pub fn now(&self) -> Instant {
        self.reactor().now()
    }

    /// Now, on the clock of the gauges.
    pub fn now_ms(&self) -> u64 {
        self.gauges().millis(self.now())
    }

    /// The index of a server of `backend` for a session with this role and key.
    pub(crate) fn choose(
        &self,
        backend: BackendId,
        role: RoleWanted,
        view: impl Fn(usize) -> View,
        key: u64,
    ) -> Option<usize> {
        let turns = self.gauges().turns(backend, role);
        let mut prng = self.shard.prng.borrow_mut();
        self.choosers[backend.0 as usize].borrow_mut().choose(view, turns, key, &mut prng)
    }

    /// A session gives its place at a server back: the next that waits for one is called.
    pub(crate) fn leave_server(&self, id: ServerId) {
        self.server(id).leave();
        let backend = self.snapshot().server(id).backend;
        if let Some(queue) = self.gauges().queue(backend) {
            self.shard.call_next(self.gauges().backend_tag(backend), queue);
        }
    }

    /// A session of a frontend has ended: its places at the gates are free.
    pub(crate) fn session_ended(&self, frontend: FrontendId) {
        if self.gauges().leave(frontend) {
            self.shard.open_gates();
        }
        self.gauges().common.leave_shard(self.reactor().shard());
        self.shard.session_ended();
    }

    /// Puts a finished session where the access log finds it.
    pub(crate) fn log(&self, record: SessionRecord) {
        if self.published.logs[self.reactor().shard()].push(record).is_err() {
            self.shard.counters.log_dropped.add(1);
        }
    }

    /// Whether the client's address matters when a server is chosen, or connected to.
    pub(crate) fn needs_client_address(&self, frontend: FrontendId) -> bool {
        self.frontend(frontend).backends().any(|id| {
            let backend = self.backend(id);
            backend.balance.is_by_hash()
                || backend.affinity.is_some()
                || backend.source.is_the_client()
        })
    }

    /// Where a session of this generation stands in the one that the shard serves now, if that is
    /// another one and the session can go on there: its places are the same words in both.
    pub(crate) fn successor(
        &self,
        frontend: FrontendId,
        backend: BackendId,
    ) -> Option<(Rc<Self>, FrontendId, BackendId)> {
        let newer = self.newest.get().filter(|newer| newer.number() != self.number())?;
        let (own, tags) = (self.gauges(), newer.gauges().tags());
        let place =
            |tags: &[Tag], tag| (0..).zip(tags).find_map(|(n, one)| (*one == tag).then_some(n));
        let frontend_there = FrontendId(place(&tags.frontends, own.frontend_tag(frontend))?);
        let backend_there = BackendId(place(&tags.backends, own.backend_tag(backend))?);
        let same_clients = match (own.clients(frontend), newer.gauges().clients(frontend_there)) {
            (Some(own), Some(there)) => std::ptr::eq(own, there),
            (own, there) => own.is_none() && there.is_none(),
        };
        same_clients.then_some((newer, frontend_there, backend_there))
    }
}

/// The choosers of unchanged backends with all that they have computed, and new ones.
fn choosers(published: &Published, older: Option<&Generation>) -> Vec<Rc<RefCell<Chooser>>> {
    let snapshot = &published.snapshot;
    let before = older.map(|older| &older.gauges().tags().backends[..]).unwrap_or_default();
    let places = Places::new(&published.gauges.tags().backends, before);
    let ids = (0..).map(BackendId).zip(&snapshot.backends);
    let chooser = |((id, backend), at): ((BackendId, &Backend), Option<usize>)| {
        let servers = snapshot.servers_of(id);
        if let Some((older, at)) = older.zip(at)
            && older.snapshot().backends[at].balance == backend.balance
            && chosen_alike(older.snapshot().servers_of(BackendId(at as u32)), servers)
        {
            return Rc::clone(&older.choosers[at]);
        }
        let table = published.tables[id.0 as usize].clone();
        Rc::new(RefCell::new(Chooser::sharing(backend.balance, servers, table)))
    };
    ids.zip(places.iter()).map(chooser).collect()
}
