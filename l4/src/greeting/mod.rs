//! What clients say before a server is chosen, and what tells when their sessions are idle.
//!
//! Plain parsers that are given bytes: no I/O, no clock. A greeting may come in any pieces; a parser
//! is given all that came so far and says whether it is whole ([`Progress`]). Not here: choosing by
//! it (`greet`). Invariants: nothing that a stranger sends makes a parser panic, or keep more than
//! [`GREETING_MAX`] bytes. Next: `client_hello`, then `postgres`, `mysql` and `redis`; `proxy` is what
//! may stand before all of them.

pub mod client_hello;
pub mod mysql;
pub mod postgres;
pub mod proxy;
mod reader;
#[cfg(test)]
mod recorded;
pub mod redis;

use ringlane_core::counters::Reason;
use ringlane_core::settings::Protocol;

/// Bytes of the longest greeting that is waited for; one that is longer is refused.
pub const GREETING_MAX: usize = 16 * 1024;

/// How far a greeting has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress<T> {
    /// It is whole.
    Done(T),
    /// More bytes are needed.
    More,
    /// It is something else.
    Not,
}

/// What follows a session in clear text, so that it can be ended where nobody is hurt.
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

    /// What tells the client that its session ends here, if it can be told now.
    pub fn farewell(&self, why: Reason) -> Option<Vec<u8>> {
        match self {
            // admin_shutdown, as when the server itself is stopped: drivers know to connect anew.
            Self::Postgres(tracker) if tracker.is_between_messages() => {
                Some(postgres::error("57P01", &postgres::farewell(why)))
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
