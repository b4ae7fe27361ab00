//! One configuration on one shard: what was published to all shards, and this shard's choosers.
//!
//! Every session holds the generation that it began with, so that ids and settings mean the same to
//! it until its end. What outlives a configuration (orders to end sessions, wait queues, addresses
//! of servers) is on the [`Shard`]. Invariant: ids belong to the snapshot of their generation.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringlane_core::balance::{Chooser, View};
use ringlane_core::counters::ShardCounters;
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::machine::reactor::Reactor;
use ringlane_core::settings::{Backend, Frontend, RoleWanted, Snapshot};
use ringlane_core::shared::{Gauges, ServerGauge};

use crate::shard::Shard;

/// What the control thread publishes to all shards at once.
#[derive(Clone, Debug)]
pub struct Published {
    /// What to serve.
    pub snapshot: Arc<Snapshot>,
    /// The words that shards share.
    pub gauges: Arc<Gauges>,
    /// What each shard counts, by its index.
    pub counters: Arc<[Arc<ShardCounters>]>,
}

/// A published configuration as one shard serves it.
pub struct Generation {
    /// The shard.
    pub shard: Rc<Shard>,
    published: Published,
    /// This shard's own counters.
    counters: Arc<ShardCounters>,
    choosers: RefCell<Vec<Chooser>>,
}

impl Generation {
    /// A configuration that begins to be served.
    pub(crate) fn new(shard: Rc<Shard>, published: Published) -> Self {
        let snapshot = &published.snapshot;
        let chooser = |(id, backend): (u32, &Backend)| {
            Chooser::new(backend.balance, snapshot.servers_of(BackendId(id)))
        };
        let choosers = (0..).zip(&snapshot.backends).map(chooser).collect();
        let counters = Arc::clone(&published.counters[shard.reactor.shard()]);
        Self { shard, counters, choosers: RefCell::new(choosers), published }
    }

    /// The shard's executor.
    pub fn reactor(&self) -> &Reactor {
        &self.shard.reactor
    }

    /// What is served.
    pub fn snapshot(&self) -> &Snapshot {
        &self.published.snapshot
    }

    /// The words that shards share.
    pub fn gauges(&self) -> &Gauges {
        &self.published.gauges
    }

    /// What this shard counts.
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
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
        let mut choosers = self.choosers.borrow_mut();
        let turns = self.gauges().turns(backend, role);
        let mut prng = self.shard.prng.borrow_mut();
        choosers[backend.0 as usize].choose(view, turns, key, &mut prng)
    }

    /// A session gives its place at a server back: the next that waits for one is called.
    pub(crate) fn leave_server(&self, id: ServerId) {
        self.server(id).leave();
        let backend = self.snapshot().server(id).backend;
        if let Some(queue) = self.gauges().queue(backend) {
            queue.call_next(backend, self.reactor().mailboxes());
        }
    }

    /// A session of a frontend has ended: its places at the gates are free.
    pub(crate) fn session_ended(&self, frontend: FrontendId) {
        if self.gauges().leave(frontend) {
            self.shard.open_gates();
        }
        self.gauges().leave_shard(self.reactor().shard());
        self.shard.session_ended();
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
}
