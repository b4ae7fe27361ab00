//! Accepting: limits first, then the shard that has the fewest sessions.
//!
//! The kernel spreads connections over shards by hash, which is fair for many short ones and unfair
//! for few long ones. So right after accept, before any byte is read, a shard that has clearly more
//! sessions than another hands the connection over. Invariant: a connection holds a place at both
//! gates from here until its session is settled, and is counted on exactly one shard.

use std::rc::Rc;
use std::time::Duration;

use ringlane_core::clients::Place;
use ringlane_core::mailbox::Message;
use ringlane_core::reactor::{First, Listener, first};
use ringlane_core::snapshot::FrontendId;
use ringlane_core::sys::Socket;

use crate::clients;
use crate::session;
use crate::shard::Shard;

/// Sessions that a shard may have more than another before it hands new ones over, besides one
/// thirty-second of what the other has.
const HANDOVER_MARGIN: u32 = 3;

/// Shards that are compared at each accept; with more, a different part each time.
const SHARDS_COMPARED: usize = 8;

/// The pause after an accept that failed for want of a descriptor or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a shard waits at a full gate before it looks by itself.
const GATE_PATIENCE: Duration = Duration::from_millis(100);

/// Accepts on one listener until the shard drains; then empties its queue and closes it.
pub(crate) async fn accept(shard: Rc<Shard>, frontend: FrontendId, mut listener: Listener) {
    loop {
        match first(shard.drain.wait(), listener.accept()).await {
            First::Left(()) => break,
            First::Right(Ok(connection)) => {
                let Ok(client) = clients::greet(&shard, frontend, &connection) else { continue };
                if !admit(&shard, frontend, &listener).await {
                    clients::leave(&shard, frontend, client);
                    break;
                }
                place(&shard, connection, frontend, client);
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
/// waiting for one if need be; `false` if the shard drains meanwhile.
async fn admit(shard: &Rc<Shard>, frontend: FrontendId, listener: &Listener) -> bool {
    let mut is_early = false;
    while let Err(wait) = shard.gauges.try_arrive(frontend, shard.reactor.now()) {
        shard.counters().accepts_paused.add(1);
        if !std::mem::replace(&mut is_early, true) {
            shard.counters().frontend(frontend).waited_rate.add(1);
        }
        listener.pause();
        if let First::Left(()) = first(shard.drain.wait(), shard.reactor.sleep(wait)).await {
            return false;
        }
    }
    if enter(shard, frontend) {
        return true;
    }
    shard.counters().accepts_paused.add(1);
    shard.counters().frontend(frontend).waited_full.add(1);
    listener.pause();
    loop {
        shard.gauges.wait(frontend);
        if enter(shard, frontend) {
            return true;
        }
        if shard.is_draining() {
            return false;
        }
        let _ = first(shard.gate_opened.wait(), shard.reactor.sleep(GATE_PATIENCE)).await;
    }
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
