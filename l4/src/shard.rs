//! One shard's whole life: set up, accept, serve, drain, end.
//!
//! Everything that the sessions of a shard share is in [`Shard`], which never leaves its thread.
//! What shards share with each other is in `Gauges` and mailboxes alone.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use ringlane_core::balance::{Chooser, View};
use ringlane_core::counters::{SessionRecord, ShardCounters};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::machine::reactor::{First, Listener, Reactor, Signal, Stream, first};
use ringlane_core::machine::sys::{DriverKind, SetupError, Socket};
use ringlane_core::machine::{Address, Congestion};
use ringlane_core::prng::Prng;
use ringlane_core::settings::{RoleWanted, Snapshot};
use ringlane_core::shared::{Gauges, Mailbox, Message};

use crate::accept::accept;
use crate::endings::Endings;
use crate::mirror::Mirrors;
use crate::pipes::Pipes;
use crate::queue::Lines;
use crate::relay::Side;
use crate::session;

/// What a shard is given when its thread starts.
#[derive(Debug)]
pub struct Setup {
    /// Which shard this is, from 0.
    pub index: usize,
    /// What to serve.
    pub snapshot: Arc<Snapshot>,
    /// What it shares with the other shards.
    pub gauges: Arc<Gauges>,
    /// What it counts.
    pub counters: Arc<ShardCounters>,
    /// The mailboxes of all shards, its own at `index`.
    pub mailboxes: Arc<[Mailbox]>,
    /// Its own listening sockets.
    pub listeners: Vec<(FrontendId, Socket)>,
    /// Pipes that it may have at once for splicing.
    pub pipes: usize,
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
    /// Told once whether the shard came up.
    pub started: Sender<Result<(), SetupError>>,
}

