//! What concerns the process as a whole: `[global]`.
//!
//! Not here: logs (`logs`), and limits that depend on the host, which `control` derives.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::logs::{AccessLog, Log};
use crate::config::value::lookup::Resolver;

/// How long a drain waits where nothing is said.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The `[global]` table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Global {
    /// How many shards run.
    pub shards: Shards,
    /// What carries their operations out.
    pub driver: Driver,
    /// Whether each shard is pinned to a core.
    pub pin: bool,
    /// Where the admin interface listens.
    pub admin: Admin,
    /// The user to become once all sockets are bound.
    pub user: Option<String>,
    /// The group to become once all sockets are bound.
    pub group: Option<String>,
    /// Sessions at once in the whole process. `None`: as many as the descriptor limit allows, and
    /// `Snapshot::max_connections` is `u32::MAX` until the supervisor has derived it.
    pub max_connections: Option<u32>,
    /// How long listeners go on accepting while `/healthz` says that the process is about to end.
    pub shutdown_delay: Duration,
    /// How long a drain waits for sessions to end by themselves.
    pub drain_timeout: Duration,
    /// How and where the process itself logs.
    pub log: Log,
    /// Where finished sessions are written to, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Who is asked for the addresses of servers that are given by name.
    pub resolver: Resolver,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            shards: Shards::Auto,
            driver: Driver::Auto,
            pin: true,
            admin: Admin::default(),
            user: None,
            group: None,
            max_connections: None,
            shutdown_delay: Duration::ZERO,
            drain_timeout: DRAIN_TIMEOUT,
            log: Log::default(),
            access_log: None,
            resolver: Resolver::default(),
        }
    }
}

/// How many shards run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Shards {
    /// One per core that this process may use.
    #[default]
    Auto,
    /// This many.
    Count(usize),
}

/// What carries the shards' operations out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Driver {
    /// io_uring where it works, otherwise epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// Where the admin interface listens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Admin {
    /// On a unix socket.
    pub socket: Option<PathBuf>,
    /// On a TCP address.
    pub http: Option<SocketAddr>,
}
