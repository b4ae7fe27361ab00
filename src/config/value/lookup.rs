//! Servers that are given by DNS name: the name, its slots, and the resolver.
//!
//! Not here: reading `resolver` (`read::names`) and resolving (`control::servers::names`). A name
//! has one server in the snapshot per slot; slots start without an address.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::ids::ServerId;

/// Largest number of slots of one name.
pub(in crate::config) const SLOTS_MAX: u32 = 1024;

/// Largest number of slots of all names with more than one slot together.
pub(in crate::config) const SLOTS_ALL_MAX: u32 = 65_536;

/// Default number of slots of a name with SRV records.
pub(in crate::config) const SLOTS_SRV: u32 = 16;

/// Default timeout of a DNS query.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Default time for which the last addresses of a name are kept after it has none.
const HOLD: Duration = Duration::from_secs(30);

/// A DNS name to resolve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Name {
    /// Resolved by A and AAAA records.
    Addresses {
        /// The name.
        name: String,
        /// The port of its servers.
        port: u16,
    },
    /// Resolved by SRV records, and the addresses of the names in them.
    Srv(String),
}

impl Name {
    /// The name to query.
    pub fn asked(&self) -> &str {
        match self {
            Self::Addresses { name, .. } | Self::Srv(name) => name,
        }
    }
}

impl fmt::Display for Name {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses { name, port } => write!(f, "{name}:{port}"),
            Self::Srv(name) => write!(f, "srv:{name}"),
        }
    }
}

/// One entry of `server` that is given by DNS name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lookup {
    /// The name to resolve.
    pub name: Name,
    /// The name of the entry, unique within its backend.
    pub entry: String,
    /// Its first slot; the others follow.
    pub first: ServerId,
    /// Number of slots.
    pub slots: u32,
    /// The weight of each server; with SRV records, that of the heaviest.
    pub weight: u32,
}

/// DNS servers and timeouts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolver {
    /// DNS servers; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Timeout of one query to one server.
    pub timeout: Duration,
    /// How long the last addresses of a name are kept after it has none.
    pub hold: Duration,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: TIMEOUT, hold: HOLD }
    }
}
