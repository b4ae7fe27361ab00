//! Settings of the admin API: its addresses, and the tokens that TCP clients need.
//!
//! Not here: reading secrets, which happens at start (`control::report::admin::access`).

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Secret;

/// Where the admin API listens, and what its clients may do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Admin {
    /// On a unix socket.
    pub socket: Option<PathBuf>,
    /// Permissions of the socket file.
    pub socket_file: AdminSocketFile,
    /// On a TCP address.
    pub http: Option<SocketAddr>,
    /// What clients of the TCP address present. Without any, it serves `/healthz` only.
    pub tokens: Vec<Token>,
    /// Names, apart from the address itself, that clients may know the TCP address by.
    pub allow_hosts: Vec<String>,
}

/// Permissions of the admin socket's file; nothing: as without the key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AdminSocketFile {
    /// Mode bits.
    pub mode: Option<u32>,
    /// The owner.
    pub owner: Option<String>,
    /// The group.
    pub group: Option<String>,
}

/// A client's proof that it may use the TCP address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// Its name in logs.
    pub name: String,
    /// The token itself.
    pub secret: Secret,
    /// What it allows.
    pub role: TokenRole,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum TokenRole {
    /// Requests that change nothing.
    #[default]
    Read,
    /// Orders, too.
    Write,
}

impl TokenRole {
    /// The word for it in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}
