//! Settings of the process as a whole: `[global]`.
//!
//! Not here: logs (`logs`), and limits that depend on the host, which `control` derives.

use std::time::Duration;

use super::admin::Admin;
use super::logs::{AccessLog, Log};
use crate::config::value::lookup::Resolver;

/// Default of `drain_timeout`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of the process as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Global {
    /// Number of shards.
    pub shards: ShardCount,
    /// The driver of the shards.
    pub driver: Driver,
    /// Whether each shard is pinned to a core.
    pub pin: bool,
    /// Where the admin interface listens.
    pub admin: Admin,
    /// The user to switch to once all sockets are bound.
    pub user: Option<String>,
    /// The group to switch to once all sockets are bound.
    pub group: Option<String>,
    /// Limit on concurrent sessions. `None`: as many as the descriptor limit allows, and
    /// `Snapshot::max_connections` is `u32::MAX` until the supervisor has derived it.
    pub max_connections: Option<u32>,
    /// How long listeners keep accepting while `/healthz` reports the coming shutdown.
    pub shutdown_delay: Duration,
    /// How long a shutdown waits for sessions to end.
    pub drain_timeout: Duration,
    /// The process log.
    pub log: Log,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// DNS servers and timeouts for servers that are given by name.
    pub resolver: Resolver,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            shards: ShardCount::Auto,
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

/// Number of shards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ShardCount {
    /// One per core that this process may use.
    #[default]
    Auto,
    /// A fixed number.
    Count(usize),
}

/// What performs the I/O of the shards.
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
