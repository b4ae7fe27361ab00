//! Backends that have no usable server, and sessions that get none: queues, affinity, mirrors.

use std::time::{Duration, Instant};

use ringlane_core::ids::BackendId;
use ringlane_core::settings::{RoleWanted, Snapshot};

use super::Look;
use super::frontends::again;
use super::pacing::{Episode, Tally, Turn, Waits, counted, human};
use crate::control::log::{Level, Notice};

/// How long a queue must be empty before its end is reported.
const CALM: Duration = Duration::from_secs(3);

/// What is remembered of a backend.
#[derive(Debug)]
pub(super) struct BackendEvents {
    /// Roles that frontends and routes want of it.
    wanted: Vec<Role>,
    unserved: Tally,
    /// Sessions that ended unserved, at the last look.
    unserved_last: u64,
    /// Sessions that got no server, at the last look.
    refused_before: u64,
    queue: Waits,
    queue_full: Tally,
    queue_expired: Tally,
    forgotten: Tally,
    mirror_failed: Tally,
}

/// Sessions that got no server of a backend.
#[derive(Clone, Copy, Debug)]
struct Refused {
    total: u64,
    /// There are more of them than at the last look.
    is_growing: bool,
}

/// One role that sessions want of a backend.
#[derive(Debug)]
struct Role {
    role: RoleWanted,
    without: Episode,
    /// There was none at the last look.
    had_none: bool,
    /// Sessions without a server when that began.
    unserved: u64,
}

/// What is remembered of all backends.
pub(super) fn all(snapshot: &Snapshot, now: Instant) -> Vec<BackendEvents> {
    let tally = || Tally::new(now);
    let backend = |_| BackendEvents {
        wanted: Vec::new(),
        unserved: tally(),
        unserved_last: 0,
        refused_before: 0,
        queue: Waits::over_after(CALM),
        queue_full: tally(),
        queue_expired: tally(),
        forgotten: tally(),
        mirror_failed: tally(),
    };
    let mut backends: Vec<BackendEvents> = snapshot.backends.iter().map(backend).collect();
    for frontend in &snapshot.frontends {
        let routes = frontend.routes.iter().map(|route| (route.backend, route.role));
        for (id, role) in routes.chain([(frontend.backend, frontend.role)]) {
            let Some(backend) = backends.get_mut(id.0 as usize) else { continue };
            if !backend.wanted.iter().any(|wanted| wanted.role == role) {
                let without = Episode::over_after(Duration::ZERO);
                backend.wanted.push(Role { role, without, had_none: false, unserved: 0 });
            }
        }
    }
    backends
}

impl BackendEvents {
    /// What is remembered of the same backend in a newer configuration, in which sessions may want
    /// other roles.
    pub(super) fn follow(self, mut older: Self) -> Self {
        let kept = |role: Role| {
            let before = older.wanted.iter().position(|before| before.role == role.role);
            before.map_or(role, |at| older.wanted.swap_remove(at))
        };
        let wanted = self.wanted.into_iter().map(kept).collect();
        Self { wanted, ..older }
    }
}

/// Servers of a backend by what sessions of one role can do with them.
#[derive(Clone, Copy, Debug, Default)]
struct ServerCounts {
    usable: usize,
    /// Closed to sessions by checks, an order or their role.
    closed: usize,
    /// Open, but their last connect failed.
    unreachable: usize,
}

fn servers(look: &Look<'_>, id: BackendId, role: RoleWanted) -> ServerCounts {
    look.traffic.snapshot.ids_of(id).fold(ServerCounts::default(), |mut servers, id| {
        let gauge = look.traffic.gauges.server(id);
        let orders = gauge.eligibility();
        let count = match (orders.is_open_for(role) && orders.weight() > 0, gauge.is_down()) {
            (false, _) => &mut servers.closed,
            (true, true) => &mut servers.unreachable,
            (true, false) => &mut servers.usable,
        };
        *count += 1;
        servers
    })
}

