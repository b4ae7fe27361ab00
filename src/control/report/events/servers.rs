//! Servers from the view of sessions: connects that fail, limits reached, sessions ended.
//!
//! Not here: results of checks, which are logged where they are judged (`control::servers`).

use std::time::{Duration, Instant};

use ringlane_core::counters::{Ending, Reason};
use ringlane_core::ids::{FrontendId, ServerId};

use super::Look;
use super::frontends::again;
use super::pacing::{Episode, Tally, Turn, counted, human};
use crate::control::log::{Level, Notice};
use crate::control::traffic::totals::shut_down;

/// How long a server must be below its limit again before that is reported.
const CALM: Duration = Duration::from_secs(3);

/// What is remembered of a server.
#[derive(Debug)]
pub(super) struct ServerEvents {
    unreachable: Episode,
    /// Counts before that began.
    before: Connects,
    /// Counts at the last look.
    last: Connects,
    full: Episode,
    impossible: Tally,
    ended: Tally,
    /// Ended sessions that have been reported, by how and why.
    ended_before: [[u64; Reason::ENDINGS]; 2],
}

/// Connects to a server that failed, and sessions that it got.
#[derive(Clone, Copy, Debug, Default)]
struct Connects {
    failed: u64,
    sessions: u64,
}

impl ServerEvents {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            unreachable: Episode::over_after(Duration::ZERO),
            before: Connects::default(),
            last: Connects::default(),
            full: Episode::over_after(CALM),
            impossible: Tally::new(now),
            ended: Tally::new(now),
            ended_before: Default::default(),
        }
    }

    pub(super) fn look(&mut self, id: u32, look: &mut Look<'_>) {
        let id = ServerId(id);
        self.look_at_connects(id, look);
        self.look_at_room(id, look);
        self.look_at_ended(id, look);
        let impossible = look.traffic.server_total(id, |s| s.connects_impossible.get());
        if let Some(seen) = self.impossible.observe(impossible, look.now, &mut look.budget) {
            let text = format!(
                ": {} in {} failed on this machine: out of local ports, descriptors or memory, no \
                 route (`ringlane tune` shows what to raise), or the kernel refuses `source` or \
                 `tcp` of the backend",
                counted(seen.count, "connect"),
                human(seen.within)
            );
            push(look, id, Level::Error, "connects_impossible", &text, seen.count);
        }
    }

    /// Reports whether sessions can connect to it, independently of checks.
    fn look_at_connects(&mut self, id: ServerId, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let now = Connects {
            failed: traffic.server_total(id, |s| s.connects_failed.get()),
            sessions: traffic.server_total(id, |s| s.sessions.get()),
        };
        let is_down = traffic.gauges.server(id).is_down();
        let turn = self.unreachable.observe(is_down, look.now, &mut look.budget);
        let last = std::mem::replace(&mut self.last, now);
        match turn {
            None => {}
            Some(Turn::Begun { unreported }) => {
                self.before = last;
                let count = now.failed.saturating_sub(last.failed);
                let text = format!(
                    " does not accept connections{}: {} failed; skipped while another server is \
                     usable, and retried by one session per second",
                    again(unreported),
                    counted(count, "connect")
                );
                push(look, id, Level::Warning, "server_unreachable", &text, count);
            }
            Some(Turn::Over { lasted }) => {
                let count = now.failed.saturating_sub(self.before.failed);
                let accepts = now.sessions > self.before.sessions;
                let state = if accepts { "accepts connections" } else { "is retried" };
                let text = format!(
                    " {state} again after {}; {} failed meanwhile",
                    human(lasted),
                    counted(count, "connect")
                );
                push(look, id, Level::Info, "server_reachable", &text, count);
            }
        }
    }

    fn look_at_room(&mut self, id: ServerId, look: &mut Look<'_>) {
        let gauge = look.traffic.gauges.server(id);
        let max = look.traffic.snapshot.server(id).max_connections;
        match self.full.observe(gauge.is_full(), look.now, &mut look.budget) {
            None => {}
            Some(Turn::Begun { unreported }) => {
                let text = format!(" reached max_connections = {max}{}", again(unreported));
                push(look, id, Level::Warning, "server_full", &text, None);
            }
            Some(Turn::Over { lasted }) => {
                let lasted = human(lasted);
                let text = format!(" is below max_connections = {max} again after {lasted}");
                push(look, id, Level::Info, "server_below_limit", &text, None);
            }
        }
    }
}

