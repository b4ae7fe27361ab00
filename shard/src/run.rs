//! One shard's whole life: set up, accept, serve, drain, end.
//!
//! [`Shard`] is what outlives any configuration: the executor, orders to end sessions, wait queues,
//! addresses of servers. It never leaves its thread. What shards share with each other is in
//! `Gauges` and mailboxes alone. Next: `accept`, then `session`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use ringlane_core::counters::SessionRecord;
use ringlane_core::ids::{FrontendId, ServerId};
use ringlane_core::machine::Address;
use ringlane_core::machine::reactor::{First, Listener, Reactor, Signal, first};
use ringlane_core::machine::sys::{DriverKind, SetupError, Socket};
use ringlane_core::prng::Prng;
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::{Gauges, Mailbox, Message};

use crate::accept::accept;
use crate::generation::{Generation, Published};
use crate::place;
use crate::queue::WaitQueues;
use crate::session::Session;
use crate::shutdowns::{ShutdownOrder, Shutdowns};

/// Begins to carry an accepted session, in a task of its own.
pub type Carrier = Box<dyn Fn(Session, Socket)>;

/// Makes the carrier of a shard, on its thread.
pub type MakeCarrier = Box<dyn FnOnce(&Reactor) -> Carrier + Send>;

/// What a shard is given when its thread starts.
pub struct Setup {
    /// Which shard this is, from 0.
    pub index: usize,
    /// What to serve.
    pub published: Published,
    /// The mailboxes of all shards, its own at `index`.
    pub mailboxes: Arc<[Mailbox]>,
    /// Its own listening sockets.
    pub listeners: Vec<(FrontendId, Socket)>,
    /// What carries its sessions.
    pub carrier: MakeCarrier,
    /// Where finished sessions go for the access log.
    pub log: Arc<ArrayQueue<SessionRecord>>,
    /// Where its random choices begin. Shards must not draw alike.
    pub seed: u64,
}

/// The thread that becomes a shard.
#[derive(Debug)]
pub struct Thread {
    /// What carries the shard's operations out.
    pub driver: DriverKind,
    /// The core that it is pinned to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// Gets one message: whether the shard came up.
    pub started: Sender<Result<(), SetupError>>,
}

/// Serves until a message ends it: `Stop` at once, `Drain` when the last session has ended.
///
/// Blocks the calling thread, which becomes the shard.
///
/// # Errors
/// When the kernel fails the ring itself.
pub fn run(setup: Setup, thread: Thread) -> std::io::Result<()> {
    let Thread { driver, cpu, started } = thread;
    if let Some(id) = cpu {
        // Not a reason to refuse: an unpinned shard serves as well, only slower.
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let mailboxes = Arc::clone(&setup.mailboxes);
    let counters = Arc::clone(&setup.published.counters[setup.index]);
    let reactor = match Reactor::new(driver, setup.index, mailboxes, counters) {
        Ok(reactor) => reactor,
        Err(error) => {
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    let serve = open(&reactor, setup);
    let _ = started.send(Ok(()));
    reactor.run(serve)
}

/// Starts a shard on a loop that is stepped from outside.
///
/// # Errors
/// When the kernel fails the ring itself.
pub fn start(reactor: &Reactor, setup: Setup) -> std::io::Result<()> {
    reactor.start(open(reactor, setup))
}

/// Spawns the shard's listeners, and gives what ends when the shard does.
fn open(reactor: &Reactor, setup: Setup) -> impl Future<Output = ()> + use<> {
    let Setup { published, listeners, carrier, log, seed, .. } = setup;
    let carrier = carrier(reactor);
    let shard = Rc::new(Shard::new(reactor, &published.snapshot, carrier, log, seed));
    shard.listeners.set(listeners.len());
    let generation = Rc::new(Generation::new(shard, published));
    for (frontend, socket) in listeners {
        let listener = Listener::new(reactor, socket);
        reactor.spawn(accept(Rc::clone(&generation), frontend, listener));
    }
    serve(generation)
}

/// What the sessions of one shard share, whatever their configuration.
pub struct Shard {
    pub(crate) reactor: Reactor,
    pub(crate) carrier: Carrier,
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
    drain_until: Cell<Option<Instant>>,
    listeners: Cell<usize>,
    /// The mark of the last session.
    mark: Cell<u32>,
    /// Where each server is now; nothing for one that has no address.
    addresses: RefCell<Vec<Option<Rc<Address>>>>,
}

impl Shard {
    fn new(
        reactor: &Reactor,
        snapshot: &Snapshot,
        carrier: Carrier,
        log: Arc<ArrayQueue<SessionRecord>>,
        seed: u64,
    ) -> Self {
        let addresses = snapshot.servers.iter().map(|server| server.address.clone().map(Rc::new));
        Self {
            reactor: reactor.clone(),
            carrier,
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
    async fn drained(&self, gauges: &Gauges) {
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
    fn moved(&self, id: ServerId, address: Option<Box<Address>>) {
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

/// Reads the mailbox until something ends the shard.
async fn serve(generation: Rc<Generation>) {
    let shard = &generation.shard;
    while let First::Left(message) =
        first(shard.reactor.mail(), shard.drained(generation.gauges())).await
    {
        match message {
            Message::Adopt(arrival) => {
                generation.counters().taken_over.add(1);
                place::begin(&generation, arrival);
            }
            Message::EndSessions { server, role, how, why } => {
                let order = ShutdownOrder { server, role, how, why };
                let sessions = generation.server(server).sessions();
                shard.shutdowns.order(order, sessions, generation.now());
                shard.reactor.wake_everyone();
                // Behind all of them: the sessions concerned have ended then.
                shard.reactor.yield_now().await;
                generation.gauges().acknowledge(shard.reactor.shard());
            }
            Message::Moved { server, address } => shard.moved(server, address),
            Message::PlaceFree { backend, line } => shard.wait_queues.call(backend, line),
            Message::GateOpened => shard.gate_opened.raise(),
            Message::Drain(time) => {
                generation.gauges().begin_drain();
                shard.drain_until.set(Some(generation.now() + time));
                shard.drain.raise();
            }
            Message::Stop => break,
        }
    }
    // Sessions whose protocol has words for an end send them; then all that is left is dropped.
    shard.shutdowns.stop();
    shard.reactor.wake_everyone();
    shard.reactor.yield_now().await;
}
