//! PostgreSQL's cancel requests: a connection that only names the query to be cancelled.
//!
//! The key in it was made by one server for one session, and only that server knows it; a session
//! under TLS hides it from us. So every server that the frontend's sessions may be on gets it, and
//! all but one find that they have no such session. Invariant: the client's connection closes when
//! the servers have answered, which is what clients wait for.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use ringlane_core::counters::{Cause, Close};
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::machine::reactor::{First, Receiver, Signal, first};
use ringlane_shard::{Generation, LEFT, Left, Session, Waiting, dial};

use crate::first_message::postgres::Key;

/// Servers that get one cancel; further ones of a frontend's backends do not.
const SERVERS_MAX: usize = 64;

/// Passes a cancel on to the servers, and waits until they have answered.
pub(crate) async fn pass_on(session: &Session, client: &Receiver<'_>, key: &Key) -> Close {
    let generation = &session.generation;
    let outcome = Rc::new(Outcome {
        left: Cell::new(0),
        taken: Cell::new(0),
        all: Signal::new(generation.reactor()),
        given_up: Signal::new(generation.reactor()),
        until: generation.now() + session.frontend().timeout.connect,
    });
    for id in servers(session) {
        let header = |send| session.proxy_header(send, client.stream());
        let mut packet = generation.backend_of(id).send_proxy.map(header).unwrap_or_default();
        packet.extend(key.cancel_request());
        outcome.left.set(outcome.left.get() + 1);
        let sending =
            send(Rc::clone(generation), id, session.client(), packet, Rc::clone(&outcome));
        generation.reactor().spawn(sending);
    }
    // A client may leave everything else to us by ending its stream; one that resets it has gone.
    let waiting = Waiting::new(client, true);
    waiting.watch();
    let all = async {
        while outcome.left.get() > 0 {
            outcome.all.wait().await;
        }
    };
    if waiting.unless_gone(all).await == Err(Left) {
        outcome.given_up.raise();
        return LEFT;
    }
    if outcome.taken.get() > 0 { Close::NORMAL } else { Close::connect(Cause::Server) }
}

/// What became of a cancel.
struct Outcome {
    /// Servers that have not answered yet.
    left: Cell<usize>,
    /// Servers that took it.
    taken: Cell<usize>,
    all: Signal,
    /// Raised when the client has gone.
    given_up: Signal,
    until: Instant,
}

/// Sends it to one server and waits until that closes, for no longer than it may take to connect.
async fn send(
    generation: Rc<Generation>,
    id: ServerId,
    client: Option<SocketAddr>,
    packet: Vec<u8>,
    outcome: Rc<Outcome>,
) {
    let sending = generation.reactor().timeout_at(outcome.until, async {
        let server = dial(&generation, id, client).await.ok()?;
        let sent = server.send_few(&packet).ok();
        let mut receiver = server.receiver();
        while let Ok(Some(_)) = receiver.next().await {}
        sent.filter(|sent| *sent == packet.len())
    });
    let sent = first(sending, outcome.given_up.wait()).await;
    if matches!(sent, First::Left(Ok(Some(_)))) {
        outcome.taken.set(outcome.taken.get() + 1);
    }
    outcome.left.set(outcome.left.get() - 1);
    outcome.all.raise();
}

/// The servers that sessions of this frontend may be on, each once.
fn servers(session: &Session) -> Vec<ServerId> {
    let generation = &session.generation;
    let mut backends: Vec<BackendId> = session.frontend().backends().collect();
    backends.sort_unstable();
    backends.dedup();
    let servers = backends.into_iter().flat_map(|id| generation.snapshot().ids_of(id));
    let now_ms = generation.now_ms();
    servers.filter(|id| generation.server(*id).is_usable(now_ms)).take(SERVERS_MAX).collect()
}
