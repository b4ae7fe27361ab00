//! What must be true of servers with a limit, and of the sessions that wait for them.
//!
//! No server has more connections than it may have; nobody waits while there is room; who came
//! first is served first, on whatever shard; a session is refused only by a full queue, and gives
//! up exactly when its time is over. Next: `verdict`.

use std::time::Duration;

use ringlane_core::counters::{Close, Reason, SessionRecord};
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::shared::Gauges;

use crate::verdict::{SLACK, micros};
use crate::world::{Run, World};

/// A free place is taken within this time: the first of a queue looks by itself after 50 ms.
const SOON: Duration = Duration::from_millis(100);

/// Two that come so close together may come in either order: tickets are in milliseconds.
const TIE_US: u64 = 2000;

/// Since when there has been room for somebody who waits.
#[derive(Debug, Default)]
pub(crate) struct IdleRoom(Option<Duration>);

impl IdleRoom {
    /// When nobody has anything left to do at this instant.
    pub(crate) fn check(
        &mut self,
        world: &World,
        gauges: &Gauges,
        now: Duration,
    ) -> Result<(), String> {
        let Some(queue) = gauges.queue(BackendId(0)) else { return Ok(()) };
        if queue.waiting() > queue.size() {
            return Err(format!("{} sessions wait at once", queue.waiting()));
        }
        let has_room = |(id, server): (u32, &crate::server::Server)| {
            server.weight > 0 && !gauges.server(ServerId(id)).is_full()
        };
        let idle = queue.waiting() > 0 && (0..).zip(&world.servers).any(has_room);
        let since = *self.0.get_or_insert(now);
        if now - since > SOON && world.pause.is_none() {
            return Err(format!("a session waits beside a free place since {since:?}"));
        }
        if !idle {
            self.0 = None;
        }
        Ok(())
    }
}

/// No server has more connections than it may have.
pub(crate) fn check_now(run: &Run) -> Result<(), String> {
    for (index, server) in run.servers.iter().enumerate() {
        let max = server.plan.max_connections;
        if server.connections.len() <= max as usize {
            continue;
        }
        let busy = server.connections.iter().filter(|each| each.is_busy(&run.net)).count();
        if busy > max as usize {
            return Err(format!("server {index} has {busy} connections, {max} are allowed"));
        }
    }
    Ok(())
}

/// Whether its first choice of a server was its last, so that its wait began when it came.
fn is_simple(record: &SessionRecord) -> bool {
    record.retries == 0 && record.tried[0].is_none()
}

/// When a session began to wait, and when it had waited.
fn wait(record: &SessionRecord) -> (u64, u64) {
    (record.accepted_unix_us, record.accepted_unix_us + record.queue_us)
}

/// Nobody who came later gets a place before one who waits.
pub(crate) fn check_order(run: &Run, failures: &mut Vec<String>) {
    if run.world.queue.is_none() {
        return;
    }
    let simple = || run.records.iter().filter(|record| is_simple(record));
    for first in simple().filter(|record| record.queue_us > 0) {
        let (came, left) = wait(first);
        let overtakes = |record: &&SessionRecord| {
            let (later, seated) = wait(record);
            record.server.is_some() && later > came + TIE_US && seated + TIE_US < left
        };
        if let Some(second) = simple().find(overtakes) {
            let (first, second) = (first.client, second.client);
            failures.push(format!("{second:?} overtook {first:?} in the queue"));
        }
    }
}

/// Whether a session waited as long as it may.
pub(crate) fn has_expired(world: &World, record: &SessionRecord) -> bool {
    let timeout = world.queue.map(|queue| queue.timeout.unwrap_or(world.timeout.connect));
    let waited = timeout.is_some_and(|timeout| micros(record.queue_us) >= timeout);
    waited && record.reason == Some(Reason::NoServer)
}

/// Whether the queue was full when a session came.
pub(crate) fn was_full(run: &Run, record: &SessionRecord) -> bool {
    let Some(queue) = run.world.queue else { return false };
    let at = record.accepted_unix_us;
    let waited = |other: &&SessionRecord| {
        let (came, left) = wait(other);
        other.queue_us > 0 && came <= at + TIE_US && left + TIE_US >= at
    };
    let all_simple = run.records.iter().all(is_simple);
    let waiting = run.records.iter().filter(waited).count();
    record.reason == Some(Reason::QueueFull) && (!all_simple || waiting >= queue.size as usize)
}

/// Nobody waits for longer than it may.
pub(crate) fn check_time(world: &World, record: &SessionRecord) -> Result<(), String> {
    let waited = micros(record.queue_us);
    let Some(queue) = world.queue else {
        return if waited.is_zero() { Ok(()) } else { Err("waited without a queue".into()) };
    };
    let most = queue.timeout.unwrap_or(world.timeout.connect) + SLACK;
    if is_simple(record) && waited > most && world.pause.is_none() {
        return Err(format!("waited for {waited:?}, at most {most:?}"));
    }
    if record.close.phase == Close::queue(record.close.cause).phase && record.server.is_some() {
        return Err("ended in the queue with a server".into());
    }
    Ok(())
}
