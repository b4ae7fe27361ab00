//! Accepting: limits first, then the shard that has the fewest sessions.
//!
//! The kernel spreads connections over shards by hash, which is fair for many short ones and unfair
//! for few long ones. So right after accept, before any byte is read, a shard that has clearly more
//! sessions than another hands the connection over. Invariant: a connection holds a place at both
//! gates from here until its session is settled, and is counted on exactly one shard.

use std::rc::Rc;
use std::time::Duration;

use ringlane_core::ids::FrontendId;
use ringlane_core::machine::reactor::{First, Listener, first};
use ringlane_core::machine::sys::Socket;
use ringlane_core::shared::Message;
use ringlane_core::shared::clients::Place;

use crate::shard::Shard;
use crate::{clients, session, waiting};

/// Sessions that a shard may have more than another before it hands new ones over, besides one
/// thirty-second of what the other has.
const HANDOVER_MARGIN: u32 = 3;

/// Shards that are compared at each accept; with more, a different part each time.
const SHARDS_COMPARED: usize = 8;

/// The pause after an accept that failed for want of a descriptor or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a shard waits at a full gate before it looks by itself.
const GATE_PATIENCE: Duration = Duration::from_millis(100);

/// Connections that are looked at after a wait at a gate before they become sessions: all that the
/// kernel's queue may have held meanwhile (net.core.somaxconn is 4096 by default).
const QUEUED_MAX: u32 = 65_535;

/// What became of a connection at the gates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Admission {
    /// It has a place at both.
    Granted {
        /// Whether it had to wait for it.
        waited: bool,
    },
    /// Its client has left meanwhile.
    Left,
    /// The shard drains.
    Drained,
}

/// Accepts on one listener until the shard drains; then empties its queue and closes it.
pub(crate) async fn accept(shard: Rc<Shard>, frontend: FrontendId, mut listener: Listener) {
    // Connections to come that may have waited in the kernel's queue, and whose clients may have left.
    let mut queued = 0;
    loop {
        match first(shard.drain.wait(), listener.accept()).await {
            First::Left(()) => break,
            First::Right(Ok(connection)) => {
                if queued > 0 {
                    queued -= 1;
                    if has_left(&shard, frontend, &connection) {
                        continue;
                    }
                }
                let Ok(client) = clients::greet(&shard, frontend, &connection) else { continue };
                match admit(&shard, frontend, &listener, &connection).await {
                    Admission::Granted { waited } => {
                        queued = if waited { QUEUED_MAX } else { queued };
                        place(&shard, connection, frontend, client);
                    }
                    Admission::Left => {
                        queued = QUEUED_MAX;
                        clients::leave(&shard, frontend, client);
                    }
                    Admission::Drained => {
                        clients::leave(&shard, frontend, client);
                        break;
                    }
                }
            }
            First::Right(Err(_)) => {
                shard.counters().accepts_failed.add(1);
                shard.reactor.sleep(ACCEPT_PAUSE).await;
            }
        }
        if shard.is_draining() {
            break;
        }
    }
    for connection in listener.close().await {
        if has_left(&shard, frontend, &connection) {
            continue;
        }
        // What is over the limit now would wait for sessions that are about to end: let it go.
        let Ok(client) = clients::greet(&shard, frontend, &connection) else { continue };
        if enter(&shard, frontend) {
            shard.gauges.enter_shard(shard.reactor.shard());
            session::begin(&shard, connection, frontend, client);
        } else {
            clients::leave(&shard, frontend, client);
        }
    }
    shard.listener_closed();
}

