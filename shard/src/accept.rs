//! Accepting: limits first, then a session on the shard that has the fewest (`place`).
//!
//! Invariant: a connection holds a place at both gates from here until its session is settled.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ringlane_core::ids::FrontendId;
use ringlane_core::machine::reactor::{First, Listener, first};
use ringlane_core::machine::sys::Socket;
use ringlane_core::settings::Frontend;

use crate::generation::{Generation, Newest};
use crate::mailbox::Arrival;
use crate::place::{Carrier, begin, place};
use crate::published::ListenerId;
use crate::shard::Shard;
use crate::{clients, waiting};

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

/// Accepts on one listener, for the frontend that it has in the configuration that is served, until
/// it has none or the shard drains; then empties its queue and closes it.
pub(crate) async fn accept(
    shard: Rc<Shard>,
    newest: Rc<Newest>,
    carrier: Rc<Carrier>,
    id: ListenerId,
    mut listener: Listener,
) {
    // Connections to come that may have waited in the kernel's queue, and whose clients may have
    // left.
    let mut queued = 0;
    let mut last = None;
    while let Some((generation, frontend)) = newest.owner(id).filter(|_| !shard.is_draining()) {
        if shard.take_change(id) {
            set_options(&generation, frontend, &listener);
        }
        last = Some((Rc::clone(&generation), frontend));
        match first(shard.changed.wait(), listener.accept()).await {
            First::Left(()) => {}
            First::Right(Ok(connection)) => {
                if queued > 0 {
                    queued -= 1;
                    if has_left(&generation, frontend, &connection) {
                        continue;
                    }
                }
                let admitted = clients::admit(&generation, frontend, &connection);
                let Ok(permit) = admitted else { continue };
                match admit(&generation, frontend, &listener, &connection).await {
                    Admission::Granted { waited } => {
                        queued = if waited { QUEUED_MAX } else { queued };
                        let number = generation.number();
                        let arrival = Arrival { connection, generation: number, frontend, permit };
                        place(&generation, &carrier, arrival);
                    }
                    Admission::Left => {
                        queued = QUEUED_MAX;
                        clients::leave(&generation, frontend, permit);
                    }
                    Admission::Drained => clients::leave(&generation, frontend, permit),
                }
            }
            First::Right(Err(_)) => {
                shard.counters.accepts_failed.add(1);
                shard.reactor.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let queue = listener.close().await;
    if let Some((generation, frontend)) = last {
        serve_queue(&generation, frontend, &carrier, queue);
    }
    shard.listener_closed();
}

/// Serves the connections that were in the queue of a listener that has closed.
fn serve_queue(
    generation: &Rc<Generation>,
    frontend: FrontendId,
    carrier: &Carrier,
    queue: VecDeque<Socket>,
) {
    for connection in queue {
        if has_left(generation, frontend, &connection) {
            continue;
        }
        // What is over the limit now would wait for sessions that are about to end: let it go.
        let Ok(permit) = clients::admit(generation, frontend, &connection) else { continue };
        if enter(generation, frontend) {
            let (common, own) = (&generation.gauges().common, generation.reactor().shard());
            common.enter_shard(own);
            let number = generation.number();
            begin(
                generation,
                carrier,
                Arrival { connection, generation: number, frontend, permit },
            );
        } else {
            clients::leave(generation, frontend, permit);
        }
    }
}

/// Sets the socket options of a frontend that has others than before.
fn set_options(generation: &Generation, frontend: FrontendId, listener: &Listener) {
    let Frontend { congestion, tcp, transparent, .. } = generation.frontend(frontend);
    if listener.set_options(congestion, tcp, *transparent).is_err() {
        generation.shard.counters.options_refused.add(1);
    }
}

/// Waits until the frontend's rate allows another connection, and takes a place at both gates,
/// waiting for one if need be.
async fn admit(
    generation: &Rc<Generation>,
    frontend: FrontendId,
    listener: &Listener,
    connection: &Socket,
) -> Admission {
    let mut waited = false;
    while let Err(wait) = generation.gauges().try_arrive(frontend, generation.reactor().now()) {
        generation.shard.counters.accepts_paused.add(1);
        if !std::mem::replace(&mut waited, true) {
            generation.counters().frontend(frontend).waited_rate.add(1);
        }
        listener.pause();
        if let First::Left(()) =
            first(generation.shard.changed.wait(), generation.reactor().sleep(wait)).await
            && generation.shard.is_draining()
        {
            return Admission::Drained;
        }
        if has_left(generation, frontend, connection) {
            return Admission::Left;
        }
    }
    if enter(generation, frontend) {
        return Admission::Granted { waited };
    }
    generation.shard.counters.accepts_paused.add(1);
    generation.counters().frontend(frontend).waited_full.add(1);
    listener.pause();
    loop {
        generation.gauges().wait(frontend);
        if has_left(generation, frontend, connection) {
            return Admission::Left;
        }
        if enter(generation, frontend) {
            return Admission::Granted { waited: true };
        }
        if generation.shard.is_draining() {
            return Admission::Drained;
        }
        let _ =
            first(generation.shard.gate_opened.wait(), generation.reactor().sleep(GATE_PATIENCE))
                .await;
    }
}

/// Whether the client of a connection that had to wait has left, which is counted.
fn has_left(generation: &Generation, frontend: FrontendId, connection: &Socket) -> bool {
    let left = waiting::has_left(connection);
    if left {
        generation.counters().frontend(frontend).left_at_gate.add(1);
    }
    left
}

fn enter(generation: &Generation, frontend: FrontendId) -> bool {
    generation.gauges().try_enter(frontend, || generation.shard.open_gates())
}
