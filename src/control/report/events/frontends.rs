//! Limits of clients: `max_connections` of the process and of frontends, `rate`, `per_client`.

use std::time::{Duration, Instant};

use ringlane_core::ids::FrontendId;
use ringlane_core::shared::Gate;

use super::Look;
use super::pacing::{Tally, Turn, Waits, counted, human};
use crate::control::log::{Level, Notice};
use crate::control::traffic::Traffic;

/// How long a limit must be free again before that is reported.
const CALM: Duration = Duration::from_secs(3);

/// What is remembered of the process.
#[derive(Debug)]
pub(super) struct Process {
    full: Waits,
    /// Connections that have waited for its limit.
    waited: u64,
}

/// What is remembered of a frontend.
#[derive(Debug)]
pub(super) struct FrontendEvents {
    full: Waits,
    /// Connections that have waited for its own limit.
    waited: u64,
    /// Connections that have waited for any limit, up to the last look.
    waited_any: u64,
    /// Those of them that were new at the last look.
    waited_new: u64,
    rate: Tally,
    refused: Tally,
    unlimited: Tally,
    loops: Tally,
}

/// Attributes the connections that have waited since the last look to a limit. Shards count them by
/// frontend, whichever limit it was; where both may have been reached, they count for the
/// frontend's limit if that is still reached, or if there is no sign that the process's was.
pub(super) fn attribute_waits(
    process: &mut Process,
    frontends: &mut [FrontendEvents],
    traffic: &Traffic,
) {
    let ids = (0..).map(FrontendId);
    let mut is_process_full = traffic.gauges.common.process.is_full();
    for (id, frontend) in ids.clone().zip(frontends.iter_mut()) {
        let total = traffic.frontend_total(id, |f| f.waited_full.get());
        frontend.waited_new = total.saturating_sub(frontend.waited_any);
        frontend.waited_any = total;
        is_process_full |= frontend.waited_new > 0 && !has_own_limit(traffic, id);
    }
    for (id, frontend) in ids.zip(frontends) {
        // Those that wait because a frontend is paused met no limit.
        if traffic.gauges.frontend(id).max() == 0 {
            continue;
        }
        let is_full = traffic.gauges.frontend(id).is_full() || !is_process_full;
        let is_own = is_full && has_own_limit(traffic, id);
        let waited = if is_own { &mut frontend.waited } else { &mut process.waited };
        *waited += frontend.waited_new;
    }
}

/// Whether a frontend has a limit below that of the process.
fn has_own_limit(traffic: &Traffic, id: FrontendId) -> bool {
    traffic.gauges.frontend(id).max() < traffic.gauges.common.process.max()
}

/// The events of a limit.
struct LimitEvents {
    full: &'static str,
    below: &'static str,
}

/// The line that is due about an object's limit.
fn full(
    full: &mut Waits,
    what: &str,
    events: &LimitEvents,
    gate: &Gate,
    waited: u64,
    look: &mut Look<'_>,
) -> Option<Notice> {
    let max = gate.max();
    // It is paused, which was logged and is no lack of room.
    if max == 0 {
        return None;
    }
    let (turn, count) = full.observe(gate.is_full(), waited, look.now, &mut look.budget)?;
    Some(match turn {
        Turn::Begun { unreported } => {
            let again = again(unreported);
            let so_far = if count > 0 { format!(" ({count} so far)") } else { String::new() };
            let text = format!(
                "{what} reached max_connections = {max}{again}: new connections wait in the \
                 kernel's queue{so_far}"
            );
            Notice::new(Level::Warning, events.full, text).count(count)
        }
        Turn::Over { lasted } => {
            let (lasted, waited) = (human(lasted), counted(count, "connection"));
            let text = format!(
                "{what} is below max_connections = {max} again after {lasted}; {waited} had to wait"
            );
            Notice::new(Level::Info, events.below, text).count(count)
        }
    })
}

/// How often it was so in between, if it was.
pub(super) fn again(unreported: u64) -> String {
    match unreported {
        0 => String::new(),
        unreported => format!(" (and {} since the last line)", counted(unreported, "more time")),
    }
}

impl Process {
    pub(super) fn new() -> Self {
        Self { full: Waits::over_after(CALM), waited: 0 }
    }