/// Serves until a message ends it: `Stop` at once, `Drain` when the last session has ended.
///
/// Blocks the calling thread, which becomes the shard.
pub fn run(setup: Setup, thread: Thread) -> std::io::Result<()> {
    let Thread { driver, cpu, started } = thread;
    if let Some(id) = cpu {
        // Not a reason to refuse: an unpinned shard serves as well, only slower.
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let (mailboxes, counters) = (Arc::clone(&setup.mailboxes), Arc::clone(&setup.counters));
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

/// Starts a shard on a loop that is stepped by somebody else.
///
/// # Errors
/// When the kernel fails the ring itself.
pub fn start(reactor: &Reactor, setup: Setup) -> std::io::Result<()> {
    reactor.start(open(reactor, setup))
}

/// Spawns the shard's listeners, and gives what ends when the shard does.
fn open(reactor: &Reactor, setup: Setup) -> impl Future<Output = ()> + use<> {
    let Setup { snapshot, gauges, listeners, log, seed, pipes, .. } = setup;
    let pipes = Pipes::new(pipes);
    let shard = Rc::new(Shard::new(reactor, snapshot, gauges, log, pipes, seed));
    shard.listeners.set(listeners.len());
    for (frontend, socket) in listeners {
        let listener = Listener::new(reactor, socket);
        reactor.spawn(accept(Rc::clone(&shard), frontend, listener));
    }
    shard.serve()
}

/// What the sessions of one shard share.
pub(crate) struct Shard {
    pub(crate) reactor: Reactor,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) log: Arc<ArrayQueue<SessionRecord>>,
    pub(crate) pipes: Pipes,
    /// Copies of sessions for mirrors.
    pub(crate) mirrors: Mirrors,
    /// What was said of sessions that are to end by cause.
    pub(crate) endings: Endings,
    /// Sessions that wait for a server.
    pub(crate) lines: Lines,
    /// Raised when accepting must end.
    pub(crate) drain: Signal,
    /// Raised when a gate that was full has a free place.
    pub(crate) gate_opened: Signal,
    /// Raised when a session has ended or a listener has closed, while draining.
    ended: Signal,
    drain_until: Cell<Option<Instant>>,
    listeners: Cell<usize>,
    choosers: RefCell<Vec<Chooser>>,
    /// Where each server is now; nothing for one that has no address.
    addresses: RefCell<Vec<Option<Rc<Address>>>>,
    prng: RefCell<Prng>,
}

impl Shard {
    fn new(
        reactor: &Reactor,
        snapshot: Arc<Snapshot>,
        gauges: Arc<Gauges>,
        log: Arc<ArrayQueue<SessionRecord>>,
        pipes: Pipes,
        seed: u64,
    ) -> Self {
        let chooser = |(id, backend): (u32, &ringlane_core::settings::Backend)| {
            Chooser::new(backend.balance, snapshot.servers_of(BackendId(id)))
        };
        let choosers = (0..).zip(&snapshot.backends).map(chooser).collect();
        let addresses = snapshot.servers.iter().map(|server| server.address.clone().map(Rc::new));
        Self {
            reactor: reactor.clone(),
            gauges,
            log,
            pipes,
            mirrors: Mirrors::default(),
            endings: Endings::default(),
            lines: Lines::new(snapshot.backends.len()),
            drain: Signal::new(reactor),
            gate_opened: Signal::new(reactor),
            ended: Signal::new(reactor),
            drain_until: Cell::new(None),
            listeners: Cell::new(0),
            choosers: RefCell::new(choosers),
            addresses: RefCell::new(addresses.collect()),
            prng: RefCell::new(Prng::new(seed)),
            snapshot,
        }
    }

    /// Reads the mailbox until something ends the shard.
    async fn serve(self: Rc<Self>) {
        loop {
            match first(self.reactor.mail(), self.drained()).await {
                First::Left(Message::Adopt { connection, frontend, client }) => {
                    self.counters().taken_over.add(1);
                    session::begin(&self, connection, frontend, client);
                }
                First::Left(Message::EndSessions { server, role, how, why }) => {
                    let sessions = self.gauges.server(server).sessions();
                    self.endings.say((server, role), (how, why), sessions, self.reactor.now());
                    self.reactor.wake_everyone();
                    // Behind all of them: those who were meant have ended then.
                    self.reactor.yield_now().await;
                    self.gauges.hear(self.reactor.shard());
                }
                First::Left(Message::Moved { server, address }) => self.moved(server, address),
                First::Left(Message::PlaceFree { backend, line }) => self.lines.call(backend, line),
                First::Left(Message::GateOpened) => self.gate_opened.raise(),
                First::Left(Message::Drain(time)) => {
                    self.gauges.begin_drain();
                    self.drain_until.set(Some(self.reactor.now() + time));
                    self.drain.raise();
                }
                First::Left(Message::Stop) | First::Right(()) => break,
            }
        }
        // Clients that can be told why their session ends are; then all that is left is dropped.
        self.endings.stop();
        self.reactor.wake_everyone();
        self.reactor.yield_now().await;
    }

    /// Resolves when a drain is over: no listener and no session left, or no time.
    async fn drained(&self) {
        let Some(until) = self.drain_until.get() else { return std::future::pending().await };
        let own = self.reactor.shard();
        let _ = self
            .reactor
            .timeout_at(until, async {
                while self.listeners.get() > 0 || !self.gauges.is_shard_empty(own) {
                    self.ended.wait().await;
                }
            })
            .await;
    }

    /// What this shard counts.
    pub(crate) fn counters(&self) -> &ShardCounters {
        self.reactor.counters()
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

    /// A session gives its place at a server back, to who waits for it.
    pub(crate) fn leave_server(&self, id: ServerId) {
        self.gauges.server(id).leave();
        let backend = self.snapshot.server(id).backend;
        if let Some(queue) = self.gauges.queue(backend) {
            queue.call_next(backend, self.reactor.mailboxes());
        }
    }

    /// A session has ended: its places are free.
    pub(crate) fn ended(&self, frontend: FrontendId) {
        if self.gauges.leave(frontend) {
            self.open_gates();
        }
        self.gauges.leave_shard(self.reactor.shard());
        if self.is_draining() {
            self.ended.raise();
        }
    }

    /// Tells every shard, this one included, that a gate has a free place. One whose mailbox is
    /// full looks by itself before long.
    pub(crate) fn open_gates(&self) {
        for mailbox in self.reactor.mailboxes() {
            let _ = mailbox.post(Message::GateOpened);
        }
    }

    /// The index of a server of `backend` for a session with this role and key.
    pub(crate) fn choose(
        &self,
        (backend, role): (BackendId, RoleWanted),
        view: impl Fn(usize) -> View,
        key: u64,
    ) -> Option<usize> {
        let mut choosers = self.choosers.borrow_mut();
        let turns = self.gauges.turns(backend, role);
        choosers[backend.0 as usize].choose(view, turns, key, &mut self.prng.borrow_mut())
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
    pub(crate) fn random_below(&self, bound: usize) -> usize {
        // Below a `usize`, so it fits into one.
        self.prng.borrow_mut().below(bound as u64) as usize
    }

    /// Whether it matters who the client is when a server is chosen, or connected to.
    pub(crate) fn goes_by_client(&self, frontend: FrontendId) -> bool {
        let frontend = self.snapshot.frontend(frontend);
        let routed = frontend.routes.iter().map(|route| route.backend);
        std::iter::once(frontend.backend).chain(routed).any(|id| {
            let backend = self.snapshot.backend(id);
            backend.balance.is_by_hash()
                || backend.affinity.is_some()
                || backend.source.is_the_client()
        })
    }

    /// Takes a connection that is about to get bulk off a pacing congestion control, if the
    /// configuration leaves the choice to us and its path is short.
    pub(crate) fn ease_pacing(
        &self,
        (frontend, server): (FrontendId, ServerId),
        stream: &Stream,
        side: Side,
    ) {
        let congestion = match side {
            Side::Client => &self.snapshot.frontend(frontend).congestion,
            Side::Server => &self.snapshot.backend(self.snapshot.server(server).backend).congestion,
        };
        if *congestion == Congestion::Auto {
            // What can't be changed stays as the host has it.
            let _ = stream.leave_pacing_on_a_short_path();
        }
    }
}
