//! Can this host run shards at all? Asked once at start, answered in one sentence.
//!
//! Not here: what is better to have but not needed (`tuning`). Every failure says what was found,
//! what is needed and how to get it.

use std::fmt;
use std::io;

use nix::sys::utsname::uname;

/// Why a shard can't be set up on this host.
#[derive(Debug)]
pub struct SetupError(String);

impl std::error::Error for SetupError {}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What carries a shard's operations out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DriverKind {
    /// io_uring: the way that is meant.
    Uring,
    /// epoll: where io_uring may not be used, as in most containers.
    Epoll,
}

impl DriverKind {
    /// The name that the configuration and the status page use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Asks the kernel for everything that a shard needs, on a driver that is thrown away.
///
/// # Errors
/// One sentence for the operator: what was found, what is needed, how to get it.
pub fn probe(kind: DriverKind) -> Result<(), SetupError> {
    super::driver::Driver::new(kind).map(drop)
}

const DISABLED_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

impl SetupError {
    /// The sentence for a failed ring set-up.
    pub(super) fn from_ring_setup(error: &io::Error) -> Self {
        let kernel = uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_else(|_| "unknown".into());
        let disabled = std::fs::read_to_string(DISABLED_SYSCTL).unwrap_or_default();
        Self(explain(error, &kernel, disabled.trim()))
    }

    /// The sentence for an epoll instance that could not be made.
    pub(super) fn from_epoll_setup(error: &io::Error) -> Self {
        Self(format!(
            "the kernel refused an epoll instance: {error}; raise RLIMIT_NOFILE (`ulimit -n`, \
             `LimitNOFILE=` in systemd) or free memory"
        ))
    }

    /// The sentence for memory that could not be mapped.
    pub(super) fn from_memory(error: &io::Error, bytes: usize) -> Self {
        Self(format!(
            "cannot reserve {} KiB of address space for receive buffers: {error}; every shard needs \
             that much: raise RLIMIT_AS (`ulimit -v`) or run fewer shards",
            bytes / 1024
        ))
    }
}

fn explain(error: &io::Error, kernel: &str, disabled: &str) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => format!(
            "this kernel ({kernel}) has no io_uring; Linux 6.1 or later built with CONFIG_IO_URING \
             is needed"
        ),
        Some(libc::EPERM | libc::EACCES) if disabled == "1" || disabled == "2" => format!(
            "io_uring is disabled on this host (kernel.io_uring_disabled = {disabled}); allow it \
             with `sysctl -w kernel.io_uring_disabled=0`"
        ),
        Some(libc::EPERM | libc::EACCES) => "io_uring is blocked for this process, most likely by \
             a seccomp profile (Docker and containerd block it by default); run with a profile \
             that allows io_uring_setup, io_uring_enter and io_uring_register"
            .into(),
        Some(libc::EINVAL) => format!(
            "this kernel ({kernel}) lacks io_uring features that shards need (SINGLE_ISSUER, \
             DEFER_TASKRUN, buffer rings); Linux 6.1 or later is needed"
        ),
        Some(libc::ENOMEM) => "the kernel refused memory for an io_uring ring; raise \
             RLIMIT_MEMLOCK (`ulimit -l unlimited`, `LimitMEMLOCK=infinity` in systemd) or free \
             memory"
            .into(),
        Some(libc::EMFILE) => "no file descriptor left for an io_uring ring; raise RLIMIT_NOFILE \
             (`ulimit -n`, `LimitNOFILE=` in systemd)"
            .into(),
        Some(libc::ENFILE) => "the host has no file descriptor left for an io_uring ring; raise \
             `sysctl fs.file-max`"
            .into(),
        _ => format!("the kernel ({kernel}) refused an io_uring ring: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_how_to_get_what_is_needed() {
        for (errno, disabled, expected) in [
            (libc::ENOSYS, "0", "this kernel (5.4.0) has no io_uring"),
            (libc::EPERM, "2", "kernel.io_uring_disabled = 2"),
            (libc::EPERM, "0", "seccomp"),
            (libc::EINVAL, "0", "Linux 6.1 or later is needed"),
            (libc::ENOMEM, "0", "ulimit -l unlimited"),
            (libc::EMFILE, "0", "ulimit -n"),
        ] {
            let text = explain(&io::Error::from_raw_os_error(errno), "5.4.0", disabled);
            assert!(text.contains(expected), "{text}");
        }
    }
}
