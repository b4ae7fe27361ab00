//! Servers that are given by DNS name: the name, its slots, and the resolver that is used.
//!
//! Not here: reading `resolver` (`read::names`) and resolving (`control::names`). A name stands for
//! as many servers of the snapshot as it has slots, which begin without an address.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::ids::ServerId;

/// Servers that one name may stand for.
pub(in crate::config) const SLOTS_MAX: u32 = 1024;

/// Servers that all names of a file may stand for, where they stand for several.
pub(in crate::config) const SLOTS_ALL_MAX: u32 = 65_536;

/// Servers that a name with SRV records stands for where nothing is said.
pub(in crate::config) const SLOTS_SRV: u32 = 16;

/// How long a resolver may take for one answer where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last addresses of a name that has none any more are kept where nothing is said.
const HOLD: Duration = Duration::from_secs(30);

/// A name that addresses are asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Name {
    /// Its A and AAAA records.
    Addresses {
        /// The name.
        name: String,
        /// Where its servers listen.
        port: u16,
    },
    /// Its SRV records, and the addresses of what they name.
    Srv(String),
}

impl Name {
    /// The name itself.
    pub fn asked(&self) -> &str {
        match self {
            Self::Addresses { name, .. } | Self::Srv(name) => name,
        }
    }
}

impl fmt::Display for Name {
    /// As in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses { name, port } => write!(f, "{name}:{port}"),
            Self::Srv(name) => write!(f, "srv:{name}"),
        }
    }
}

/// One entry of `server` that is given by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lookup {
    /// What is asked for.
    pub name: Name,
    /// The name of the entry, which no other entry of its backend has.
    pub entry: String,
    /// Its first slot; the others follow.
    pub first: ServerId,
    /// How many servers it stands for.
    pub slots: u32,
    /// The weight of a server, with SRV records of the heaviest.
    pub weight: u32,
}

/// Who is asked for addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolver {
    /// DNS servers; none: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long one of them may take for one answer.
    pub timeout: Duration,
    /// How long the last addresses of a name that has none any more are kept.
    pub hold: Duration,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: TIMEOUT, hold: HOLD }
    }
}
