//! What the sessions of one shard share, whatever their configuration.
//!
//! The executor, mailboxes, orders to end sessions, wait queues, addresses of servers. It never
//! leaves its thread. Not here: what is configured (`generation`).

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use ringlane_core::counters::ShardCounters;
use ringlane_core::ids::Tag;
use ringlane_core::machine::reactor::{Reactor, Signal};
use ringlane_core::prng::Prng;
use ringlane_core::shared::{Common, Queue};

use crate::addresses::Addresses;
use crate::mailbox::{Mailbox, Message};
use crate::published::ListenerId;
use crate::shutdowns::Shutdowns;
use crate::wait_queues::WaitQueues;

/// What outlives any configuration of a shard.
pub struct Shard {
    pub(crate) reactor: Reactor,
    /// The mailboxes of all shards.
    pub(crate) mailboxes: Arc<[Mailbox]>,
    /// What this shard counts of itself.
    pub counters: Arc<ShardCounters>,
    /// The words of the process.
    pub(crate) common: Arc<Common>,
    /// Orders to end sessions.
    pub(crate) shutdowns: Shutdowns,
    /// Sessions that wait for a server.
    pub(crate) wait_queues: WaitQueues,
    /// Where servers are.
    pub(crate) addresses: Addresses,
    /// Raised when listeners must look what they are for: another configuration is served, or
    /// accepting must end.
    pub(crate) changed: Signal,
    /// Listeners that have yet to change their socket options.
    pub(crate) options_changed: RefCell<Vec<ListenerId>>,
    /// Raised when a gate that was full has a free place.
    pub(crate) gate_opened: Signal,
    pub(crate) prng: RefCell<Prng>,
    /// Raised when a session has ended or a listener has closed, while draining.
    ended: Signal,
    pub(crate) drain_until: Cell<Option<Instant>>,
    pub(crate) listeners: Cell<usize>,
    /// The mark of the last session.
    mark: Cell<u32>,
}

impl Shard {
    pub(crate) fn new(
        reactor: &Reactor,
        mailboxes: Arc<[Mailbox]>,
        counters: Arc<ShardCounters>,
        common: Arc<Common>,
        seed: u64,
    ) -> Self {
        Self {
            reactor: reactor.clone(),
            mailboxes,
            counters,
            common,
            shutdowns: Shutdowns::default(),
            wait_queues: WaitQueues::default(),
            addresses: Addresses::default(),
            changed: Signal::new(reactor),
            options_changed: RefCell::default(),
            gate_opened: Signal::new(reactor),
            prng: RefCell::new(Prng::new(seed)),
            ended: Signal::new(reactor),
            drain_until: Cell::new(None),
            listeners: Cell::new(0),
            mark: Cell::new(0),
        }
    }

    /// Another configuration is served from now on.
    pub(crate) fn reconfigured(&self) {
        self.changed.raise();
        self.gate_opened.raise();
        self.wait_queues.call_all();
    }

    /// Whether the socket options of a listener are to change; once.
    pub(crate) fn take_change(&self, listener: ListenerId) -> bool {
        let mut changed = self.options_changed.borrow_mut();
        let place = changed.iter().position(|one| *one == listener);
        place.map(|place| changed.swap_remove(place)).is_some()
    }

    /// Forgets what belongs to no generation any more.
    pub(crate) fn prune(&self) {
        self.addresses.prune();
        self.wait_queues.prune();
        self.shutdowns.retain(|server| self.addresses.has(server));
    }

    /// Resolves when a drain is over: no listener and no session left, or no time.
    pub(crate) async fn drained(&self) {
        let Some(until) = self.drain_until.get() else { return std::future::pending().await };
        let own = self.reactor.shard();
        let _ = self
            .reactor
            .timeout_at(until, async {
                while self.listeners.get() > 0 || !self.common.is_shard_empty(own) {
                    self.ended.wait().await;
                }
            })
            .await;
    }

    /// Whether accepting must end.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain_until.get().is_some()
    }

    /// A listener has emptied its queue and closed.
    pub(crate) fn listener_closed(&self) {
        self.listeners.set(self.listeners.get() - 1);
        self.ended.raise();
    }

    /// A session has ended.
    pub(crate) fn session_ended(&self) {
        if self.is_draining() {
            self.ended.raise();
        }
    }

    /// A number for a new session.
    pub(crate) fn next_mark(&self) -> u32 {
        self.mark.set(self.mark.get().wrapping_add(1));
        self.mark.get()
    }

    /// Posts to every shard, this one included, that a gate has a free place. One whose mailbox is
    /// full looks by itself before long.
    pub(crate) fn open_gates(&self) {
        for mailbox in &*self.mailboxes {
            let _ = mailbox.post(Message::GateOpened);
        }
    }

    /// A place at a server of a backend may be free: the shard of the next session is told. One
    /// whose mailbox is full looks by itself before long.
    pub(crate) fn call_next(&self, backend: Tag, queue: &Queue) {
        queue.call_next(|line, shard| {
            let _ = self.mailboxes[shard].post(Message::PlaceFree { backend, line });
        });
    }

    /// A random number.
    pub(crate) fn random_u64(&self) -> u64 {
        self.prng.borrow_mut().next_u64()
    }

    /// A random number below `bound`.
    pub fn random_below(&self, bound: usize) -> usize {
        // Below a `usize`, so it fits into one.
        self.prng.borrow_mut().below(bound as u64) as usize
    }
}
