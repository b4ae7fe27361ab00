//! The account of a finished session: what the access log is printed from.
//!
//! Fixed size, no strings: a shard fills it once, at the end, and pushes it into a bounded queue.
//! The root package's log thread turns it into text or JSON.

use std::net::SocketAddr;

use crate::close::Close;
use crate::snapshot::{FrontendId, ServerId};

/// One finished session.
#[derive(Clone, Copy, Debug)]
pub struct SessionRecord {
    /// When it was accepted, microseconds since the Unix epoch.
    pub accepted_unix_us: u64,
    /// The client, `None` for one on a unix socket.
    pub client: Option<SocketAddr>,
    /// Generation of the snapshot whose ids these are.
    pub generation: u64,
    /// Where it came in.
    pub frontend: FrontendId,
    /// Who served it; `None` if nobody did.
    pub server: Option<ServerId>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// From accept to the server's answer, microseconds; failed attempts included. 0 without server.
    pub connect_us: u64,
    /// From accept to the end, microseconds.
    pub duration_us: u64,
    /// Connects that failed before one succeeded.
    pub retries: u32,
    /// Why it ended.
    pub close: Close,
    /// The shard that served it.
    pub shard: u32,
}
