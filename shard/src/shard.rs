//! What the sessions of one shard share, whatever their configuration.
//!
//! The executor, orders to end sessions, wait queues, addresses of servers. It never leaves its
//! thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use ringlane_core::counters::SessionRecord;
use ringlane_core::ids::ServerId;
use ringlane_core::machine::Address;
use ringlane_core::machine::reactor::{Reactor, Signal};
use ringlane_core::prng::Prng;
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::{Gauges, Message};

use crate::shutdowns::Shutdowns;
use crate::wait_queues::WaitQueues;

/// What outlives any configuration of a shard.
pub struct Shard {
    pub(crate) reactor: Reactor,
    pub(crate) log: Arc<ArrayQueue<SessionRecord>>,
    /// Orders to end sessions.
    pub(crate) shutdowns: Shutdowns,
    /// Sessions that wait for a server.
    pub(crate) wait_queues: WaitQueues,
    /// Raised when accepting must end.
    pub(crate) drain: Signal,
    /// Raised when a gate that was full has a free place.
    pub(crate) gate_opened: Signal,
    pub(crate) prng: RefCell<Prng>,
    /// Raised when a session has ended or a listener has closed, while draining.
    ended: Signal,
    pub(crate) drain_until: Cell<Option<Instant>>,
    pub(crate) listeners: Cell<usize>,
    /// The mark of the last session.
    mark: Cell<u32>,
    /// Where each server is now; nothing for one that has no address.
    addresses: RefCell<Vec<Option<Rc<Address>>>>,
}

impl Shard {
    pub(crate) fn new(
        reactor: &Reactor,
        snapshot: &Snapshot,
        log: Arc<ArrayQueue<SessionRecord>>,
        seed: u64,
    ) -> Self {
        let addresses = snapshot.servers.iter().map(|server| server.address.clone().map(Rc::new));
        Self {
            reactor: reactor.clone(),
            log,
            shutdowns: Shutdowns::default(),
            wait_queues: WaitQueues::new(snapshot.backends.len()),
            drain: Signal::new(reactor),
            gate_opened: Signal::new(reactor),
            prng: RefCell::new(Prng::new(seed)),
            ended: Signal::new(reactor),
            drain_until: Cell::new(None),
            listeners: Cell::new(0),
            mark: Cell::new(0),
            addresses: RefCell::new(addresses.collect()),
        }
    }

    /// Resolves when a drain is over: no listener and no session left, or no time.
    pub(crate) async fn drained(&self, gauges: &Gauges) {
        let Some(until) = self.drain_until.get() else { return std::future::pending().await };
        let own = self.reactor.shard();
        let _ = self
            .reactor
            .timeout_at(until, async {
                while self.listeners.get() > 0 || !gauges.is_shard_empty(own) {
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
        for mailbox in self.reactor.mailboxes() {
            let _ = mailbox.post(Message::GateOpened);
        }
    }

    /// A server is somewhere else from now on.
    pub(crate) fn moved(&self, id: ServerId, address: Option<Box<Address>>) {
        if let Some(known) = self.addresses.borrow_mut().get_mut(id.0 as usize) {
            *known = address.map(Rc::from);
        }
    }

    /// Where a server is now.
    pub(crate) fn address(&self, id: ServerId) -> Option<Rc<Address>> {
        self.addresses.borrow().get(id.0 as usize)?.clone()
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
