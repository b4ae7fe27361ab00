//! What must be true of the copies that a second server gets of what clients send.
//!
//! A copy begins as its session's bytes do and has no hole, and it ends well only with all of them;
//! any other one is reset. Whatever the second server does, no session notices. Next: `verdict`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::counters::SessionRecord;
use ringlane_core::machine::Address;
use ringlane_core::settings::Mirror;

use crate::server::{Behaviour, Connection, Server};
use crate::world::{Run, World};

/// The second server among those who are woken.
pub(crate) const ACTOR: u32 = u32::MAX - 1;

/// Where it is.
pub(crate) const ADDRESS: ([u8; 4], u16) = ([10, 3, 0, 1], 6000);

/// How long a copy may outlive its session, once it is connected.
const LINGER: Duration = Duration::from_secs(6);

/// A second server, and how many sessions of a million it gets.
#[derive(Clone, Debug)]
pub(crate) struct Mirrored {
    pub(crate) server: Server,
    pub(crate) per_million: u32,
}

impl Mirrored {
    pub(crate) fn settings(&self) -> Mirror {
        let server = Address::Inet(SocketAddr::from(ADDRESS));
        Mirror { server, per_million: self.per_million }
    }

    /// Whether the server ends its stream when it likes.
    fn ends_first(&self) -> bool {
        matches!(self.server.behaviour, Behaviour::Pours(_))
    }
}

/// How long after the last session its copy may last.
pub(crate) fn time(world: &World) -> Duration {
    world.mirror.as_ref().map_or(Duration::ZERO, |_| world.timeout.connect + LINGER)
}

/// Every copy is one of a session, from its first byte on.
pub(crate) fn check(run: &Run, failures: &mut Vec<String>) {
    let Some(machine) = &run.mirror else { return };
    let mut copied = BTreeSet::new();
    for connection in &machine.connections {
        if let Err(failure) = check_copy(run, connection) {
            failures.push(format!("a copy {failure}"));
        }
        if connection.reading.id().is_some_and(|id| !copied.insert(id)) {
            failures.push("a session is copied twice".into());
        }
    }
    let begun = run.records.iter().filter(|record| was_served(record)).count();
    let (copies, world) = (machine.connections.len(), &run.world);
    let Some(Mirrored { server, per_million }) = &world.mirror else { return };
    let is_there = !matches!(
        server.behaviour,
        Behaviour::Refuses | Behaviour::Swallows | Behaviour::NeverAccepts
    );
    if world.calm && is_there && *per_million == 1_000_000 && copies != begun {
        failures.push(format!("{copies} of {begun} sessions were copied"));
    }
}

/// Whether a session was relayed.
fn was_served(record: &SessionRecord) -> bool {
    record.server.is_some() && record.connect_us > 0
}

fn check_copy(run: &Run, connection: &Connection) -> Result<(), String> {
    let reading = &connection.reading;
    if let Some(at) = reading.wrong_at {
        return Err(format!("has a wrong byte at {at}"));
    }
    let Some(id) = reading.id() else { return Ok(()) };
    let Some(client) = run.clients.iter().find(|client| client.id == id) else {
        return Err("is one of nobody".into());
    };
    let own = client.socket.map(|socket| run.net.facts(socket).own);
    let record = run.records.iter().find(|record| record.client == own);
    let passed = record.map_or(client.sent, |record| record.bytes_in);
    // A stop cuts copies where they stand, and one whose server ends first is not completed.
    let ends_first = matches!(run.world.mirror.as_ref(), Some(mirrored) if mirrored.ends_first());
    if connection.at_end && !run.ordered && !ends_first && reading.got != passed {
        return Err(format!("ends well with {} of {passed} bytes", reading.got));
    }
    if reading.got > client.sent {
        return Err(format!("has {} bytes of {}", reading.got, client.sent));
    }
    Ok(())
}
