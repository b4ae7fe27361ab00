//! Descriptors held back for admin clients of a process that has no others left.
//!
//! Sessions that use up all descriptors, or an operator who lowers the limit of a live process,
//! must not keep the operator out who wants to see that. Not here: how many descriptors there are
//! (`start::descriptors`). Invariant: a spare descriptor does nothing but keep its number; one that
//! made room for a client comes back as soon as the client's is closed, before a shard takes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

/// How many each socket of the admin API holds back.
pub(super) const SPARES: usize = 4;

/// Spare descriptors.
#[derive(Clone, Default)]
pub(super) struct Spares(Arc<Mutex<Vec<OwnedFd>>>);

/// Fills the spare descriptors up again when it is dropped.
pub(super) struct Refill(Spares);

impl Spares {
    /// Takes as many as are missing, if the process has them.
    pub(super) fn fill(&self) {
        let mut held = self.held();
        while held.len() < SPARES {
            // Any file will do.
            let Ok(spare) = io::stderr().as_fd().try_clone_to_owned() else { return };
            held.push(spare);
        }
    }

    /// Closes one; whether there was one.
    pub(super) fn give_up(&self) -> bool {
        self.held().pop().is_some()
    }

    pub(super) fn refill(&self) -> Refill {
        Refill(self.clone())
    }

    fn held(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        self.0.fill();
    }
}

/// Whether the process, or the machine, has no descriptor left.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}