impl BackendEvents {
    pub(super) fn look(&mut self, id: u32, look: &mut Look<'_>) {
        let id = BackendId(id);
        let unserved = look.traffic.backend_total(id, |backend| backend.unserved.get());
        let expired = look.traffic.queue_total(id, |queue| queue.expired.get());
        let refused = unserved + expired + look.traffic.queue_total(id, |q| q.refused.get());
        let before = std::mem::replace(&mut self.refused_before, refused);
        let refused = Refused { total: refused, is_growing: refused > before };
        for role in &mut self.wanted {
            role.look(id, refused, look);
        }
        // A late line must not read like a new outage.
        let is_over = unserved == std::mem::replace(&mut self.unserved_last, unserved);
        if let Some(seen) = self.unserved.observe(unserved, look.now, &mut look.budget) {
            let over = if is_over { "; none in the last second" } else { "" };
            let text = format!(
                "{} in {} failed because no server was open, had room and accepted the \
                 connection{over}",
                counted(seen.count, "session"),
                human(seen.within)
            );
            push(look, id, Level::Warning, "sessions_without_server", &text, seen.count);
        }
        self.look_at_queue(id, expired, look);
        let forgotten = look.traffic.affinity_total(id, |affinity| affinity.evictions.get());
        if let Some(seen) = self.forgotten.observe(forgotten, look.now, &mut look.budget) {
            let text = format!(
                "affinity table full: {} forgotten early in {}; raise affinity.size",
                counted(seen.count, "client"),
                human(seen.within)
            );
            push(look, id, Level::Warning, "affinity_full", &text, seen.count);
        }
        let failed = look.traffic.backend_total(id, |backend| backend.mirror_failed.get());
        if let Some(seen) = self.mirror_failed.observe(failed, look.now, &mut look.budget) {
            let text = format!(
                "mirror did not receive {} completely in {}; traffic is not affected",
                counted(seen.count, "session"),
                human(seen.within)
            );
            push(look, id, Level::Warning, "mirror_failed", &text, seen.count);
        }
    }

    fn look_at_queue(&mut self, id: BackendId, expired: u64, look: &mut Look<'_>) {
        let Some(queue) = look.traffic.gauges.queue(id) else { return };
        let (waiting, size) = (queue.waiting() > 0, queue.size());
        let waited = look.traffic.queue_total(id, |queue| queue.waited.get());
        match self.queue.observe(waiting, waited, look.now, &mut look.budget) {
            None => {}
            Some((Turn::Begun { unreported }, count)) => {
                let text = format!(
                    "sessions wait in the queue for a server{} (size = {size}; {count} so far)",
                    again(unreported)
                );
                push(look, id, Level::Warning, "queue_used", &text, count);
            }
            Some((Turn::Over { lasted }, count)) => {
                let text = format!(
                    "the queue is empty again after {}; {} had to wait",
                    human(lasted),
                    counted(count, "session")
                );
                push(look, id, Level::Info, "queue_empty", &text, count);
            }
        }
        let refused = look.traffic.queue_total(id, |queue| queue.refused.get());
        if let Some(seen) = self.queue_full.observe(refused, look.now, &mut look.budget) {
            let text = format!(
                "queue full (size = {size}): {} refused in {}",
                counted(seen.count, "session"),
                human(seen.within)
            );
            push(look, id, Level::Warning, "queue_full", &text, seen.count);
        }
        if let Some(seen) = self.queue_expired.observe(expired, look.now, &mut look.budget) {
            let text = format!(
                "{} in {} timed out in the queue",
                counted(seen.count, "session"),
                human(seen.within)
            );
            push(look, id, Level::Warning, "queue_expired", &text, seen.count);
        }
    }
}

impl Role {
    fn look(&mut self, id: BackendId, refused: Refused, look: &mut Look<'_>) {
        let servers = servers(look, id, self.role);
        let has_none = servers.usable == 0;
        // A moment between two checks, or between two roles, is no news unless it cost a session.
        let is_on = has_none && (self.had_none || refused.is_growing);
        self.had_none = has_none;
        let Some(turn) = self.without.observe(is_on, look.now, &mut look.budget) else { return };
        let what = match self.role {
            RoleWanted::Any => "server",
            RoleWanted::Primary => "primary",
            RoleWanted::Replica => "replica",
            RoleWanted::ReplicaOrPrimary => "replica or primary",
        };
        match turn {
            Turn::Begun { unreported } => {
                self.unserved = refused.total;
                let text = format!(
                    "no usable {what}{}: of {}, {} down, drained or in another role and {} not \
                     accepting connections; new sessions wait in the queue or are refused",
                    again(unreported),
                    counted((servers.closed + servers.unreachable) as u64, "server"),
                    servers.closed,
                    servers.unreachable,
                );
                let count = (servers.closed + servers.unreachable) as u64;
                push(look, id, Level::Error, "backend_without_server", &text, count);
            }
            Turn::Over { lasted } => {
                let count = refused.total.saturating_sub(self.unserved);
                let text = format!(
                    "usable {what} again after {}; {} refused meanwhile",
                    human(lasted),
                    counted(count, "session")
                );
                push(look, id, Level::Info, "backend_with_server", &text, count);
            }
        }
    }
}

/// Adds a line about a backend.
fn push(
    look: &mut Look<'_>,
    id: BackendId,
    level: Level,
    event: &'static str,
    text: &str,
    count: u64,
) {
    let name = &look.traffic.snapshot.backend(id).name;
    let notice = Notice::new(level, event, format!("backend {name}: {text}"));
    look.notices.push(notice.backend(name).count(count));
}
