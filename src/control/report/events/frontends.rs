//! Limits of clients: `max_connections` of the process and of frontends, `rate`, `per_client`.

use std::time::{Duration, Instant};

use ringlane_core::ids::FrontendId;
use ringlane_core::shared::Gate;

use super::Look;
use super::pacing::{Episode, Tally, Turn, counted, human};
use crate::control::log::{Level, Notice};

/// How long a limit must be free again before that is said.
const CALM: Duration = Duration::from_secs(3);

/// What is remembered of the process.
#[derive(Debug)]
pub(super) struct Process {
    full: Full,
}

/// What is remembered of a frontend.
#[derive(Debug)]
pub(super) struct Frontend {
    full: Full,
    rate: Tally,
    refused: Tally,
    unlimited: Tally,
    loops: Tally,
}

/// A limit on sessions.
#[derive(Debug)]
struct Full {
    episode: Episode,
    /// Connections that had waited before the limit was reached.
    before: u64,
    /// The same at the last look.
    last: u64,
}

impl Full {
    fn new() -> Self {
        Self { episode: Episode::over_after(CALM), before: 0, last: 0 }
    }

    /// The sentence that is due about an object's gate.
    fn look(
        &mut self,
        what: &str,
        gate: &Gate,
        waited: u64,
        look: &mut Look<'_>,
    ) -> Option<(Level, String)> {
        let max = gate.max();
        let last = std::mem::replace(&mut self.last, waited);
        match self.episode.observe(gate.is_full(), look.now, &mut look.budget)? {
            Turn::Begun { unsaid } => {
                let again = again(unsaid);
                self.before = last;
                Some((
                    Level::Warning,
                    format!(
                        "{what} reached max_connections = {max}{again}: new connections wait in \
                         the kernel's queue"
                    ),
                ))
            }
            Turn::Over { lasted } => {
                let waited = counted(waited.saturating_sub(self.before), "connection");
                let lasted = human(lasted);
                Some((
                    Level::Info,
                    format!(
                        "{what} is below max_connections = {max} again after {lasted}; {waited} had to wait"
                    ),
                ))
            }
        }
    }
}

/// How often it was so in between, if it was.
pub(super) fn again(unsaid: u64) -> String {
    match unsaid {
        0 => String::new(),
        unsaid => format!(" (and {} since the last line)", counted(unsaid, "time")),
    }
}

impl Process {
    pub(super) fn new() -> Self {
        Self { full: Full::new() }
    }

    pub(super) fn look(&mut self, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let ids = (0..traffic.snapshot.frontends.len() as u32).map(FrontendId);
        let waited = ids.map(|id| traffic.frontend_total(id, |f| f.waited_full.get())).sum();
        let gate = &traffic.gauges.process;
        let Some((level, text)) = self.full.look("the process", gate, waited, look) else { return };
        let event = if level == Level::Warning { "process_full" } else { "process_below_limit" };
        look.notices.push(Notice::new(level, event, text).count(gate.live().into()));
    }
}

impl Frontend {
    pub(super) fn new(now: Instant) -> Self {
        let tally = || Tally::new(now);
        Self {
            full: Full::new(),
            rate: tally(),
            refused: tally(),
            unlimited: tally(),
            loops: tally(),
        }
    }

    pub(super) fn look(&mut self, id: u32, look: &mut Look<'_>) {
        let (traffic, id) = (look.traffic, FrontendId(id));
        let gate = traffic.gauges.frontend(id);
        // Otherwise it is the limit of the process.
        if gate.max() < traffic.gauges.process.max() {
            self.look_at_gate(id, look);
        }
        self.look_at_rate(id, look);
        self.look_at_clients(id, look);
        self.look_at_loops(id, look);
    }

    fn look_at_gate(&mut self, id: FrontendId, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let gate = traffic.gauges.frontend(id);
        let waited = traffic.frontend_total(id, |f| f.waited_full.get());
        let name = &traffic.snapshot.frontend(id).name;
        let said = self.full.look(name, gate, waited, look);
        let Some((level, text)) = said else { return };
        let event = if level == Level::Warning { "frontend_full" } else { "frontend_below_limit" };
        let notice = Notice::new(level, event, format!("frontend {text}"));
        look.notices.push(notice.frontend(name).count(gate.live().into()));
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
                "frontend {name} refused {} in {} because of per_client{example} (since the start \
                 {many} for max_connections, {fast} for rate)",
                counted(seen.count, "connection"),
                human(seen.within)
            );
            let notice = Notice::new(Level::Warning, "clients_refused", text);
            look.notices.push(notice.frontend(name).count(seen.count));
        }
        let unlimited = traffic.frontend_total(id, |f| f.clients_unknown.get());
        if let Some(seen) = self.unlimited.observe(unlimited, look.now, &mut look.budget) {
            let text = format!(
                "frontend {name}: {} in {} not limited by per_client because its table of clients \
                 is full; raise per_client.size",
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
             before; look for a server address that leads back to a listener",
            counted(seen.count, "connection"),
            human(seen.within)
        );
        let notice = Notice::new(Level::Error, "loop_suspected", text);
        look.notices.push(notice.frontend(name).count(seen.count));
    }
}
