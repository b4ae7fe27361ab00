//! The account of a finished session: what the access log is printed from.
//!
//! A shard fills it once, at the end, and pushes it into a bounded queue. Of fixed size but for
//! what the client asked for in its first message, which is bounded and there only where a log
//! wants it. The root package's log thread turns it into text or JSON.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use super::close::Close;
use super::reason::Reason;
use crate::ids::{BackendId, FrontendId, ServerId};
use crate::settings::ClientHints;

/// Servers that a record names as tried in vain; further ones are only counted (`retries`).
pub const TRIED_MAX: usize = 4;

/// The number of a session, for servers and logs to meet by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UniqueId(NonZeroU64);

impl UniqueId {
    /// The number with these bits; 1 for 0.
    pub fn new(bits: u64) -> Self {
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Bytes of a name that a record keeps at most.
pub const NAME_MAX: usize = 255;

/// What a client asked for in its first message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    /// The server name of TLS.
    pub sni: Option<Box<str>>,
    /// The user that logs in.
    pub user: Option<Box<str>>,
    /// The database that it opens.
    pub database: Option<Box<str>>,
}

impl Names {
    /// The names in a first message, cut to [`NAME_MAX`]; nothing if there are none.
    pub fn of(hints: &ClientHints) -> Option<Box<Self>> {
        let name = |name: &Option<String>| {
            let name = name.as_deref().filter(|name| !name.is_empty())?;
            Some(Box::from(&name[..name.floor_char_boundary(NAME_MAX)]))
        };
        let names = Self {
            sni: name(&hints.sni),
            user: name(&hints.user),
            database: name(&hints.database),
        };
        (names != Self::default()).then(|| Box::new(names))
    }
}

/// One finished session.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// When it was accepted, microseconds since the Unix epoch.
    pub accepted_unix_us: u64,
    /// Its number, if a server was told one.
    pub unique_id: Option<UniqueId>,
    /// The client, `None` for one on a unix socket.
    pub client: Option<SocketAddr>,
    /// Generation of the snapshot whose ids these are.
    pub generation: u64,
    /// Where it came in.
    pub frontend: FrontendId,
    /// The backend that its route led to, also where no server was found.
    pub backend: BackendId,
    /// The server that it had at its end; `None` if none.
    pub server: Option<ServerId>,
    /// Servers whose connects failed before, in order.
    pub tried: [Option<ServerId>; TRIED_MAX],
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// From accept to the server's answer, microseconds; failed attempts included. 0 without
    /// server.
    pub connect_us: u64,
    /// Time spent in the backend's queue, microseconds.
    pub queue_us: u64,
    /// From accept to the end, microseconds.
    pub duration_us: u64,
    /// Connects that failed before one succeeded.
    pub retries: u32,
    /// What its client asked for, if that was read and the log wants it.
    pub names: Option<Box<Names>>,
    /// Why it ended.
    pub close: Close,
    /// What lies behind the close code, where that leaves it open.
    pub reason: Option<Reason>,
    /// The shard that served it.
    pub shard: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_absent_where_there_are_none() {
        assert_eq!(Names::of(&ClientHints::default()), None);
        let empty = ClientHints { user: Some(String::new()), ..ClientHints::default() };
        assert_eq!(Names::of(&empty), None);
        let long = ClientHints { user: Some("é".repeat(1000)), ..ClientHints::default() };
        let names = Names::of(&long).unwrap();
        assert_eq!(names.user.unwrap().len(), NAME_MAX - 1, "no half letter");
        assert_eq!((names.sni, names.database), (None, None));
    }
}
