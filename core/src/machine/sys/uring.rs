//! The io_uring driver: set-up, submission, reaping.
//!
//! Invariants: the ring is made on the thread that uses it (`SINGLE_ISSUER`), completions appear
//! only inside `enter` (`DEFER_TASKRUN`, Linux 6.1), and nothing is lost when a queue is full: a
//! full submission queue is submitted at once, and the kernel keeps what the completion queue
//! can't take (`FEAT_NODROP`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::BUFFER_GROUP;
use super::kernel::{CANCELLATION, Completion, Interest, Request, WOKEN, Wait};
use super::setup::SetupError;
use crate::limits::{
    COMPLETION_ENTRIES, RECEIVE_WINDOW, SUBMISSION_ENTRIES, SUBMISSIONS_FRUITLESS,
};

/// The ring of one shard.
pub(super) struct Uring {
    ring: IoUring,
    /// Whether a receive may be given a byte limit (Linux 6.17); without, it ends after one buffer.
    receive_limit: bool,
}

impl Uring {
    /// Sets a ring up for the calling thread.
    pub(super) fn new() -> Result<Self, SetupError> {
        // NO_SQARRAY came with Linux 6.6; it saves an indirection and nothing else.
        let ring = build(true).or_else(|_| build(false));
        ring.map(|ring| Self { ring, receive_limit: true })
            .map_err(|error| SetupError::from_ring_setup(&error))
    }

    /// The interface for registrations.
    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Ends every receive after one buffer from now on, which kernels before 6.17 need.
    pub(super) fn forget_receive_limit(&mut self) {
        self.receive_limit = false;
    }

    /// Queues a request.
    ///
    /// # Safety
    /// As `Kernel::submit`.
    pub(super) unsafe fn submit(&mut self, request: Request<'_>, user_data: u64) -> io::Result<()> {
        let entry = self.encode(request).user_data(user_data);
        // SAFETY: the entry names what the request names, which the caller keeps.
        unsafe { self.push(&entry) }
    }

    fn encode(&self, request: Request<'_>) -> squeue::Entry {
        match request {
            Request::Accept(socket) => opcode::AcceptMulti::new(Fd(socket.fd()))
                .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
                .build(),
            Request::Receive(socket) if self.receive_limit => {
                limit_receive(opcode::RecvMulti::new(Fd(socket.fd()), BUFFER_GROUP).build())
            }
            Request::Receive(socket) => opcode::Recv::new(Fd(socket.fd()), std::ptr::null_mut(), 0)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Request::Send(socket, buffer) => {
                let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
                opcode::Send::new(Fd(socket.fd()), buffer.address(), len)
                    .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                    .build()
            }
            Request::Connect(socket, address) => {
                opcode::Connect::new(Fd(socket.fd()), address.as_ptr().cast(), address.len())
                    .build()
            }
            Request::Poll(socket, interest) => {
                opcode::PollAdd::new(Fd(socket.fd()), poll_mask(interest)).build()
            }
        }
    }

    /// Cancels the request of this number; only a failure answers.
    pub(super) fn cancel(&mut self, user_data: u64) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(user_data)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(user_data | CANCELLATION);
        // SAFETY: a cancel entry names no memory.
        unsafe { self.push(&entry) }
    }

    /// Watches a bell's eventfd once.
    pub(super) fn watch(&mut self, event_fd: BorrowedFd<'_>) -> io::Result<()> {
        let mask = poll_mask(Interest::Readable);
        let entry = opcode::PollAdd::new(Fd(event_fd.as_raw_fd()), mask).build().user_data(WOKEN);
        // SAFETY: a poll entry names no memory.
        unsafe { self.push(&entry) }
    }

    /// Queues an entry, submitting what is queued first if there is no room.
    ///
    /// # Safety
    /// Whatever memory and descriptor the entry names must stay valid until its last completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        for _ in 0..SUBMISSIONS_FRUITLESS {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            ignore_busy(self.ring.submit())?;
        }
        // The kernel has no memory for requests; this one fails instead of the whole shard.
        Err(io::ErrorKind::OutOfMemory.into())
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
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()),
            backlog: cqueue::sock_nonempty(entry.flags()),
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

fn poll_mask(interest: Interest) -> u32 {
    let mask = match interest {
        Interest::Readable => libc::POLLIN,
        Interest::Writable => libc::POLLOUT,
        Interest::Hangup => libc::POLLRDHUP,
    };
    u32::from(mask.unsigned_abs())
}

/// Sets the total byte limit of a multishot receive (Linux 6.17), for which the crate has no name.
fn limit_receive(mut entry: squeue::Entry) -> squeue::Entry {
    /// Offset of `optlen` in `struct io_uring_sqe`, in a union with `file_index`.
    const OPTLEN: usize = 44;
    const _: () = assert!(size_of::<squeue::Entry>() == 64);
    let limit = u32::try_from(RECEIVE_WINDOW).unwrap_or(u32::MAX);
    // SAFETY: the offset is inside the entry, which is 64 plain bytes.
    let optlen = unsafe { (&raw mut entry).cast::<u8>().add(OPTLEN) };
    // SAFETY: these four bytes are `optlen`, aligned as the entry is; any value of it is valid.
    unsafe { optlen.cast::<u32>().write(limit) };
    entry
}
