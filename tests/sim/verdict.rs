//! What must be true of every world when it has ended, whatever happened in it.
//!
//! The world knows both ends of every connection, so it can tell what each session's record must
//! say: bytes exactly as sent, a code that names the side that did it, no session beyond its time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::counters::{Cause, Close, Phase, Reason, SessionRecord};
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::limits::{BUFFER_SIZE, LAST_LOOK, LAST_WORDS};
use ringlane_core::machine::sys::sim::Facts;

use crate::affinity;
use crate::client::{Ending, Visitor};
use crate::first_message;
use crate::mirror;
use crate::orders;
use crate::permits;
use crate::queues;
use crate::server::{Behaviour, Connection, Machine};
use crate::world::{Order, Run};

/// What news may come late by, and timers be rounded by.
pub(crate) const SLACK: Duration = Duration::from_millis(50);

/// A world with fewer places has clients that wait for one.
const FEW: u32 = 1000;

/// Attempts to connect, and the pauses between them, as the relay makes them.
const ATTEMPTS: u32 = 4;
const PAUSES: Duration = Duration::from_secs(4);

/// Everything that is wrong.
pub(crate) fn judge(run: &Run) -> Vec<String> {
    let mut failures = Vec::new();
    let mut records: BTreeMap<SocketAddr, &SessionRecord> = BTreeMap::new();
    for record in &run.records {
        let client = record.client.unwrap_or_else(|| SocketAddr::from(([0; 4], 0)));
        if records.insert(client, record).is_some() {
            failures.push(format!("{client} has two records"));
        }
    }
    check_number(run, &mut failures);
    queues::check_order(run, &mut failures);
    permits::check(run, &mut failures);
    affinity::check(run, &mut failures);
    mirror::check(run, &mut failures);
    check_bandwidth(run, &mut failures);
    for (index, client) in run.clients.iter().enumerate() {
        let Some(socket) = client.socket else { continue };
        let facts = run.net.facts(socket);
        let record = records.get(&facts.own);
        let session = Session { run, client, facts, served_by: served_by(run, client) };
        if let Err(failure) = session.check(record.copied()) {
            failures.push(format!("client {index}: {failure}; {:?} {record:?}", client.plan));
        }
    }
    for (index, server) in run.servers.iter().enumerate() {
        for connection in &server.connections {
            if let Some(at) = connection.reading.wrong_at {
                failures.push(format!("server {index} got a wrong byte at {at}"));
            }
        }
    }
    failures
}

/// Each accepted connection has a record, unless a stop dropped it, or its client left, before it
/// became a session.
fn check_number(run: &Run, failures: &mut Vec<String>) {
    let (records, accepted) = (run.records.len() as u64, run.net.accepted());
    let leavers = run.clients.iter().filter(|client| may_leave_the_gate(run, client)).count();
    let may_miss = if run.ordered { accepted } else { leavers as u64 };
    if records > accepted || records + may_miss < accepted {
        failures.push(format!("{accepted} connections were accepted and {records} recorded"));
    }
}

/// Whether a client may have left while it waited to become a session.
fn may_leave_the_gate(run: &Run, client: &Visitor) -> bool {
    let reset = client.socket.is_some_and(|socket| run.net.facts(socket).sent_reset);
    run.world.max_connections < FEW && (reset || said_nothing(client))
}

/// Whether a client ended its stream without a byte: it leaves whatever its session waits for.
fn said_nothing(client: &Visitor) -> bool {
    client.finished && client.sent == 0
}

/// The server's connection that a client's bytes went to, or that its bytes came from.
fn served_by<'a>(run: &'a Run, client: &Visitor) -> Option<(&'a Machine, &'a Connection)> {
    let from = client.reading.id();
    run.servers.iter().find_map(|server| {
        let is_it = |connection: &&Connection| {
            Some(connection.id) == from || connection.reading.id() == Some(client.id)
        };
        server.connections.iter().find(is_it).map(|connection| (server, connection))
    })
}