/// How sessions are ended, for log lines.
const HOW: [(Ending, &str); 2] = [(Ending::Fence, "fenced"), (Ending::Drain, "drained")];

impl ServerEvents {
    /// Sessions that were ended because of what became of the server; those that a stop ends are in
    /// the line about the stop.
    fn look_at_ended(&mut self, id: ServerId, look: &mut Look<'_>) {
        let traffic = look.traffic;
        let total = traffic.server_total(id, shut_down);
        let Some(seen) = self.ended.observe(total, look.now, &mut look.budget) else { return };
        let (mut parts, mut level) = (Vec::new(), Level::Info);
        for ((how, verb), before) in HOW.into_iter().zip(&mut self.ended_before) {
            let reasons = Reason::ALL.into_iter().zip(before);
            for (why, before) in reasons.filter(|(why, _)| *why != Reason::Stopped) {
                let shards = traffic.counters.iter();
                let now = shards.map(|shard| shard.server(id).ended.get(how, why)).sum();
                let count = u64::saturating_sub(now, std::mem::replace(before, now));
                if count > 0 {
                    parts.push(format!("{count} {verb} because {}", because(why)));
                    level = if why.is_order() { level } else { Level::Warning };
                }
            }
        }
        let sessions = counted(seen.count, "session");
        let text = format!(": {sessions} ended in {}: {}", human(seen.within), parts.join(", "));
        push(look, id, level, "sessions_ended", &text, seen.count);
    }
}

/// What became of the server.
fn because(why: Reason) -> &'static str {
    match why {
        Reason::Drained => "an operator drained the server",
        Reason::Maintenance => "an operator put the server into maintenance",
        Reason::Down => "the server is down",
        Reason::Demoted => "the server is no longer the primary",
        Reason::Promoted => "the server is no longer a replica",
        Reason::Conflict => "several servers claim to be primary",
        Reason::Lag => "the replica is too far behind",
        other => other.word(),
    }
}

/// Servers that the last line names.
const CUT_NAMED: usize = 5;

/// The line about sessions that were cut at the end of the process, if there were any.
pub(super) fn cut(look: &mut Look<'_>, why: &str) {
    let traffic = look.traffic;
    let frontends = (0..traffic.snapshot.frontends.len() as u32).map(FrontendId);
    let total: u64 = frontends.map(|id| traffic.frontend_total(id, |f| f.cut.get())).sum();
    if total == 0 {
        return;
    }
    let ids = (0..traffic.snapshot.servers.len() as u32).map(ServerId);
    let cut = ids.map(|id| (traffic.server_total(id, |s| s.cut.get()), id));
    let mut cut: Vec<(u64, ServerId)> = cut.filter(|(count, _)| *count > 0).collect();
    cut.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let mut parts: Vec<String> = cut
        .iter()
        .take(CUT_NAMED)
        .map(|(count, id)| format!("{count} on server {}", traffic.snapshot.full_name(*id)))
        .collect();
    let others: u64 = cut.iter().skip(CUT_NAMED).map(|(count, _)| count).sum();
    if others > 0 {
        let servers = counted((cut.len() - CUT_NAMED) as u64, "other server");
        parts.push(format!("{others} on {servers}"));
    }
    let without = total.saturating_sub(cut.iter().map(|(count, _)| count).sum());
    if without > 0 {
        let is_first = traffic.snapshot.generation == 1;
        let elsewhere = if is_first { "" } else { ", or on one that is no longer configured" };
        parts.push(format!("{without} not yet connected to a server{elsewhere}"));
    }
    let text = format!("{} cut {why}: {}", counted(total, "session"), parts.join(", "));
    look.notices.push(Notice::new(Level::Warning, "sessions_cut", text).count(total));
}

/// Adds a line about a server; the text directly follows its name.
fn push(
    look: &mut Look<'_>,
    id: ServerId,
    level: Level,
    event: &'static str,
    text: &str,
    count: impl Into<Option<u64>>,
) {
    let snapshot = &look.traffic.snapshot;
    let server = snapshot.server(id);
    let text = format!("server {}{text}", snapshot.full_name(id));
    let notice = Notice::new(level, event, text).backend(&snapshot.backend(server.backend).name);
    look.notices.push(Notice { count: count.into(), ..notice.server(&server.name) });
}
