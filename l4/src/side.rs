//! The two sides of a session, and which of them a failure is laid to.

use ringlane_core::counters::Cause;

/// A side of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// Cause reported when this side's connection broke.
    pub(crate) const fn cause(self) -> Cause {
        match self {
            Self::Client => Cause::Client,
            Self::Server => Cause::Server,
        }
    }

    /// As `cause`, when this side was silent for too long.
    pub(crate) const fn silence(self) -> Cause {
        match self {
            Self::Client => Cause::ClientTimeout,
            Self::Server => Cause::ServerTimeout,
        }
    }
}

/// The side whose connection broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Broken(pub(crate) Side);
