//! Why a balancer did not start: one sentence for the operator each.
//!
//! Not here: errors in the configuration file (`config::Report`). `docs/operations.md` lists every
//! sentence with what to do about it.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};

use nix::errno::Errno;
use nix::sys::utsname::uname;
use ringlane_core::machine::sys::SetupError;

use crate::control::log::NotStarted;
use crate::control::start::descriptors::TooFewDescriptors;
use crate::control::start::privileges::PrivilegesError;
use crate::control::start::probe::ConnectError;
use crate::control::start::sockets::BindError;

/// Why a balancer did not start.
#[derive(Debug)]
pub enum StartError {
    /// The kernel can't carry shards, or doesn't let us.
    Kernel(SetupError),
    /// The kernel doesn't report which cores there are.
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

    pub(in crate::control) fn log(failed: NotStarted) -> Self {
        match failed {
            NotStarted::Destination(error) => Self::Log(error),
            NotStarted::Thread(error) => Self::System { what: "the thread of the log", error },
        }
    }

    pub(in crate::control) fn access_log(failed: NotStarted) -> Self {
        let what = "the thread of the access log";
        match failed {
            NotStarted::Destination(error) => Self::AccessLog(error),
            NotStarted::Thread(error) => Self::System { what, error },
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => f.write_str(&explain(error)),
            Self::Cores(error) => write!(
                f,
                "cannot determine which cores this process may use (sched_getaffinity: {error}): \
                 allow that system call"
            ),
            Self::Descriptors(error) => error.fmt(f),
            Self::Bind(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Admin(error) => f.write_str(error),
            Self::Privileges(error) => error.fmt(f),
            Self::Log(error) => {
                write!(f, "cannot open the log: {error}; {} ([global] log)", remedy(error))
            }
            Self::AccessLog(error) => write!(
                f,
                "cannot open the access log: {error}; {} ([global] access_log)",
                remedy(error)
            ),
            Self::System { what, error } => write!(
                f,
                "cannot create {what}: {error}; a limit on processes (`ulimit -u`, TasksMax=) or \
                 open files (`ulimit -n`, LimitNOFILE=) is reached, or memory is exhausted"
            ),
            Self::Shard { index, error } => {
                write!(f, "shard {index} cannot start: {}", explain(error))
            }
            Self::ShardGone(index) => write!(
                f,
                "shard {index} exited during its start; this is a bug in ringlane, please report it \
                 with the lines above"
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// What to do about a destination of a log that can't be opened.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "the configured user must be able to write there",
        ErrorKind::NotFound => "create the directory, or start the syslog daemon",
        ErrorKind::IsADirectory => "this is a directory: name a file in it",
        ErrorKind::ConnectionRefused => "no syslog daemon listens there: start it",
        _ => "correct the destination",
    }
}

/// 0: all may use io_uring; 1: one group; 2: nobody.
const DISABLED_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// Why a shard can't run on this host, and how to get what is missing.
pub(in crate::control) fn explain(error: &SetupError) -> String {
    match error {
        SetupError::Ring(error) => {
            let kernel = uname().map(|name| name.release().to_string_lossy().into_owned());
            let disabled = fs::read_to_string(DISABLED_SYSCTL).unwrap_or_default();
            ring(error, kernel.as_deref().unwrap_or("unknown"), disabled.trim())
        }
        SetupError::Epoll(error) => format!(
            "the kernel refused an epoll instance: {error}; raise RLIMIT_NOFILE (`ulimit -n`, \
             `LimitNOFILE=` in systemd) or free memory"
        ),
        SetupError::Memory { bytes, error } => format!(
            "cannot reserve {} KiB of address space for receive buffers: {error}; every shard needs \
             that much: raise RLIMIT_AS (`ulimit -v`) or run fewer shards",
            bytes / 1024
        ),
    }
}

fn ring(error: &io::Error, kernel: &str, disabled: &str) -> String {
    match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        Errno::ENOSYS => format!(
            "this kernel ({kernel}) has no io_uring; Linux 6.1 or later built with CONFIG_IO_URING \
             is needed"
        ),
        Errno::EPERM | Errno::EACCES if disabled == "1" || disabled == "2" => format!(
            "io_uring is disabled on this host (kernel.io_uring_disabled = {disabled}); allow it \
             with `sysctl -w kernel.io_uring_disabled=0`"
        ),
        Errno::EPERM | Errno::EACCES => "io_uring is blocked for this process, most likely by a \
             seccomp profile (Docker and containerd block it by default); run with a profile that \
             allows io_uring_setup, io_uring_enter and io_uring_register"
            .to_owned(),
        Errno::EINVAL => format!(
            "this kernel ({kernel}) lacks io_uring features that shards need (SINGLE_ISSUER, \
             DEFER_TASKRUN, buffer rings); Linux 6.1 or later is needed"
        ),
        Errno::ENOMEM => "the kernel refused memory for an io_uring ring; raise RLIMIT_MEMLOCK \
             (`ulimit -l unlimited`, `LimitMEMLOCK=infinity` in systemd) or free memory"
            .to_owned(),
        Errno::EMFILE => "no file descriptor left for an io_uring ring; raise RLIMIT_NOFILE \
             (`ulimit -n`, `LimitNOFILE=` in systemd)"
            .to_owned(),
        Errno::ENFILE => "the host has no file descriptor left for an io_uring ring; raise \
             `sysctl fs.file-max`"
            .to_owned(),
        _ => format!("the kernel ({kernel}) refused an io_uring ring: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_can_t_be_opened_and_a_thread_that_can_t_be_made_differ() {
        for (kind, remedy) in [
            (ErrorKind::PermissionDenied, "; the configured user must be able to write there"),
            (ErrorKind::NotFound, "; create the directory, or start the syslog daemon"),
            (ErrorKind::IsADirectory, "; this is a directory"),
            (ErrorKind::ConnectionRefused, "; no syslog daemon listens there"),
            (ErrorKind::Other, "; correct the destination ([global] log)"),
        ] {
            let text = StartError::log(NotStarted::Destination(kind.into())).to_string();
            assert!(text.starts_with("cannot open the log: ") && text.contains(remedy), "{text}");
        }
        let full = || NotStarted::Thread(Errno::EAGAIN.into());
        for error in [StartError::log(full()), StartError::access_log(full())] {
            let text = error.to_string();
            assert!(!text.contains("cannot open") && text.contains("TasksMax="), "{text}");
            assert!(text.contains("the thread of the "), "{text}");
        }
    }

    #[test]
    fn every_refused_ring_has_a_remedy() {
        for (errno, disabled, expected) in [
            (Errno::ENOSYS, "0", "this kernel (5.4.0) has no io_uring"),
            (Errno::EPERM, "2", "kernel.io_uring_disabled = 2"),
            (Errno::EPERM, "0", "seccomp"),
            (Errno::EINVAL, "0", "Linux 6.1 or later is needed"),
            (Errno::ENOMEM, "0", "ulimit -l unlimited"),
            (Errno::EMFILE, "0", "ulimit -n"),
        ] {
            let text = ring(&errno.into(), "5.4.0", disabled);
            assert!(text.contains(expected), "{text}");
        }
    }
}
