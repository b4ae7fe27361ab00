//! What must be true where one client may take only so much.
//!
//! No client has more sessions at once than it may have, and none is refused that is not at a
//! limit. A connection may have its permit for a while before it is a session, as long as it waits
//! at the gate, so what is forbidden is looked for among sessions, what is allowed among
//! connections. Next: `verdict`.

use std::net::IpAddr;
use std::time::Duration;

use ringlane_core::counters::{Cause, Phase, Reason, SessionRecord};
use ringlane_core::settings::ClientLimits;

use crate::orders::Times;
use crate::world::Run;

/// Times of records are in whole microseconds, those of rates in parts of a millisecond.
const ROUNDING: Duration = Duration::from_millis(2);

fn ip(record: &SessionRecord) -> Option<IpAddr> {
    record.client.map(|client| client.ip())
}

fn is_refused(record: &SessionRecord) -> bool {
    let is_refused = record.close.cause == Cause::Refused && record.close.phase == Phase::Request;
    // For another reason, it had its permit.
    is_refused && matches!(record.reason, Some(Reason::TooMany | Reason::TooFast))
}

/// Between two sessions that come at the rate.
fn interval(limits: &ClientLimits) -> Option<Duration> {
    let rate = limits.rate?.per_100_seconds;
    Some(Duration::from_secs(100) / rate)
}

/// No client has more sessions at once than it may have.
pub(crate) fn check(run: &Run, failures: &mut Vec<String>) {
    let Some(limits) = &run.world.per_client else { return };
    let sessions = || run.records.iter().filter(|record| !is_refused(record));
    for record in sessions() {
        let at = Times::of(record).came;
        let lives = |other: &&SessionRecord| {
            let times = Times::of(other);
            ip(other) == ip(record) && times.came <= at && times.ended > at + ROUNDING
        };
        let living = sessions().filter(lives).count();
        if living > limits.max_connections as usize {
            failures.push(format!("{:?} has {living} sessions at {at:?}", ip(record)));
        }
    }
}

/// Whether a refused connection was above a limit.
pub(crate) fn explain(run: &Run, record: &SessionRecord) -> bool {
    let Some(limits) = &run.world.per_client else { return false };
    let at = Times::of(record).came;
    // Everybody of this client who had come by then, and when he had gone.
    let others = run.clients.iter().filter_map(|client| {
        let own = run.net.facts(client.socket?).own;
        let recorded = run.records.iter().find(|other| other.client == Some(own));
        let is_other = Some(own) != record.client && Some(own.ip()) == ip(record);
        let counted = is_other && recorded.is_none_or(|other| !is_refused(other));
        let ended = recorded.map_or(Duration::MAX, |other| Times::of(other).ended);
        let latest = recorded.map_or(Duration::MAX, |other| Times::of(other).came);
        let came = client.plan.comes;
        (counted && came <= at + ROUNDING).then_some((latest, ended))
    });
    match record.reason {
        Some(Reason::TooMany) => {
            let there = others.filter(|(_, ended)| ended.saturating_add(ROUNDING) >= at).count();
            there >= limits.max_connections as usize
        }
        Some(Reason::TooFast) => interval(limits).is_some_and(|interval| {
            // Those that came before are paid for by now.
            let window = interval * (limits.burst + 1);
            let recent = others.filter(|(came, _)| came.saturating_add(window) >= at).count();
            recent >= limits.burst as usize
        }),
        _ => false,
    }
}
