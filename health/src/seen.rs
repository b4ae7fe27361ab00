//! What a check can find out about a server.

use std::time::Duration;

use ringlane_core::settings::OrderedState;

/// Which member of a replicated database a server is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// Not checked, or the server has none.
    #[default]
    Unknown,
    /// It accepts writes.
    Primary,
    /// It follows a primary.
    Replica,
}

/// The administrative state, set by an operator or by the agent on the server. Ordered: later
/// states accept less.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Admin {
    /// Accepts sessions.
    #[default]
    Ready,
    /// Accepts no new sessions; live ones continue.
    Drain,
    /// Accepts nothing, as if it were absent.
    Maint,
}

impl From<OrderedState> for Admin {
    fn from(state: OrderedState) -> Self {
        match state {
            OrderedState::Ready => Self::Ready,
            OrderedState::Drain => Self::Drain,
            OrderedState::Maint => Self::Maint,
        }
    }
}

/// Replication lag, in the units that the database reports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lag {
    /// Age of the last applied change, zero while everything received is applied; `None` if
    /// unknown.
    pub time: Option<Duration>,
    /// Bytes that are not applied yet.
    pub bytes: Option<u64>,
}

/// How far a replica may be behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LagLimit {
    /// At most this age.
    Time(Duration),
    /// At most this many bytes.
    Bytes(u64),
}

/// The reply of an agent on the server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Advice {
    /// The requested state.
    pub admin: Option<Admin>,
    /// The requested weight, in percent of the configured one.
    pub weight_percent: Option<u8>,
}

/// The result of a check that succeeded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The role of the server, if the check queries it.
    pub role: Option<Role>,
    /// Its lag, if it is a replica that reports one.
    pub lag: Option<Lag>,
    /// The branch of history that it writes or follows (PostgreSQL's timeline).
    pub timeline: Option<u32>,
    /// The reply of an agent.
    pub advice: Option<Advice>,
    /// A phrase for operators, such as how long a certificate lasts.
    pub detail: Option<String>,
}

impl LagLimit {
    /// Whether a lag is within the limit. An unknown lag is not.
    pub fn allows(self, lag: Lag) -> bool {
        match self {
            Self::Time(limit) => lag.time.is_some_and(|time| time <= limit),
            Self::Bytes(limit) => lag.bytes.is_some_and(|bytes| bytes <= limit),
        }
    }
}

impl Role {
    /// The word in log lines and `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl Admin {
    /// The word in orders and `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}