    pub(super) fn look(&mut self, look: &mut Look<'_>) {
        let gate = &look.traffic.gauges.common.process;
        let events = LimitEvents { full: "process_full", below: "process_below_limit" };
        let notice = full(&mut self.full, "the process", &events, gate, self.waited, look);
        look.notices.extend(notice);
    }
}

impl FrontendEvents {
    pub(super) fn new(now: Instant) -> Self {
        let tally = || Tally::new(now);
        Self {
            full: Waits::over_after(CALM),
            waited: 0,
            waited_any: 0,
            waited_new: 0,
            rate: tally(),
            refused: tally(),
            unlimited: tally(),
            loops: tally(),
        }
    }

    pub(super) fn look(&mut self, id: u32, look: &mut Look<'_>) {
        let id = FrontendId(id);
        // Otherwise it is the limit of the process.
        if has_own_limit(look.traffic, id) {
            self.look_at_gate(id, look);
        }
        self.look_at_rate(id, look);
        self.look_at_clients(id, look);
        self.look_at_loops(id, look);
    }

    fn look_at_gate(&mut self, id: FrontendId, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let gate = traffic.gauges.frontend(id);
        let name = &traffic.snapshot.frontend(id).name;
        let what = format!("frontend {name}");
        let events = LimitEvents { full: "frontend_full", below: "frontend_below_limit" };
        let notice = full(&mut self.full, &what, &events, gate, self.waited, look);
        look.notices.extend(notice.map(|notice| notice.frontend(name)));
    }

    fn look_at_rate(&mut self, id: FrontendId, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let total = traffic.frontend_total(id, |f| f.waited_rate.get());
        let Some(seen) = self.rate.observe(total, look.now, &mut look.budget) else { return };
        let frontend = traffic.snapshot.frontend(id);
        let (name, rate) = (&frontend.name, frontend.rate.unwrap_or(0));
        let text = format!(
            "frontend {name} reached rate = {rate} per second: {} had to wait in {}",
            counted(seen.count, "connection"),
            human(seen.within)
        );
        let notice = Notice::new(Level::Warning, "frontend_rate", text);
        look.notices.push(notice.frontend(name).count(seen.count));
    }

    fn look_at_clients(&mut self, id: FrontendId, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let name = &traffic.snapshot.frontend(id).name;
        let many = traffic.frontend_total(id, |f| f.refused_too_many.get());
        let fast = traffic.frontend_total(id, |f| f.refused_too_fast.get());
        if let Some(seen) = self.refused.observe(many + fast, look.now, &mut look.budget) {
            let example = traffic.counters.iter().find_map(|c| c.frontend(id).last_refused.get());
            let example = example.map_or_else(String::new, |at| format!(", for example from {at}"));
            let text = format!(
                "frontend {name} refused {} in {} because of per_client{example} (in total {many} \
                 by max_connections, {fast} by rate)",
                counted(seen.count, "connection"),
                human(seen.within)
            );
            let notice = Notice::new(Level::Warning, "clients_refused", text);
            look.notices.push(notice.frontend(name).count(seen.count));
        }
        let unlimited = traffic.frontend_total(id, |f| f.clients_unknown.get());
        if let Some(seen) = self.unlimited.observe(unlimited, look.now, &mut look.budget) {
            let text = format!(
                "frontend {name}: {} in {} not limited by per_client because its client table is \
                 full; raise per_client.size",
                counted(seen.count, "connection"),
                human(seen.within)
            );
            let notice = Notice::new(Level::Warning, "clients_not_counted", text);
            look.notices.push(notice.frontend(name).count(seen.count));
        }
    }

    fn look_at_loops(&mut self, id: FrontendId, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let total = traffic.frontend_total(id, |f| f.loops_suspected.get());
        let Some(seen) = self.loops.observe(total, look.now, &mut look.budget) else { return };
        let name = &traffic.snapshot.frontend(id).name;
        let text = format!(
            "frontend {name}: loop suspected: {} in {} seem to have passed through this balancer \
             before; check for a server address that leads back to a listener",
            counted(seen.count, "connection"),
            human(seen.within)
        );
        let notice = Notice::new(Level::Error, "loop_suspected", text);
        look.notices.push(notice.frontend(name).count(seen.count));
    }
}