/// Waits until the frontend's rate allows another connection, and takes a place at both gates,
/// waiting for one if need be.
async fn admit(
    shard: &Rc<Shard>,
    frontend: FrontendId,
    listener: &Listener,
    connection: &Socket,
) -> Admission {
    let mut waited = false;
    while let Err(wait) = shard.gauges.try_arrive(frontend, shard.reactor.now()) {
        shard.counters().accepts_paused.add(1);
        if !std::mem::replace(&mut waited, true) {
            shard.counters().frontend(frontend).waited_rate.add(1);
        }
        listener.pause();
        if let First::Left(()) = first(shard.drain.wait(), shard.reactor.sleep(wait)).await {
            return Admission::Drained;
        }
        if has_left(shard, frontend, connection) {
            return Admission::Left;
        }
    }
    if enter(shard, frontend) {
        return Admission::Granted { waited };
    }
    shard.counters().accepts_paused.add(1);
    shard.counters().frontend(frontend).waited_full.add(1);
    listener.pause();
    loop {
        shard.gauges.wait(frontend);
        if has_left(shard, frontend, connection) {
            return Admission::Left;
        }
        if enter(shard, frontend) {
            return Admission::Granted { waited: true };
        }
        if shard.is_draining() {
            return Admission::Drained;
        }
        let _ = first(shard.gate_opened.wait(), shard.reactor.sleep(GATE_PATIENCE)).await;
    }
}

/// Whether the client of a connection that had to wait has left, which is counted.
fn has_left(shard: &Shard, frontend: FrontendId, connection: &Socket) -> bool {
    let left = waiting::has_left(connection);
    if left {
        shard.counters().frontend(frontend).left_at_gate.add(1);
    }
    left
}

fn enter(shard: &Shard, frontend: FrontendId) -> bool {
    shard.gauges.try_enter(frontend, || shard.open_gates())
}

/// Begins the session on a shard that has clearly fewer, or else here.
fn place(shard: &Rc<Shard>, connection: Socket, frontend: FrontendId, client: Option<Place>) {
    let own = shard.reactor.shard();
    let other = least_loaded(shard, own);
    let kept = if other == own {
        Some(connection)
    } else {
        hand_over(shard, other, connection, (frontend, client))
    };
    if let Some(connection) = kept {
        shard.gauges.enter_shard(own);
        session::begin(shard, connection, frontend, client);
    }
}

/// Hands a connection to another shard; gives it back if that shard can't take it.
fn hand_over(
    shard: &Shard,
    other: usize,
    connection: Socket,
    (frontend, client): (FrontendId, Option<Place>),
) -> Option<Socket> {
    if !shard.gauges.try_hand_over(other) {
        return Some(connection);
    }
    let message = Message::Adopt { connection, frontend, client };
    let Err(refused) = shard.reactor.mailboxes()[other].post(message) else {
        shard.counters().handed_over.add(1);
        return None;
    };
    shard.gauges.leave_shard(other);
    match refused {
        Message::Adopt { connection, .. } => Some(connection),
        _ => None,
    }
}

/// The shard for a new session among some: `own` unless another has clearly fewer.
fn least_loaded(shard: &Shard, own: usize) -> usize {
    let shards = shard.reactor.mailboxes().len();
    let start = if shards > SHARDS_COMPARED { shard.random_below(shards) } else { 0 };
    let compared = (0..shards.min(SHARDS_COMPARED)).map(|n| (start + n) % shards);
    let loads = compared.map(|index| (index, shard.gauges.shard(index)));
    let Some((other, load)) = loads.min_by_key(|(_, load)| *load) else { return own };
    if is_clearly_more(shard.gauges.shard(own), load) { other } else { own }
}

fn is_clearly_more(own: u32, other: u32) -> bool {
    own > other.saturating_add(HANDOVER_MARGIN).saturating_add(other / 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_difference_moves_a_session() {
        assert!(!is_clearly_more(0, 0));
        assert!(!is_clearly_more(3, 0));
        assert!(is_clearly_more(4, 0));
        assert!(!is_clearly_more(1030, 1000));
        assert!(is_clearly_more(1040, 1000));
        assert!(!is_clearly_more(0, u32::MAX));
    }
}
