//! The kernel's ring: set-up, submission, reaping. What an entry means is `driver`'s business.
//!
//! Invariants: the ring is made on the thread that uses it (`SINGLE_ISSUER`), completions appear
//! only inside `enter` (`DEFER_TASKRUN`, Linux 6.1), and nothing is lost when a queue is full: a
//! full submission queue is submitted at once, and the kernel keeps what the completion queue
//! can't take (`FEAT_NODROP`).

use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

use super::setup::SetupError;
use crate::limits::{COMPLETION_ENTRIES, SUBMISSION_ENTRIES};

/// How long `enter` may sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until a completion arrives.
    Completion,
    /// Until a completion arrives, but no longer than this.
    AtMost(Duration),
}

/// One completion as the kernel wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// The ring of one shard.
pub(super) struct Ring {
    ring: IoUring,
}

impl Ring {
    /// Sets a ring up for the calling thread.
    pub(super) fn new() -> Result<Self, SetupError> {
        // NO_SQARRAY came with Linux 6.6; it saves an indirection and nothing else.
        let ring = build(true).or_else(|_| build(false));
        ring.map(|ring| Self { ring }).map_err(|error| SetupError::from_ring_setup(&error))
    }

    /// The interface for registrations.
    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues an entry, submitting what is queued first if there is no room.
    ///
    /// # Safety
    /// Whatever memory and descriptor the entry names must stay valid until its last completion.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            ignore_busy(self.ring.submit())?;
        }
        Ok(())
    }

    /// Submits what is queued, sleeps as long as `wait` allows for at least one completion, and
    /// appends all completions to `out`.
    pub(super) fn enter(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        let entered = match wait {
            Wait::No => self.ring.submit(),
            Wait::Completion => self.ring.submit_and_wait(1),
            Wait::AtMost(time) => {
                let time = Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        ignore_busy(entered)?;
        out.extend(self.ring.completion().map(|entry: cqueue::Entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        Ok(())
    }
}

fn build(no_sqarray: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETION_ENTRIES);
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.build(SUBMISSION_ENTRIES)
}

/// Errors of `io_uring_enter` that only mean "look at the completions and come back": the time is
/// over, a signal came, or the completion side is full and must be reaped first.
fn ignore_busy(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}
