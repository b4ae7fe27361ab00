//! Limits of a frontend per client, looked at right after accept, before anything is spent on it.
//!
//! The counting is in `ringlane_core::shared::clients`. The client of a trusted proxy is known only
//! after its PROXY header, and its limits are looked at then. Refused connections are counted and
//! logged; they are no sessions.

use std::net::{IpAddr, SocketAddr};

use ringlane_core::balance::subscriber;
use ringlane_core::counters::{Reason, SessionRecord, TRIED_MAX};
use ringlane_core::ids::FrontendId;
use ringlane_core::machine::sys::{Socket, peer_address, reset_on_close};
use ringlane_core::settings::Refusal;
use ringlane_core::shared::clients::{Entry, Permit};

use crate::ends::REFUSED;
use crate::generation::Generation;
use crate::proxy::is_trusted;

/// The client is at a limit, and at which.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refused(pub(crate) Reason);

/// Takes a permit for a connection that was just accepted. `Err` if it is refused; it has been
/// reset then if that is configured.
pub(crate) fn admit(
    generation: &Generation,
    frontend: FrontendId,
    connection: &Socket,
) -> Result<Option<Permit>, Refused> {
    let settings = generation.frontend(frontend);
    if settings.per_client.is_none() {
        return Ok(None);
    }
    let Some(client) = peer_address(connection) else { return Ok(None) };
    let may_be_proxy = |accept| is_trusted(accept, Some(client.ip()));
    if settings.accept_proxy.as_ref().is_some_and(may_be_proxy) {
        return Ok(None);
    }
    enter(generation, frontend, client.ip()).inspect_err(|Refused(why)| {
        if is_reset(generation, frontend) {
            reset_on_close(connection);
        }
        log(generation, frontend, client, *why);
    })
}

/// Takes a permit for a session of this client, if it is counted at all.
pub(crate) fn enter(
    generation: &Generation,
    frontend: FrontendId,
    client: IpAddr,
) -> Result<Option<Permit>, Refused> {
    let limits = generation.frontend(frontend).per_client.as_ref();
    let (Some(table), Some(limits)) = (generation.gauges().clients(frontend), limits) else {
        return Ok(None);
    };
    if limits.allow.iter().any(|net| net.contains(&client.to_canonical())) {
        return Ok(None);
    }
    let counters = generation.counters().frontend(frontend);
    let entry = table.enter(subscriber(client), generation.gauges().since(generation.now()));
    if matches!(entry, Entry::TooMany | Entry::TooFast) {
        counters.last_refused.set(client);
    }
    match entry {
        Entry::Counted(permit) => Ok(Some(permit)),
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

/// Whether refused connections are reset.
pub(crate) fn is_reset(generation: &Generation, frontend: FrontendId) -> bool {
    let limits = generation.frontend(frontend).per_client.as_ref();
    limits.is_some_and(|limits| limits.refusal == Refusal::Reset)
}

/// Gives a permit back.
pub(crate) fn leave(generation: &Generation, frontend: FrontendId, permit: Option<Permit>) {
    if let (Some(table), Some(permit)) = (generation.gauges().clients(frontend), permit) {
        table.leave(permit);
    }
}

fn log(generation: &Generation, frontend: FrontendId, client: SocketAddr, why: Reason) {
    if !generation.snapshot().log_sessions {
        return;
    }
    let record = SessionRecord {
        unique_id: None,
        accepted_unix_us: generation.reactor().unix_micros(),
        client: Some(client),
        generation: generation.snapshot().generation,
        frontend,
        backend: generation.frontend(frontend).backend,
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
        shard: u32::try_from(generation.reactor().shard()).unwrap_or(u32::MAX),
    };
    generation.log(record);
}