/// All sessions of a backend together pass no more than its bandwidth allows in the time from the
/// first to the last of them, a burst, and what came with the last receive of each.
fn check_bandwidth(run: &Run, failures: &mut Vec<String>) {
    let Some(rate) = run.world.backend_rate else { return };
    for backend in [0, 1].map(BackendId) {
        let sessions = || run.records.iter().filter(move |record| record.backend == backend);
        let begin = sessions().map(|record| record.accepted_unix_us).min().unwrap_or(0);
        let end = sessions().map(|record| record.accepted_unix_us + record.duration_us).max();
        let time = micros(end.unwrap_or(begin) - begin).as_secs_f64();
        let ahead = (4 + sessions().count() as u64) * BUFFER_SIZE as u64;
        let most = (time * rate as f64) as u64 + ahead;
        let up: u64 = sessions().map(|record| record.bytes_in).sum();
        let down: u64 = sessions().map(|record| record.bytes_out).sum();
        if up.max(down) > most {
            failures.push(format!("{up} bytes up and {down} down passed, {most} may"));
        }
    }
}

struct Session<'a> {
    run: &'a Run,
    client: &'a Visitor,
    facts: Facts,
    served_by: Option<(&'a Machine, &'a Connection)>,
}

impl Session<'_> {
    fn check(&self, record: Option<&SessionRecord>) -> Result<(), String> {
        self.check_bytes()?;
        let Some(record) = record else { return self.check_unrecorded() };
        self.check_record(record)?;
        self.check_code(record)?;
        self.check_time(record)?;
        self.check_last_words(record)?;
        let server = self.served_by.map(|(machine, _)| machine);
        first_message::check(self.run, self.client, &self.facts, server, record)?;
        orders::check_obeyed(self.run, record, &self.facts)?;
        let waited = matches!(record.close.phase, Phase::Connect | Phase::Queue);
        let left = record.close.cause == Cause::Client && waited && said_nothing(self.client);
        let killed = matches!(record.close.cause, Cause::Killed | Cause::Refused);
        if self.run.world.calm && record.close != Close::NORMAL && !left && !killed {
            return Err(format!("ended as {} in a calm world", record.close));
        }
        Ok(())
    }

    fn check_bytes(&self) -> Result<(), String> {
        let client = self.client;
        if let Some(at) = client.reading.wrong_at {
            return Err(format!("got a wrong byte at {at}"));
        }
        let Some((_, connection)) = self.served_by else { return Ok(()) };
        if connection.reading.id().is_some_and(|id| id != client.id)
            || client.reading.id().is_some_and(|id| id != connection.id)
        {
            return Err("talks to a server that listens to somebody else".into());
        }
        if connection.reading.got > client.sent || client.reading.got > connection.sent {
            return Err("more bytes arrived than were sent".into());
        }
        Ok(())
    }

    fn check_unrecorded(&self) -> Result<(), String> {
        if may_leave_the_gate(self.run, self.client) {
            return Ok(());
        }
        let was_accepted = self.facts.other.is_some_and(|id| self.run.net.facts(id).of_shard);
        if was_accepted && !self.run.ordered {
            return Err("accepted and not recorded".into());
        }
        if self.run.world.calm {
            return Err("not served in a calm world".into());
        }
        Ok(())
    }

    fn check_record(&self, record: &SessionRecord) -> Result<(), String> {
        if record.bytes_in > self.client.sent {
            return Err(format!("{} bytes recorded of {}", record.bytes_in, self.client.sent));
        }
        if record.bytes_out < first_message::served_bytes(self.client) {
            return Err(format!("{} bytes went out unrecorded", self.client.reading.got));
        }
        let (most, bytes) = (self.most_bytes(record), record.bytes_in.max(record.bytes_out));
        if bytes > most {
            return Err(format!("{bytes} bytes passed in one direction, {most} may"));
        }
        let Some((machine, connection)) = self.served_by else { return Ok(()) };
        let is_it =
            |id: ServerId| std::ptr::eq(&raw const self.run.servers[id.0 as usize], machine);
        // One that moved is where another one is.
        let moves = matches!(self.run.world.order, Some((_, Order::Move(..))));
        if !record.server.is_some_and(is_it) && !moves {
            return Err(format!("recorded at {:?}, which did not serve it", record.server));
        }
        // A first message counts when its server has taken all of it.
        let is_part = self.run.world.first.is_some() && record.bytes_in == 0;
        let is_short = record.bytes_in < connection.reading.got && !is_part;
        if record.bytes_out > connection.sent || is_short {
            return Err("the server's bytes are not the recorded ones".into());
        }
        Ok(())
    }

    /// What a session's bandwidth allows in its time, and what it may have beyond that: a burst,
    /// and what came with the last receive.
    fn most_bytes(&self, record: &SessionRecord) -> u64 {
        let time = micros(record.duration_us).as_secs_f64();
        let at_rate = |rate: u64| (time * rate as f64) as u64 + 5 * BUFFER_SIZE as u64;
        self.run.world.rate.map_or(u64::MAX, at_rate)
    }

    /// The code must name somebody who did what it says.
    fn check_code(&self, record: &SessionRecord) -> Result<(), String> {
        let world = &self.run.world;
        let held = match (record.close.cause, record.close.phase) {
            (Cause::Normal, _) => return self.check_complete(record),
            (Cause::Client, Phase::Connect | Phase::Queue) => {
                self.facts.sent_reset || said_nothing(self.client)
            }
            (Cause::Client, _) => self.facts.sent_reset,
            (Cause::Server, Phase::Connect) if record.reason == Some(Reason::NoServer) => {
                world.queue.is_none() && world.is_limited()
            }
            (Cause::Server, Phase::Connect) => world
                .servers
                .iter()
                .any(|server| server.is_mortal() || server.behaviour == Behaviour::Refuses),
            (Cause::ServerTimeout, Phase::Queue) => queues::has_expired(world, record),
            (Cause::Refused, Phase::Queue) => queues::was_full(self.run, record),
            (Cause::Server, _) => self.server_broke(record),
            (Cause::ServerTimeout, Phase::Connect) => world.servers.iter().any(|server| {
                matches!(server.behaviour, Behaviour::Swallows | Behaviour::NeverAccepts)
            }),
            (Cause::ClientTimeout, Phase::Request) => false,
            (Cause::ClientTimeout, _) => micros(record.duration_us) >= world.timeout.client,
            (Cause::ServerTimeout, _) => micros(record.duration_us) >= world.timeout.server,
            (Cause::Resource, _) => world.is_short_of_descriptors(),
            (Cause::Killed, _) => orders::explain(self.run, record),
            (Cause::Refused, Phase::Request) => permits::explain(self.run, record),
            (Cause::Internal | Cause::Refused, _) => false,
        };
        let held = held || first_message::explains(self.run, self.client, &self.facts, record);
        if held { Ok(()) } else { Err(format!("ended as {}, for no reason", record.close)) }
    }

    /// What a side had said before its connection broke was read, and reached the other side if
    /// that was there for it.
    fn check_last_words(&self, record: &SessionRecord) -> Result<(), String> {
        let world = &self.run.world;
        let of_shard = |end: Facts| end.other.map(|id| self.run.net.facts(id));
        let is_plain = world.weather.buffers >= 100 && !self.run.ordered;
        let Some((_, connection)) = self.served_by.filter(|_| is_plain) else { return Ok(()) };
        let client = self.client;
        let is_steady = client.plan.reads_slowly.is_none_or(|(_, pause)| pause < LAST_WORDS);
        let listens = client.plan.ending == Ending::Polite && is_steady;
        let is_late = first_message::is_not_passed_on(world, record);
        if record.close != Close::data(Cause::Server) || !listens || is_late {
            return Ok(());
        }
        let unread = of_shard(self.run.net.facts(connection.socket)).map_or(0, |end| end.unread);
        if unread > 0 {
            return Err(format!("{unread} bytes of its server were not read"));
        }
        if client.reading.got < record.bytes_out {
            let (got, all) = (client.reading.got, record.bytes_out);
            return Err(format!("{got} of {all} bytes before a reset reached it"));
        }
        Ok(())
    }

    fn server_broke(&self, record: &SessionRecord) -> bool {
        let Some(id) = record.server else { return false };
        let server = &self.run.servers[id.0 as usize];
        if server.plan.is_mortal() {
            return true;
        }
        let reset = |connection: &Connection| self.run.net.facts(connection.socket).sent_reset;
        match self.served_by {
            Some((_, connection)) => reset(connection),
            None => server.connections.iter().any(reset),
        }
    }

    /// A normal end: both sides have ended their streams, and have everything.
    fn check_complete(&self, record: &SessionRecord) -> Result<(), String> {
        let client = self.client;
        let Some((_, connection)) = self.served_by else {
            // A stream that is shorter than its number does not tell whose it is; nor does one
            // whose reader went before it read anything.
            let mortal = |id: ServerId| self.run.servers[id.0 as usize].plan.is_mortal();
            let held = record.bytes_in.max(record.bytes_out) < 8
                || client.plan.ending != Ending::Polite
                || record.server.is_some_and(mortal);
            return if held { Ok(()) } else { Err("a normal end with nobody".into()) };
        };
        if connection.killed || client.plan.ending != Ending::Polite || self.facts.sent_reset {
            return Ok(());
        }
        if !client.finished || !connection.finished {
            return Err("a normal end before both sides had ended".into());
        }
        let (up, down) = (connection.reading.got, client.reading.got);
        if (up, down) != (client.sent, connection.sent) || !client.ended || !connection.at_end {
            return Err(format!(
                "a normal end with {up} of {} bytes up and {down} of {} down",
                client.sent, connection.sent
            ));
        }
        Ok(())
    }

    /// No session outlives its timeouts.
    fn check_time(&self, record: &SessionRecord) -> Result<(), String> {
        let timeout = self.run.world.timeout;
        let duration = micros(record.duration_us);
        queues::check_time(&self.run.world, record)?;
        first_message::check_time(&self.run.world, record)?;
        if matches!(record.close.phase, Phase::Connect | Phase::Queue) {
            let waited = micros(record.queue_us);
            let attempt = timeout.connect + self.run.world.race_after.unwrap_or_default();
            let first = first_message::time(&self.run.world);
            let most = attempt * ATTEMPTS + PAUSES + waited + first + SLACK;
            if duration > most {
                return Err(format!("tried to connect for {duration:?}, at most {most:?}"));
            }
        }
        if record.connect_us == 0 {
            return Ok(());
        }
        // While relaying, neither side may have been still for longer than its timeout.
        let accepted = self.facts.other.map(|id| self.run.net.facts(id));
        let Some(accepted) = accepted else { return Ok(()) };
        let Some(closed) = accepted.closed else { return Err("not closed".into()) };
        let relaying_since = closed.saturating_sub(duration) + micros(record.connect_us);
        let still = closed.saturating_sub(accepted.moved.max(relaying_since));
        // A send that begins counts as a sign of life once, before its bytes are taken.
        let most = (timeout.client.max(timeout.server) + LAST_LOOK) * 2;
        // What a side had sent before its connection broke is passed on, until an order ends that.
        let was_ordered = record.close.cause == Cause::Killed;
        let most = if has_last_words(record) || was_ordered { most.max(LAST_WORDS) } else { most };
        if still > most + SLACK {
            return Err(format!("its client was still for {still:?}"));
        }
        Ok(())
    }
}

/// Whether a session ended by a broken connection: the other side had time to take what had come.
pub(crate) fn has_last_words(record: &SessionRecord) -> bool {
    record.close.phase == Phase::Data && matches!(record.close.cause, Cause::Client | Cause::Server)
}

pub(crate) fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}
