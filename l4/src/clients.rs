//! What one client may take of a frontend: asked right after accept, before anything is spent on it.
//!
//! The counting is `ringlane_core::shared::clients`. A client that a trusted proxy speaks for is known only
//! after its PROXY header, and asked for then. Refused connections are counted and logged; they are
//! no sessions.

use std::net::{IpAddr, SocketAddr};

use ringlane_core::balance::subscriber;
use ringlane_core::counters::{Cause, Close, Phase, Reason, SessionRecord, TRIED_MAX};
use ringlane_core::ids::FrontendId;
use ringlane_core::machine::sys::{Socket, peer_address, reset_on_close};
use ringlane_core::settings::Refusal;
use ringlane_core::shared::clients::{Entry, Place};

use crate::proxy;
use crate::shard::Shard;

/// The client wants more than it may have, and of what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refused(pub(crate) Reason);

/// How a refused session ends.
pub(crate) const REFUSED: Close = Close { cause: Cause::Refused, phase: Phase::Request };

/// Asks for a connection that was just accepted. `Err` if it is refused, which it then knows.
pub(crate) fn greet(
    shard: &Shard,
    frontend: FrontendId,
    connection: &Socket,
) -> Result<Option<Place>, Refused> {
    let settings = shard.snapshot.frontend(frontend);
    if settings.per_client.is_none() {
        return Ok(None);
    }
    let Some(client) = peer_address(connection) else { return Ok(None) };
    let speaks_for_others = |accept| proxy::is_trusted(accept, Some(client.ip()));
    if settings.accept_proxy.as_ref().is_some_and(speaks_for_others) {
        return Ok(None);
    }
    enter(shard, frontend, client.ip()).inspect_err(|Refused(why)| {
        if is_reset(shard, frontend) {
            reset_on_close(connection);
        }
        log(shard, frontend, client, *why);
    })
}

/// Takes a place for a session of this client, if it is counted at all.
pub(crate) fn enter(
    shard: &Shard,
    frontend: FrontendId,
    client: IpAddr,
) -> Result<Option<Place>, Refused> {
    let limits = shard.snapshot.frontend(frontend).per_client.as_ref();
    let (Some(table), Some(limits)) = (shard.gauges.clients(frontend), limits) else {
        return Ok(None);
    };
    if limits.allow.iter().any(|net| net.contains(&client.to_canonical())) {
        return Ok(None);
    }
    let counters = shard.counters().frontend(frontend);
    let entry = table.enter(subscriber(client), shard.gauges.since(shard.reactor.now()));
    if matches!(entry, Entry::TooMany | Entry::TooFast) {
        counters.last_refused.set(client);
    }
    match entry {
        Entry::Counted(place) => Ok(Some(place)),
        Entry::Unknown => {
            counters.clients_unknown.add(1);
            Ok(None)
        }
        Entry::TooMany => {
            counters.refused_too_many.add(1);
            Err(Refused(Reason::TooMany))
        }
        Entry::TooFast => {
            counters.refused_too_fast.add(1);
            Err(Refused(Reason::TooFast))
        }
    }
}

/// Whether who is refused learns it by a reset.
pub(crate) fn is_reset(shard: &Shard, frontend: FrontendId) -> bool {
    let limits = shard.snapshot.frontend(frontend).per_client.as_ref();
    limits.is_some_and(|limits| limits.refusal == Refusal::Reset)
}

/// Gives a place back.
pub(crate) fn leave(shard: &Shard, frontend: FrontendId, place: Option<Place>) {
    if let (Some(table), Some(place)) = (shard.gauges.clients(frontend), place) {
        table.leave(place);
    }
}

fn log(shard: &Shard, frontend: FrontendId, client: SocketAddr, why: Reason) {
    if !shard.snapshot.log_sessions {
        return;
    }
    let record = SessionRecord {
        unique_id: None,
        accepted_unix_us: shard.reactor.unix_micros(),
        client: Some(client),
        generation: shard.snapshot.generation,
        frontend,
        backend: shard.snapshot.frontend(frontend).backend,
        server: None,
        tried: [None; TRIED_MAX],
        bytes_in: 0,
        bytes_out: 0,
        connect_us: 0,
        queue_us: 0,
        duration_us: 0,
        retries: 0,
        names: None,
        close: REFUSED,
        reason: Some(why),
        shard: u32::try_from(shard.reactor.shard()).unwrap_or(u32::MAX),
    };
    if shard.log.push(record).is_err() {
        shard.counters().log_dropped.add(1);
    }
}
