//! Orders to end the sessions of a server, and what must be true of them.
//!
//! A session ends by an order only if it concerns it: its server, its role, given after it took its
//! seat. One that a fence concerns ends at that instant; one that a drain concerns ends when it has
//! been idle, and not before. Next: `verdict`.

use std::time::Duration;

use ringlane_core::counters::{Ending, Reason, SessionRecord};
use ringlane_core::ids::ServerId;
use ringlane_core::limits::LAST_WORDS;
use ringlane_core::machine::sys::sim::Facts;
use ringlane_core::settings::{RoleWanted, Snapshot};
use ringlane_core::shared::{Eligibility, Gauges, WEIGHT_SCALE};
use ringlane_shard::Message;

use crate::verdict::{SLACK, has_last_words, micros};
use crate::world::Run;

/// What the records' clock says when a world begins.
const EPOCH_US: u64 = 1_700_000_000_000_000;

/// How long a session must be still to be drained: the default of `drain_idle`.
const IDLE: Duration = Duration::from_secs(1);

/// Drains of few sessions are spread over at most so long.
const SPREAD: Duration = Duration::from_secs(1);

/// Durations are told in whole microseconds.
const ROUNDING: Duration = Duration::from_micros(2);

/// An order to end the sessions of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndOrder {
    pub(crate) at: Duration,
    pub(crate) server: u32,
    /// Those of frontends that want this; `Any`: of all.
    pub(crate) role: RoleWanted,
    pub(crate) how: Ending,
    /// Another one for each order, so that a record tells which one it was.
    pub(crate) why: Reason,
}

impl EndOrder {
    pub(crate) fn message(self, gauges: &Gauges) -> Message {
        let Self { role, how, why, .. } = self;
        let id = ServerId(self.server);
        let (server, sessions) = (gauges.server_tag(id), gauges.server(id).sessions());
        Message::EndSessions { server, sessions, role, how, why }
    }

    /// Whether it concerns sessions of this server in this world.
    fn concerns(self, run: &Run, record: &SessionRecord) -> bool {
        let is_of_role = self.role == RoleWanted::Any || self.role == run.world.role;
        is_of_role && record.server == Some(ServerId(self.server))
    }
}

/// All servers are of every role.
pub(crate) fn open_for_every_role(gauges: &Gauges, snapshot: &Snapshot) {
    for (id, server) in (0..).zip(&snapshot.servers) {
        let eligibility = Eligibility::new([true; 3], server.weight * WEIGHT_SCALE);
        gauges.server(ServerId(id)).set_eligibility(eligibility);
    }
}

/// When a session came, was connected, and ended, on the world's clock.
pub(crate) struct Times {
    pub(crate) came: Duration,
    connected: Duration,
    pub(crate) ended: Duration,
}

impl Times {
    pub(crate) fn of(record: &SessionRecord) -> Self {
        let came = micros(record.accepted_unix_us - EPOCH_US);
        let connected = came + micros(record.connect_us);
        Self { came, connected, ended: came + micros(record.duration_us) }
    }

    /// When it took the seat that it had at its end: at the earliest.
    fn seated(&self, record: &SessionRecord) -> Duration {
        self.came + micros(record.queue_us)
    }
}

/// Whether a session was ended by an order that concerned it, when it should.
pub(crate) fn explain(run: &Run, record: &SessionRecord) -> bool {
    if record.reason == Some(Reason::Stopped) {
        return run.ordered;
    }
    let times = Times::of(record);
    run.world.ends.iter().any(|order| {
        let is_it = order.concerns(run, record) && record.reason == Some(order.why);
        let is_after = order.at + ROUNDING >= times.seated(record);
        let in_time = match order.how {
            Ending::Fence => times.ended <= order.at.max(times.connected) + SLACK,
            Ending::Drain => times.ended + ROUNDING >= order.at.max(times.connected + IDLE),
        };
        is_it && is_after && in_time && times.ended + ROUNDING >= order.at
    })
}

/// Nobody outlives an order.
pub(crate) fn check_obeyed(run: &Run, record: &SessionRecord, facts: &Facts) -> Result<(), String> {
    let times = Times::of(record);
    // One that still connected may have been seated elsewhere.
    let was_connected = |order: &&EndOrder| {
        order.concerns(run, record) && record.connect_us > 0 && times.connected + SLACK < order.at
    };
    let moved = facts.other.map_or(Duration::ZERO, |other| run.net.facts(other).moved);
    let last_words = if has_last_words(record) { LAST_WORDS } else { Duration::ZERO };
    // The last one counts of those that are alike.
    let is_replaced = |order: &EndOrder| {
        let alike = |other: &EndOrder| (other.server, other.role) == (order.server, order.role);
        let later = |other: &EndOrder| alike(other) && other.at > order.at;
        order.how == Ending::Drain && run.world.ends.iter().any(later)
    };
    for order in run.world.ends.iter().filter(was_connected) {
        if is_replaced(order) {
            continue;
        }
        let until = match order.how {
            Ending::Fence => order.at + SLACK,
            // A send that begins counts as a sign of life once, before its bytes are taken.
            Ending::Drain => moved.max(order.at + SPREAD) + IDLE * 2 + last_words + SLACK,
        };
        if times.ended > until {
            return Err(format!("outlived the order {order:?}: ended at {:?}", times.ended));
        }
    }
    Ok(())
}
