//! What a change of the configuration does when it is taken over by a running balancer.
//!
//! Not here: which key has which effect (`keys`), finding changes (`diff`).

use ringlane_health::OnChange;

/// What a change does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Sessions that begin from now on have the new value; live sessions keep the old one.
    New,
    /// The new value holds at once for all: limits count live sessions, too, and states and rules
    /// apply to their servers.
    All,
    /// Listening sockets are opened, closed or get other options. Live sessions go on.
    Listener,
    /// Checks begin again with the new value; servers keep their state until the next results.
    Check,
    /// Something of the process that no session notices, such as a log.
    Process,
    /// Clients that were remembered or counted are forgotten.
    Forgets,
    /// A server leaves: it gets no new sessions, and this happens to those that it has.
    Leaves(OnChange),
    /// A running process can't do it: why, and what to do.
    Refused(&'static str),
}

impl Effect {
    /// The effect as one word, as JSON has it.
    pub(in crate::config) const fn word(self) -> &'static str {
        match self {
            Self::New => "new_sessions",
            Self::All => "all_sessions",
            Self::Listener => "listeners",
            Self::Check => "checks",
            Self::Process => "process",
            Self::Forgets => "clients_forgotten",
            Self::Leaves(OnChange::Keep) => "sessions_kept",
            Self::Leaves(OnChange::Drain) => "sessions_drained",
            Self::Leaves(OnChange::Fence) => "sessions_fenced",
            Self::Refused(_) => "refused",
        }
    }

    /// The effect in a few words.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::New => "new sessions",
            Self::All | Self::Process => "at once",
            Self::Listener => "new connections",
            Self::Check => "next check",
            Self::Forgets => "remembered clients are forgotten",
            Self::Leaves(OnChange::Keep) => "live sessions go on",
            Self::Leaves(OnChange::Drain) => "live sessions end when idle",
            Self::Leaves(OnChange::Fence) => "live sessions end at once",
            Self::Refused(why) => why,
        }
    }
}
