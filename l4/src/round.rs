//! Sessions that go round through this process's own listeners, and their end.
//!
//! How they are recognised is in `ringlane_core::shared`. Not here: chains that the configuration shows,
//! which it refuses. Invariant: a process without a server at one of its own listeners pays one look
//! at a flag and one at its listeners' ports per session, and no system call.

use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::machine::Address;
use ringlane_core::machine::reactor::Stream;

use crate::session::Account;

/// Refuses a session that has come round.
pub(crate) fn stop_before_connecting(account: &mut Account, client: &Stream) -> Result<(), Close> {
    let gauges = &account.shard.gauges;
    let now_ms = gauges.millis(account.shard.reactor.now());
    match gauges.hops.goes_round(|| client.peer_address(), now_ms) {
        true => Err(refuse(account, client)),
        false => Ok(()),
    }
}

/// Refuses a session that has come round, or remembers the hop that it has made.
pub(crate) fn stop_after_connecting(
    account: &mut Account,
    client: &Stream,
    server: &Stream,
) -> Result<(), Close> {
    let shard = &account.shard;
    let address = account.server.and_then(|id| shard.address(id));
    let Some(Address::Inet(to)) = address.as_deref() else { return Ok(()) };
    if !shard.gauges.hops.may_listen_at(*to) {
        return Ok(());
    }
    let (Some(from), Some(own)) = (client.peer_address(), server.own_address()) else {
        return Ok(());
    };
    let now_ms = shard.gauges.millis(shard.reactor.now());
    if shard.gauges.hops.pass(from, own, *to, now_ms) {
        return Ok(());
    }
    server.reset_on_close();
    Err(refuse(account, client))
}

/// Ends a session that goes round. The reset runs through all hops, where an end would wait at each
/// for that of the other direction.
fn refuse(account: &mut Account, client: &Stream) -> Close {
    account.shard.counters().frontend(account.frontend_id()).loops_suspected.add(1);
    account.because(Reason::Loop);
    client.reset_on_close();
    Close { cause: Cause::Refused, phase: Phase::Request }
}
