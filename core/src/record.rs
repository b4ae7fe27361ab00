//! The account of a finished session: what the access log is printed from.
//!
//! Fixed size, no strings: a shard fills it once, at the end, and pushes it into a bounded queue.
//! The root package's log thread turns it into text or JSON.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use crate::close::Close;
use crate::reason::Reason;
use crate::snapshot::{BackendId, FrontendId, ServerId};

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

/// One finished session.
#[derive(Clone, Copy, Debug)]
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
    /// From accept to the server's answer, microseconds; failed attempts included. 0 without server.
    pub connect_us: u64,
    /// Time spent in the backend's queue, microseconds.
    pub queue_us: u64,
    /// From accept to the end, microseconds.
    pub duration_us: u64,
    /// Connects that failed before one succeeded.
    pub retries: u32,
    /// Why it ended.
    pub close: Close,
    /// What lies behind the close code, where that leaves it open.
    pub reason: Option<Reason>,
    /// The shard that served it.
    pub shard: u32,
}
