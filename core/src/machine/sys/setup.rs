//! Whether this host can run shards: found out once at start.
//!
//! Not here: what to do about an error (the caller knows how the process is deployed), what is
//! better to have but not needed (`tuning`).

use std::fmt;
use std::io;

/// Why a shard can't be set up on this host.
#[derive(Debug)]
pub enum SetupError {
    /// The kernel refused an io_uring instance, or something that shards need of it.
    Ring(io::Error),
    /// The kernel refused an epoll instance.
    Epoll(io::Error),
    /// The kernel refused address space for receive buffers.
    Memory {
        /// How much.
        bytes: usize,
        /// The kernel's error.
        error: io::Error,
    },
}

impl std::error::Error for SetupError {}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => write!(f, "the kernel refused an io_uring instance: {error}"),
            Self::Epoll(error) => write!(f, "the kernel refused an epoll instance: {error}"),
            Self::Memory { bytes, error } => {
                write!(f, "cannot reserve {} KiB of address space: {error}", bytes / 1024)
            }
        }
    }
}

/// What carries out a shard's operations.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DriverKind {
    /// io_uring, the default.
    Uring,
    /// epoll, for where io_uring is not permitted, as in most containers.
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
/// What the kernel refused.
pub fn probe(kind: DriverKind) -> Result<(), SetupError> {
    super::driver::Driver::new(kind).map(drop)
}

impl SetupError {
    /// Of a ring set-up that failed.
    pub(super) fn from_ring_setup(error: &io::Error) -> Self {
        Self::Ring(copy(error))
    }

    /// Of an epoll instance that could not be made.
    pub(super) fn from_epoll_setup(error: &io::Error) -> Self {
        Self::Epoll(copy(error))
    }

    /// Of memory that could not be mapped.
    pub(super) fn from_memory(error: &io::Error, bytes: usize) -> Self {
        Self::Memory { bytes, error: copy(error) }
    }
}

/// The same error once more.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
