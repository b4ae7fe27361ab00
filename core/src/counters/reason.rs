//! What lies behind a close code: one word where two letters cover several causes.
//!
//! `KD` alone does not tell a drain from a failover, nor `PR` a limit from a malformed greeting.
//! Not here: the codes themselves (`close`). Invariant: a session has at most one reason, and most
//! have none, because their code says it all.

use std::fmt;

/// How sessions are ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ending {
    /// When they are idle, a few at a time.
    Drain,
    /// At once.
    Fence,
}

/// Why a session was ended or refused, where its close code leaves that open.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// An operator drained its server.
    Drained,
    /// An operator put its server into maintenance.
    Maintenance,
    /// The process stopped, or `drain_timeout` was over.
    Stopped,
    /// Its server went down.
    Down,
    /// Its server is no longer the primary, or another one is.
    Demoted,
    /// Its server is no longer a replica.
    Promoted,
    /// More than one server claimed to be the primary.
    Conflict,
    /// Its replica fell too far behind.
    Lag,
    /// Its client had as many sessions as `per_client` allows.
    TooMany,
    /// Sessions of its client came faster than `per_client` allows.
    TooFast,
    /// What came was not a valid PROXY header.
    ProxyHeader,
    /// What came was not a valid greeting of the frontend's `protocol`.
    Greeting,
    /// No `route` fits what the client asked for.
    Unrouted,
    /// The backend's queue was full.
    QueueFull,
    /// No server was open for it and it could not, or no longer, wait for one.
    NoServer,
    /// The server that was chosen does not offer TLS, which the client needs.
    NoTls,
    /// The client left without having sent a byte.
    Empty,
    /// It has been to every frontend and was about to go to another one.
    Loop,
}

impl Reason {
    /// So many of them, which come first, end sessions that live.
    pub const ENDINGS: usize = Self::Lag as usize + 1;

    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 18] = [
        Self::Drained,
        Self::Maintenance,
        Self::Stopped,
        Self::Down,
        Self::Demoted,
        Self::Promoted,
        Self::Conflict,
        Self::Lag,
        Self::TooMany,
        Self::TooFast,
        Self::ProxyHeader,
        Self::Greeting,
        Self::Unrouted,
        Self::QueueFull,
        Self::NoServer,
        Self::NoTls,
        Self::Empty,
        Self::Loop,
    ];

    /// Its word in logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Maintenance => "maint",
            Self::Stopped => "stopped",
            Self::Down => "down",
            Self::Demoted => "demoted",
            Self::Promoted => "promoted",
            Self::Conflict => "conflict",
            Self::Lag => "lag",
            Self::TooMany => "too_many",
            Self::TooFast => "too_fast",
            Self::ProxyHeader => "proxy_header",
            Self::Greeting => "greeting",
            Self::Unrouted => "unrouted",
            Self::QueueFull => "queue_full",
            Self::NoServer => "no_server",
            Self::NoTls => "no_tls",
            Self::Empty => "empty",
            Self::Loop => "loop",
        }
    }

    /// Whether an operator ordered it: not a failure of anything.
    pub const fn is_order(self) -> bool {
        matches!(self, Self::Drained | Self::Maintenance | Self::Stopped)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let others = &Reason::ALL[index + 1..];
            assert!(others.iter().all(|other| other.word() != reason.word()), "{reason}");
        }
        let orders: Vec<_> = Reason::ALL.into_iter().filter(|reason| reason.is_order()).collect();
        assert_eq!(orders, [Reason::Drained, Reason::Maintenance, Reason::Stopped]);
    }
}
