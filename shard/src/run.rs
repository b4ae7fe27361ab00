//! One shard's whole life: set up, accept, serve, change its configuration, drain, end.
//!
//! [`Shard`] is what outlives any configuration: the executor, orders to end sessions, wait queues,
//! addresses of servers. It never leaves its thread. What shards share with each other is in
//! `Gauges` and mailboxes alone. A configuration comes in three messages, each acknowledged by all
//! shards before the next is sent: `Install`, so that a connection which a quick shard hands over
//! finds its generation on a slow one; `Serve`; and `Retire` for the one before. Next: `accept`,
//! then `session`.

use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use ringlane_core::counters::ShardCounters;
use ringlane_core::machine::reactor::{First, Listener, Reactor, first};
use ringlane_core::machine::sys::{DriverKind, SetupError, Socket};

use crate::accept::accept;
use crate::generation::{Generation, Newest};
use crate::mailbox::{Mailbox, Message};
use crate::place::{self, Carrier};
use crate::published::{Installation, ListenerId};
use crate::shard::Shard;
use crate::shutdowns::ShutdownOrder;

/// Makes the carrier of a shard, on its thread.
pub type MakeCarrier = Box<dyn FnOnce() -> Carrier + Send>;

/// What a shard is given when its thread starts.
pub struct Setup {
    /// Which shard this is, from 0.
    pub index: usize,
    /// What to serve.
    pub installation: Installation,
    /// The mailboxes of all shards, its own at `index`.
    pub mailboxes: Arc<[Mailbox]>,
    /// What it counts of itself.
    pub counters: Arc<ShardCounters>,
    /// What carries its sessions.
    pub carrier: MakeCarrier,
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
    let bell = Arc::clone(setup.mailboxes[setup.index].bell());
    let counters = Arc::clone(&setup.counters.event_loop);
    let reactor = match Reactor::new(driver, setup.index, bell, counters) {
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

/// Begins to serve, and gives what ends when the shard does.
fn open(reactor: &Reactor, setup: Setup) -> impl Future<Output = ()> + use<> {
    let Setup { installation, mailboxes, counters, carrier, seed, .. } = setup;
    let common = Arc::clone(&installation.published.gauges.common);
    let number = installation.published.snapshot.generation;
    let shard = Rc::new(Shard::new(reactor, mailboxes, counters, common, seed));
    let mut server = Server {
        shard,
        newest: Rc::default(),
        carrier: Rc::new(carrier()),
        installed: Vec::new(),
        listeners: Vec::new(),
        changed: Vec::new(),
    };
    server.install(installation);
    server.serve(number);
    server.run()
}

/// What reads the mailbox.
struct Server {
    shard: Rc<Shard>,
    newest: Rc<Newest>,
    carrier: Rc<Carrier>,
    /// The configurations that new sessions may begin with, the oldest first.
    installed: Vec<Rc<Generation>>,
    /// Listeners of the last of them that are not accepted from yet.
    listeners: Vec<(ListenerId, Socket)>,
    /// Listeners whose socket options are to change with it.
    changed: Vec<ListenerId>,
}

impl Server {
    /// Reads the mailbox until something ends the shard.
    async fn run(mut self) {
        let shard = Rc::clone(&self.shard);
        while let First::Left(message) = first(mail(&shard), shard.drained()).await {
            match message {
                Message::Adopt(arrival) => {
                    shard.counters.taken_over.add(1);
                    let generation = self.generation(arrival.generation);
                    place::begin(&generation, &self.carrier, arrival);
                }
                Message::EndSessions { server, sessions, role, how, why } => {
                    let order = ShutdownOrder { server, role, how, why };
                    shard.shutdowns.order(order, sessions, shard.reactor.now());
                    shard.reactor.wake_everyone();
                    // Behind all of them: the sessions concerned have ended then.
                    shard.reactor.yield_now().await;
                    shard.common.acknowledge(shard.reactor.shard());
                }
                Message::Moved { server, address } => {
                    shard.addresses.moved(server, address.map(|address| *address));
                }
                Message::PlaceFree { backend, line } => shard.wait_queues.call(backend, line),
                Message::GateOpened => shard.gate_opened.raise(),
                Message::Install(installation) => self.install(*installation),
                Message::Serve(number) => self.serve(number),
                Message::Retire(number) => self.retire(number),
                Message::Drain(time) => {
                    shard.common.close_shard(shard.reactor.shard());
                    shard.drain_until.set(Some(shard.reactor.now() + time));
                    shard.changed.raise();
                    shard.gate_opened.raise();
                }
                Message::Stop => break,
            }
        }
        // Sessions whose protocol has words for an end send them; then all that is left is dropped.
        shard.shutdowns.stop();
        shard.reactor.wake_everyone();
        shard.reactor.yield_now().await;
    }

    /// The installed generation of this number. A connection is handed over by a shard that serves
    /// its generation: all have installed that, and none has retired it.
    fn generation(&self, number: u64) -> Rc<Generation> {
        let installed = self.installed.iter().find(|one| one.number() == number);
        Rc::clone(installed.unwrap_or(&self.installed[0]))
    }

    /// Gets a configuration ready to be served.
    fn install(&mut self, installation: Installation) {
        let Installation { published, addresses, listeners, changed } = installation;
        let number = published.snapshot.generation;
        let older = self.installed.last().map(Rc::as_ref);
        let (shard, newest) = (Rc::clone(&self.shard), Rc::clone(&self.newest));
        let generation = Generation::new(shard, newest, published, addresses, older);
        self.installed.push(Rc::new(generation));
        self.listeners = listeners;
        self.changed = changed.to_vec();
        self.shard.common.set_installed(self.shard.reactor.shard(), number);
    }

    /// Serves an installed configuration from now on.
    fn serve(&mut self, number: u64) {
        let Self { shard, newest, carrier, .. } = self;
        let Some(generation) = self.installed.iter().find(|one| one.number() == number) else {
            return;
        };
        shard.options_changed.replace(mem::take(&mut self.changed));
        newest.set(generation);
        shard.reconfigured();
        for (id, socket) in self.listeners.drain(..) {
            shard.listeners.set(shard.listeners.get() + 1);
            let listener = Listener::new(&shard.reactor, socket);
            let (own, newest) = (Rc::clone(shard), Rc::clone(newest));
            shard.reactor.spawn(accept(own, newest, Rc::clone(carrier), id, listener));
        }
        shard.common.set_served(shard.reactor.shard(), number);
    }

    /// Lets go of a configuration: its sessions keep it until their end.
    fn retire(&mut self, number: u64) {
        self.installed.retain(|one| one.number() != number);
        self.shard.prune();
    }
}

/// The next message to this shard.
async fn mail(shard: &Shard) -> Message {
    let mailbox = &shard.mailboxes[shard.reactor.shard()];
    loop {
        if let Some(message) = mailbox.take() {
            return message;
        }
        shard.reactor.rung().await;
    }
}
