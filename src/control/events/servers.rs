//! Servers as sessions meet them: connects that fail, limits that are reached.
//!
//! Not here: what checks say of a server, which is logged where it is decided (`control::servers`).

use std::time::{Duration, Instant};

use ringlane_core::snapshot::ServerId;

use super::Look;
use super::frontends::again;
use super::pacing::{Episode, Tally, Turn, counted, human};
use crate::control::metrics::server_total;
use crate::control::notice::{Level, Notice};

/// How long a server must have room again before that is said.
const CALM: Duration = Duration::from_secs(3);

/// What is remembered of a server.
#[derive(Debug)]
pub(super) struct Server {
    unreachable: Episode,
    /// Connects that had failed, and sessions that it had had, before that began.
    before: (u64, u64),
    /// The same at the last look.
    last: (u64, u64),
    full: Episode,
    impossible: Tally,
}

impl Server {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            unreachable: Episode::over_after(Duration::ZERO),
            before: (0, 0),
            last: (0, 0),
            full: Episode::over_after(CALM),
            impossible: Tally::new(now),
        }
    }

    pub(super) fn look(&mut self, id: u32, look: &mut Look<'_>) {
        let id = ServerId(id);
        self.look_at_connects(id, look);
        self.look_at_room(id, look);
        let impossible = server_total(look.running, id, |s| s.connects_impossible.get());
        if let Some(seen) = self.impossible.observe(impossible, look.now, &mut look.budget) {
            let text = format!(
                "{} in {} could not be made by this machine: no local port, descriptor, memory or \
                 route left, or the kernel refuses `source` or `tcp` of the backend",
                counted(seen.count, "connect"),
                human(seen.within)
            );
            say(look, id, (Level::Error, "connects_impossible"), &text, seen.count);
        }
    }

    /// Whether sessions can connect to it, whatever checks say.
    fn look_at_connects(&mut self, id: ServerId, look: &mut Look<'_>) {
        let running = look.running;
        let failed = server_total(running, id, |s| s.connects_failed.get());
        let sessions = server_total(running, id, |s| s.sessions.get());
        let is_down = running.gauges.server(id).is_down();
        let turn = self.unreachable.observe(is_down, look.now, &mut look.budget);
        let last = std::mem::replace(&mut self.last, (failed, sessions));
        match turn {
            None => {}
            Some(Turn::Begun { unsaid }) => {
                self.before = last;
                let count = failed.saturating_sub(last.0);
                let text = format!(
                    "does not accept connections{}: {} failed; it is skipped while another server \
                     is usable, and tried again by one session a second",
                    again(unsaid),
                    counted(count, "connect")
                );
                say(look, id, (Level::Warning, "server_unreachable"), &text, count);
            }
            Some(Turn::Over { lasted }) => {
                let count = failed.saturating_sub(self.before.0);
                let state =
                    if sessions > self.before.1 { "accepts connections" } else { "is tried" };
                let text = format!(
                    "{state} again after {}; {} failed meanwhile",
                    human(lasted),
                    counted(count, "connect")
                );
                say(look, id, (Level::Info, "server_reachable"), &text, count);
            }
        }
    }

    fn look_at_room(&mut self, id: ServerId, look: &mut Look<'_>) {
        let gauge = look.running.gauges.server(id);
        let max = look.running.snapshot.server(id).max_connections;
        let count = gauge.sessions().into();
        match self.full.observe(gauge.is_full(), look.now, &mut look.budget) {
            None => {}
            Some(Turn::Begun { unsaid }) => {
                let text = format!("reached max_connections = {max}{}", again(unsaid));
                say(look, id, (Level::Warning, "server_full"), &text, count);
            }
            Some(Turn::Over { lasted }) => {
                let lasted = human(lasted);
                let text = format!("is below max_connections = {max} again after {lasted}");
                say(look, id, (Level::Info, "server_below_limit"), &text, count);
            }
        }
    }
}

/// Adds a line about a server.
fn say(
    look: &mut Look<'_>,
    id: ServerId,
    (level, event): (Level, &'static str),
    text: &str,
    count: u64,
) {
    let snapshot = &look.running.snapshot;
    let server = snapshot.server(id);
    let text = format!("server {} {text}", snapshot.full_name(id));
    let notice = Notice::new(level, event, text).backend(&snapshot.backend(server.backend).name);
    look.notices.push(notice.server(&server.name).count(count));
}
