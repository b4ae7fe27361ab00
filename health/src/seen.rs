//! What a check can see of a server.

use std::time::Duration;

/// Which member of a replicated database a server is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// Nobody has asked, or it has none.
    #[default]
    Unknown,
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
}

/// What an operator, or the server itself, wants it to do. The later ones take less.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Admin {
    /// Take sessions.
    #[default]
    Ready,
    /// Take no new sessions; those that live go on.
    Drain,
    /// Take nothing, as if it were not there.
    Maint,
}

/// How far a replica is behind its primary, in what its database can say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lag {
    /// Age of the last change that it has applied; nothing while it has applied all there is.
    pub time: Option<Duration>,
    /// Bytes that it has yet to apply.
    pub bytes: Option<u64>,
}

/// How far a replica may be behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LagLimit {
    /// So long.
    Time(Duration),
    /// So many bytes.
    Bytes(u64),
}

/// What an agent on the server asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Advice {
    /// The state that it wants.
    pub admin: Option<Admin>,
    /// Its weight, as a share of the configured one.
    pub weight_percent: Option<u8>,
}

/// What a check that succeeded saw.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Its role, if the check asked.
    pub role: Option<Role>,
    /// How far it is behind, if it is a replica that says so.
    pub lag: Option<Lag>,
    /// The branch of its database's history that it writes or follows (PostgreSQL's timeline).
    pub timeline: Option<u32>,
    /// What an agent asks for.
    pub advice: Option<Advice>,
    /// A phrase for operators, such as how long a certificate lasts.
    pub detail: Option<String>,
}

impl LagLimit {
    /// Whether a lag is within it. What is not known is too much.
    pub fn allows(self, lag: Lag) -> bool {
        match self {
            Self::Time(limit) => lag.time.is_some_and(|time| time <= limit),
            Self::Bytes(limit) => lag.bytes.is_some_and(|bytes| bytes <= limit),
        }
    }
}

impl Role {
    /// The word for people and for `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl Admin {
    /// The word of orders and of `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}
