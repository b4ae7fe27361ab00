//! Why a balancer did not start: one sentence for the operator each.
//!
//! Not here: errors in the configuration file (`config::Report`). `docs/operations.md` lists every
//! sentence with what to do about it.

use std::fmt;
use std::io;

use ringlane_core::machine::sys::SetupError;

use crate::control::start::descriptors::TooFewDescriptors;
use crate::control::start::privileges::PrivilegesError;
use crate::control::start::probe::ConnectError;
use crate::control::start::sockets::BindError;

/// Why a balancer did not start.
#[derive(Debug)]
pub enum StartError {
    /// The kernel can't carry shards, or doesn't let us.
    Kernel(SetupError),
    /// The kernel doesn't say which cores there are.
    Cores(nix::Error),
    /// The limit on open files is too small.
    Descriptors(TooFewDescriptors),
    /// An address can't be listened at.
    Bind(BindError),
    /// Servers can't be connected to as configured.
    Connect(ConnectError),
    /// The admin API can't listen.
    Admin(String),
    /// The process could not become the configured user.
    Privileges(PrivilegesError),
    /// The process's own log can't be opened.
    Log(io::Error),
    /// The access log can't be opened.
    AccessLog(io::Error),
    /// The system lacks something that every program needs.
    System {
        /// What was being made.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// A shard could not set itself up.
    Shard {
        /// Which one.
        index: usize,
        /// What it met.
        error: SetupError,
    },
    /// A shard ended before it was up; a bug of ours.
    ShardGone(usize),
}

impl StartError {
    /// For `map_err` where the system refused to make `what`.
    pub(in crate::control) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(f),
            Self::Cores(error) => write!(
                f,
                "cannot find out which cores this process may use (sched_getaffinity: {error}): \
                 allow that system call"
            ),
            Self::Descriptors(error) => error.fmt(f),
            Self::Bind(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Admin(error) => f.write_str(error),
            Self::Privileges(error) => error.fmt(f),
            Self::Log(error) => write!(
                f,
                "cannot open the log: {error}; the configured user must be able to write to the \
                 destination of [global] log"
            ),
            Self::AccessLog(error) => write!(
                f,
                "cannot open the access log: {error}; the configured user must be able to write \
                 to the destination of [global] access_log"
            ),
            Self::System { what, error } => write!(
                f,
                "cannot make {what}: {error}; the limits on processes (`ulimit -u`, TasksMax=) \
                 and open files (`ulimit -n`, LimitNOFILE=) or the machine's memory are used up"
            ),
            Self::Shard { index, error } => write!(f, "shard {index} cannot start: {error}"),
            Self::ShardGone(index) => write!(
                f,
                "shard {index} ended while it started; this is a bug of ringlane, please report \
                 it with the lines above"
            ),
        }
    }
}

impl std::error::Error for StartError {}
