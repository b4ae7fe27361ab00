//! Whether sessions are idle: outside a transaction, with no answer outstanding.
//!
//! Plain machines that get the bytes of both sides, in any pieces: no I/O, no clock. Invariant:
//! nothing that a peer sends makes one panic, or keep more than a few bytes. Next: `postgres`,
//! `mysql`, `redis`.

pub mod mysql;
pub mod postgres;
#[cfg(test)]
mod recorded;
pub mod redis;

use ringlane_core::counters::Reason;
use ringlane_core::settings::Protocol;

use crate::first_message;
use crate::first_message::postgres::farewell;

/// Follows a session in clear text, so that it can be ended between transactions.
#[derive(Debug)]
pub enum Tracker {
    /// PostgreSQL.
    Postgres(postgres::Tracker),
    /// MySQL and MariaDB.
    Mysql(mysql::Tracker),
    /// Redis.
    Redis(redis::Tracker),
}

impl Tracker {
    /// Follows a session from its first byte, where that is possible.
    pub fn new(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Mysql => Some(Self::Mysql(mysql::Tracker::default())),
            Protocol::Redis => Some(Self::Redis(redis::Tracker::default())),
            // PostgreSQL's begins behind the greeting, if that leads to a session in clear text.
            Protocol::Any | Protocol::Tls | Protocol::Postgres => None,
        }
    }

    /// The message that ends the session in its protocol, if one fits in here.
    pub fn farewell(&self, why: Reason) -> Option<Vec<u8>> {
        match self {
            // admin_shutdown, as when the server itself is stopped: drivers know to connect anew.
            Self::Postgres(tracker) if tracker.is_between_messages() => {
                Some(first_message::postgres::error("57P01", &farewell(why)))
            }
            _ => None,
        }
    }

    /// Bytes of the client, which will reach the server. Those of one direction come in order, in
    /// any pieces, and before any answer to them.
    pub fn client(&mut self, bytes: &[u8]) {
        match self {
            Self::Postgres(tracker) => tracker.client(bytes),
            Self::Mysql(tracker) => tracker.client(bytes),
            Self::Redis(tracker) => tracker.client(bytes),
        }
    }

    /// Bytes of the server.
    pub fn server(&mut self, bytes: &[u8]) {
        match self {
            Self::Postgres(tracker) => tracker.server(bytes),
            Self::Mysql(tracker) => tracker.server(bytes),
            Self::Redis(tracker) => tracker.server(bytes),
        }
    }

    /// Whether the session is outside a transaction, and nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Postgres(tracker) => tracker.is_idle(),
            Self::Mysql(tracker) => tracker.is_idle(),
            Self::Redis(tracker) => tracker.is_idle(),
        }
    }

    /// Whether the session can't be followed any more, and only silence tells that it is idle.
    pub fn is_opaque(&self) -> bool {
        match self {
            // Is only given sessions in clear text.
            Self::Postgres(_) => false,
            Self::Mysql(tracker) => tracker.is_opaque(),
            Self::Redis(tracker) => tracker.is_opaque(),
        }
    }
}
