//! Sessions that go round through this process's own listeners, and their end.
//!
//! How they are recognised is in `ringlane_core::shared::Hops`. Not here: chains that the
//! configuration shows, which it refuses. Invariant: a process without a server at one of its own
//! listeners pays one look at a flag and one at its listeners' ports per session, and no system
//! call.

use ringlane_core::counters::{Close, Reason};
use ringlane_core::ids::{FrontendId, ServerId};
use ringlane_core::machine::Address;
use ringlane_core::machine::reactor::Stream;

use crate::ends::REFUSED;
use crate::trail::Seeker;

/// Refuses a session that has come round.
pub(crate) fn stop_before_connecting(
    seeker: &Seeker<'_>,
    frontend: FrontendId,
    client: &Stream,
) -> Result<(), Close> {
    let generation = seeker.generation;
    let hops = &generation.gauges().hops;
    match hops.goes_round(|| client.peer_address(), generation.now_ms()) {
        true => Err(refuse(seeker, frontend, client)),
        false => Ok(()),
    }
}

/// Refuses a session that has come round, or remembers the hop that it has made.
pub(crate) fn stop_after_connecting(
    seeker: &Seeker<'_>,
    frontend: FrontendId,
    client: &Stream,
    server: &Stream,
    id: ServerId,
) -> Result<(), Close> {
    let generation = seeker.generation;
    let address = generation.address(id);
    let Some(Address::Inet(to)) = address.as_deref() else { return Ok(()) };
    if !generation.gauges().hops.may_listen_at(*to) {
        return Ok(());
    }
    let (Some(from), Some(own)) = (client.peer_address(), server.own_address()) else {
        return Ok(());
    };
    if generation.gauges().hops.pass(from, own, *to, generation.now_ms()) {
        return Ok(());
    }
    server.reset_on_close();
    Err(refuse(seeker, frontend, client))
}

/// Ends a session that goes round. The reset runs through all hops, where an end would wait at each
/// for that of the other direction.
fn refuse(seeker: &Seeker<'_>, frontend: FrontendId, client: &Stream) -> Close {
    seeker.generation.counters().frontend(frontend).loops_suspected.add(1);
    seeker.trail.because(Reason::Loop);
    client.reset_on_close();
    REFUSED
}
