//! One shard's whole life: set up, accept, serve, drain, end.
//!
//! [`Shard`] is what outlives any configuration: the executor, orders to end sessions, wait queues,
//! addresses of servers. It never leaves its thread. What shards share with each other is in
//! `Gauges` and mailboxes alone. Next: `accept`, then `session`.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crossbeam_queue::ArrayQueue;
use ringlane_core::counters::SessionRecord;
use ringlane_core::ids::FrontendId;
use ringlane_core::machine::reactor::{First, Listener, Reactor, first};
use ringlane_core::machine::sys::{DriverKind, SetupError, Socket};
use ringlane_core::shared::{Mailbox, Message};

use crate::accept::accept;
use crate::generation::{Generation, Published};
use crate::place::{self, Carrier};
use crate::shard::Shard;
use crate::shutdowns::ShutdownOrder;

/// Makes the carrier of a shard, on its thread.
pub type MakeCarrier = Box<dyn FnOnce() -> Carrier + Send>;

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
    let carrier = Rc::new(carrier());
    let shard = Rc::new(Shard::new(reactor, &published.snapshot, log, seed));
    shard.listeners.set(listeners.len());
    let generation = Rc::new(Generation::new(shard, published));
    for (frontend, socket) in listeners {
        let listener = Listener::new(reactor, socket);
        reactor.spawn(accept(Rc::clone(&generation), Rc::clone(&carrier), frontend, listener));
    }
    serve(generation, carrier)
}

/// Reads the mailbox until something ends the shard.
async fn serve(generation: Rc<Generation>, carrier: Rc<Carrier>) {
    let shard = &generation.shard;
    while let First::Left(message) =
        first(shard.reactor.mail(), shard.drained(generation.gauges())).await
    {
        match message {
            Message::Adopt(arrival) => {
                generation.counters().taken_over.add(1);
                place::begin(&generation, &carrier, arrival);
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
