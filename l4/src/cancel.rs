//! PostgreSQL's cancel requests: a connection that only says which query is to be cancelled.
//!
//! The key in it was made by one server for one session, and only that server knows it; a session
//! under TLS hides it from us. So every server that the frontend's sessions may be on is told, and all
//! but one find that they have no such session. Invariant: the client's connection closes when the
//! servers have heard, which is what clients wait for.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use ringlane_core::counters::{Cause, Close};
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::machine::reactor::{First, Receiver, Signal, first};

use crate::connect::dial;
use crate::greet::LEFT;
use crate::greeting::postgres::Key;
use crate::proxy;
use crate::session::Account;
use crate::shard::Shard;
use crate::waiting::{Left, Waiting};

/// Servers that are told of one cancel; further ones of a frontend's backends are not.
const SERVERS_MAX: usize = 64;

/// Tells the servers, and waits until they have heard.
pub(crate) async fn pass_on(account: &Account, client: &Receiver<'_>, key: &Key) -> Close {
    let shard = &account.shard;
    let told = Rc::new(Told {
        left: Cell::new(0),
        heard: Cell::new(0),
        all: Signal::new(&shard.reactor),
        given_up: Signal::new(&shard.reactor),
        until: shard.reactor.now() + account.frontend().timeout.connect,
    });
    for id in servers(account) {
        let backend = shard.snapshot.backend(shard.snapshot.server(id).backend);
        let header = |send| proxy::header(send, account, client.stream());
        let mut packet = backend.send_proxy.map(header).unwrap_or_default();
        packet.extend(key.cancel_request());
        told.left.set(told.left.get() + 1);
        let to = (id, account.client());
        shard.reactor.spawn(tell(Rc::clone(shard), to, packet, Rc::clone(&told)));
    }
    // A client may leave everything else to us by ending its stream; one that resets it has gone.
    let waiting = Waiting::new(client, true);
    waiting.watch();
    let all = async {
        while told.left.get() > 0 {
            told.all.wait().await;
        }
    };
    if waiting.unless_gone(all).await == Err(Left) {
        told.given_up.raise();
        return LEFT;
    }
    if told.heard.get() > 0 { Close::NORMAL } else { Close::connect(Cause::Server) }
}

/// What became of a cancel.
struct Told {
    /// Servers that have not answered yet.
    left: Cell<usize>,
    /// Servers that took it.
    heard: Cell<usize>,
    all: Signal,
    /// Raised when the client has gone.
    given_up: Signal,
    until: Instant,
}

/// Tells one server and waits until it closes, for no longer than it may take to connect.
async fn tell(
    shard: Rc<Shard>,
    (id, client): (ServerId, Option<SocketAddr>),
    packet: Vec<u8>,
    told: Rc<Told>,
) {
    let telling = shard.reactor.timeout_at(told.until, async {
        let server = dial(&shard, id, client).await.ok()?;
        let sent = server.send_few(&packet).ok();
        let mut receiver = server.receiver();
        while let Ok(Some(_)) = receiver.next().await {}
        sent.filter(|sent| *sent == packet.len())
    });
    let outcome = first(telling, told.given_up.wait()).await;
    if matches!(outcome, First::Left(Ok(Some(_)))) {
        told.heard.set(told.heard.get() + 1);
    }
    told.left.set(told.left.get() - 1);
    told.all.raise();
}

/// The servers that sessions of this frontend may be on, each once.
fn servers(account: &Account) -> Vec<ServerId> {
    let (shard, frontend) = (&account.shard, account.frontend());
    let mut backends: Vec<BackendId> = frontend.routes.iter().map(|route| route.backend).collect();
    backends.push(frontend.backend);
    backends.sort_unstable();
    backends.dedup();
    let servers = backends.into_iter().flat_map(|id| {
        let backend = shard.snapshot.backend(id);
        (backend.first_server.0..backend.first_server.0 + backend.server_count).map(ServerId)
    });
    let now_ms = shard.gauges.millis(shard.reactor.now());
    servers.filter(|id| shard.gauges.server(*id).is_usable(now_ms)).take(SERVERS_MAX).collect()
}
