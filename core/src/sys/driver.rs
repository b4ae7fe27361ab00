//! Operations in flight: what was asked of the kernel, what it was lent, and what came back.
//!
//! The seam to the kernel. An operation lives in a slot from its start until its last completion
//! has been seen *and* its owner has let go, whichever is later. Until the last completion the slot
//! owns everything that the kernel may still touch: the descriptor (so a number is never reused
//! under a queued entry), the buffer being sent, the address being connected to. That is the whole
//! argument for memory safety: nothing lent can be freed, because the slot holds it.
//!
//! Invariants: a completion whose slot has gone is counted and dropped with what it carries; an
//! owner that lets go of an armed operation cancels it; a dropped driver waits for what is in flight.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};
use socket2::SockAddr;

use super::buffers::{BUFFER_GROUP, Buffer, BufferPool};
use super::ring::{Completion, Ring, Wait};
use super::setup::SetupError;
use crate::limits::{RECEIVE_QUEUE, RECEIVE_WINDOW};
use crate::slab::{Key, Slab};

/// What a socket should become before a wait ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interest {
    /// Bytes, the end of the stream or an error can be read.
    Readable,
    /// There is room to write, or an error.
    Writable,
}

/// What came back from an operation.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended well (connect, poll), or there will be no more (receive: the end of the stream).
    Done,
    /// Bytes were received.
    Data(Buffer),
    /// A connection was accepted.
    Accepted(OwnedFd),
    /// So many bytes of the buffer were sent.
    Sent(usize, Buffer),
    /// It failed with this errno.
    Failed(i32),
}

/// What the owner of an operation sees when it looks.
pub(crate) enum Look {
    /// The next outcome.
    Outcome(Outcome),
    /// Nothing yet; the owner will be woken.
    Pending,
    /// Nothing, and nothing will come: the operation has ended and is forgotten.
    Ended,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Accept,
    Receive,
    Send,
    Connect,
    Poll,
}

/// What the kernel may touch until the last completion.
enum Lent {
    Nothing,
    Buffer(Buffer),
    /// Held, never read again: the kernel has the pointer.
    Address(#[expect(dead_code, reason = "kept alive for the kernel")] Box<SockAddr>),
}

struct Slot {
    kind: Kind,
    _fd: Rc<OwnedFd>,
    lent: Lent,
    /// The task to wake; `None` when nobody waits for this operation any more.
    owner: Option<Key>,
    armed: bool,
    cancelled: bool,
    first: Option<Outcome>,
    rest: VecDeque<Outcome>,
}

/// Marks the answer to a cancellation of the operation whose key is in the other bits.
const CANCELLATION: u64 = 1 << 63;
/// A mailbox's eventfd became readable.
const WOKEN: u64 = u64::MAX;

/// The operations of one shard.
pub(crate) struct Driver {
    // Dropped first: the kernel must be done before what it was lent goes.
    ring: Ring,
    slots: Slab<Slot>,
    pool: Rc<BufferPool>,
    completions: Vec<Completion>,
    /// Tasks that wait for a buffer to come back.
    starved: Vec<Key>,
    receive_limit: bool,
    stale: u64,
}

/// What one visit to the kernel brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) completions: usize,
    pub(crate) mail: bool,
}

impl Driver {
    /// Sets up a ring and buffers for the calling thread.
    pub(crate) fn new() -> Result<Self, SetupError> {
        let ring = Ring::new()?;
        let pool = BufferPool::new(&ring.submitter())?;
        let mut driver = Self {
            ring,
            slots: Slab::new(),
            pool,
            completions: Vec::new(),
            starved: Vec::new(),
            receive_limit: true,
            stale: 0,
        };
        driver.probe_receive_limit().map_err(|error| SetupError::from_ring_setup(&error))?;
        Ok(driver)
    }

    /// Receives with and without a byte limit look alike but to a kernel before 6.17, which refuses
    /// the limit; there every receive ends after one buffer.
    fn probe_receive_limit(&mut self) -> io::Result<()> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        io::Write::write_all(&mut &ours, b"?")?;
        let key = self.receive(&Rc::new(theirs.into()), Key::NOBODY)?;
        while matches!(self.slots.get_mut(key), Some(slot) if slot.first.is_none()) {
            self.turn(Wait::Completion, |_| ())?;
        }
        if let Look::Outcome(Outcome::Failed(libc::EINVAL)) = self.look(key) {
            self.receive_limit = false;
        }
        self.release(key);
        while self.in_flight() > 0 {
            self.turn(Wait::Completion, |_| ())?;
        }
        Ok(())
    }

    /// Accepts connections until released, or until it fails.
    pub(crate) fn accept(&mut self, listener: &Rc<OwnedFd>, owner: Key) -> io::Result<Key> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(flags).build();
        self.start(Slot::new(Kind::Accept, Rc::clone(listener), Some(owner)), entry)
    }

    /// Receives into buffers of the pool until a window's worth has come.
    pub(crate) fn receive(&mut self, socket: &Rc<OwnedFd>, owner: Key) -> io::Result<Key> {
        let fd = Fd(socket.as_raw_fd());
        let entry = if self.receive_limit {
            limit_receive(opcode::RecvMulti::new(fd, BUFFER_GROUP).build())
        } else {
            opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        };
        self.start(Slot::new(Kind::Receive, Rc::clone(socket), Some(owner)), entry)
    }

    /// Sends a buffer's bytes, all of them unless it fails.
    pub(crate) fn send(
        &mut self,
        socket: &Rc<OwnedFd>,
        buffer: Buffer,
        owner: Key,
    ) -> io::Result<Key> {
        let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), buffer.address(), len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        let mut slot = Slot::new(Kind::Send, Rc::clone(socket), Some(owner));
        slot.lent = Lent::Buffer(buffer);
        self.start(slot, entry)
    }

    /// Connects a socket.
    pub(crate) fn connect(
        &mut self,
        socket: &Rc<OwnedFd>,
        address: SockAddr,
        owner: Key,
    ) -> io::Result<Key> {
        let address = Box::new(address);
        let entry =
            opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len())
                .build();
        let mut slot = Slot::new(Kind::Connect, Rc::clone(socket), Some(owner));
        slot.lent = Lent::Address(address);
        self.start(slot, entry)
    }

    /// Waits until a socket is as `interest` says.
    pub(crate) fn poll(
        &mut self,
        socket: &Rc<OwnedFd>,
        interest: Interest,
        owner: Key,
    ) -> io::Result<Key> {
        let mask = match interest {
            Interest::Readable => libc::POLLIN,
            Interest::Writable => libc::POLLOUT,
        };
        let fd = Fd(socket.as_raw_fd());
        let entry = opcode::PollAdd::new(fd, u32::from(mask.unsigned_abs())).build();
        self.start(Slot::new(Kind::Poll, Rc::clone(socket), Some(owner)), entry)
    }

    /// Watches a mailbox's eventfd, which must outlive the driver. Once: it is armed again after
    /// each wake-up.
    pub(crate) fn watch_mailbox(&mut self, event_fd: RawFd) -> io::Result<()> {
        let mask = u32::from(libc::POLLIN.unsigned_abs());
        let entry = opcode::PollAdd::new(Fd(event_fd), mask).build().user_data(WOKEN);
        // SAFETY: a poll entry names no memory.
        unsafe { self.ring.push(&entry) }
    }

    fn start(&mut self, slot: Slot, entry: squeue::Entry) -> io::Result<Key> {
        let key = self.slots.insert(slot);
        // SAFETY: what the entry names (descriptor, buffer, address) is owned by the slot, which
        // stays until the last completion.
        let pushed = unsafe { self.ring.push(&entry.user_data(key.to_bits())) };
        if pushed.is_err() {
            self.slots.remove(key);
        }
        pushed.map(|()| key)
    }

    /// Takes the next outcome of an operation. After `Ended` the key means nothing.
    pub(crate) fn look(&mut self, key: Key) -> Look {
        let Some(slot) = self.slots.get_mut(key) else { return Look::Ended };
        if let Some(outcome) = slot.first.take() {
            slot.first = slot.rest.pop_front();
            return Look::Outcome(outcome);
        }
        if slot.armed {
            return Look::Pending;
        }
        self.slots.remove(key);
        Look::Ended
    }

    /// Lets go of an operation: what came back is dropped, what is under way is cancelled.
    pub(crate) fn release(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.owner = None;
        slot.first = None;
        slot.rest.clear();
        if !slot.armed {
            self.slots.remove(key);
        } else if !slot.cancelled {
            slot.cancelled = true;
            self.cancel(key);
        }
    }

    /// Ends an operation but keeps what has come and still comes back for its owner.
    pub(crate) fn stop(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key)
            && slot.armed
            && !slot.cancelled
        {
            slot.cancelled = true;
            self.cancel(key);
        }
    }

    /// A cancellation failed. Either the operation has ended by itself, or it was running at that
    /// very moment (`EALREADY`) and goes on: then it must be cancelled again.
    fn cancel_failed(&mut self, key: Key) {
        if matches!(self.slots.get_mut(key), Some(slot) if slot.armed) {
            self.cancel(key);
        }
    }

    fn cancel(&mut self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.to_bits())
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(key.to_bits() | CANCELLATION);
        // SAFETY: a cancel entry names no memory. Were it refused, the operation would only end
        // later, with its connection.
        let _ = unsafe { self.ring.push(&entry) };
    }

    /// A task that found no buffer wants to hear when one is back; `false` if one is already.
    pub(crate) fn wait_for_buffer(&mut self, task: Key) -> bool {
        let exhausted = self.pool.is_exhausted();
        if exhausted {
            self.starved.push(task);
        }
        exhausted
    }

    /// Submits, waits as told, and hands every completion to its operation; `wake` hears of each
    /// task that has something to look at.
    pub(crate) fn turn(&mut self, wait: Wait, mut wake: impl FnMut(Key)) -> io::Result<Turn> {
        let mut completions = std::mem::take(&mut self.completions);
        let entered = self.ring.enter(wait, &mut completions);
        let mut turn = Turn { completions: completions.len(), mail: false };
        for completion in completions.drain(..) {
            match completion.user_data {
                WOKEN => turn.mail = true,
                bits if bits & CANCELLATION != 0 => {
                    self.cancel_failed(Key::from_bits(bits & !CANCELLATION));
                }
                _ => {
                    if let Some(task) = self.complete(completion) {
                        wake(task);
                    }
                }
            }
        }
        self.completions = completions;
        if !self.starved.is_empty() && !self.pool.is_exhausted() {
            self.starved.drain(..).for_each(wake);
        }
        entered.map(|()| turn)
    }

    /// Hands one completion to its operation; the task to wake, if any.
    fn complete(&mut self, completion: Completion) -> Option<Key> {
        let key = Key::from_bits(completion.user_data);
        let buffer = self.buffer_of(completion);
        let Some(slot) = self.slots.get_mut(key) else {
            self.stale += 1;
            return None;
        };
        slot.armed = cqueue::more(completion.flags);
        let outcome = slot.outcome(completion.result, buffer);
        let Some(owner) = slot.owner else {
            drop(outcome);
            if !slot.armed {
                self.slots.remove(key);
            }
            return None;
        };
        if let Some(outcome) = outcome {
            slot.queue(outcome);
        }
        if slot.kind == Kind::Receive && slot.rest.len() + 1 >= RECEIVE_QUEUE {
            self.stop(key);
        }
        Some(owner)
    }

    fn buffer_of(&self, completion: Completion) -> Option<Buffer> {
        let id = cqueue::buffer_select(completion.flags)?;
        let len = u32::try_from(completion.result).unwrap_or(0);
        Some(self.pool.received(id, len, cqueue::sock_nonempty(completion.flags)))
    }

    /// Operations that the kernel has not finished.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len()
    }

    /// Buffers that hold received bytes now.
    pub(crate) fn buffers_lent(&self) -> usize {
        self.pool.lent()
    }

    /// Completions so far whose operation was gone.
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }
}

impl Slot {
    fn new(kind: Kind, fd: Rc<OwnedFd>, owner: Option<Key>) -> Self {
        Self {
            kind,
            _fd: fd,
            lent: Lent::Nothing,
            owner,
            armed: true,
            cancelled: false,
            first: None,
            rest: VecDeque::new(),
        }
    }

    fn queue(&mut self, outcome: Outcome) {
        match self.first {
            None => self.first = Some(outcome),
            Some(_) => self.rest.push_back(outcome),
        }
    }

    /// What a completion's result means for this kind of operation; `None` when it only says that
    /// a receive must be armed again.
    fn outcome(&mut self, result: i32, buffer: Option<Buffer>) -> Option<Outcome> {
        let Ok(count) = usize::try_from(result) else {
            let cancelled = result == -libc::ECANCELED && self.cancelled;
            return (!cancelled).then_some(Outcome::Failed(-result));
        };
        match self.kind {
            // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
            Kind::Accept => Some(Outcome::Accepted(unsafe { OwnedFd::from_raw_fd(result) })),
            Kind::Receive => match buffer {
                Some(buffer) if count > 0 => Some(Outcome::Data(buffer)),
                _ => Some(Outcome::Done),
            },
            Kind::Send => match std::mem::replace(&mut self.lent, Lent::Nothing) {
                Lent::Buffer(buffer) => Some(Outcome::Sent(count, buffer)),
                Lent::Nothing | Lent::Address(_) => Some(Outcome::Failed(libc::EIO)),
            },
            Kind::Connect | Kind::Poll => Some(Outcome::Done),
        }
    }
}

/// Sets the total byte limit of a multishot receive (Linux 6.17), for which the crate has no name.
fn limit_receive(mut entry: squeue::Entry) -> squeue::Entry {
    /// Offset of `optlen` in `struct io_uring_sqe`, in a union with `file_index`.
    const OPTLEN: usize = 44;
    const _: () = assert!(size_of::<squeue::Entry>() == 64);
    let limit = u32::try_from(RECEIVE_WINDOW).unwrap_or(u32::MAX).to_ne_bytes();
    // SAFETY: an entry is 64 plain bytes, of which these four are `optlen`; any value is valid.
    unsafe {
        (&raw mut entry).cast::<u8>().add(OPTLEN).copy_from_nonoverlapping(limit.as_ptr(), 4);
    };
    entry
}

impl Drop for Driver {
    fn drop(&mut self) {
        for key in self.slots.keys() {
            self.release(key);
        }
        // Cancelled operations end at once; the bound is for a kernel that does not think so.
        for _ in 0..1000 {
            if self.in_flight() == 0 {
                return;
            }
            let wait = Wait::AtMost(std::time::Duration::from_millis(10));
            if self.turn(wait, |_| ()).is_err() {
                break;
            }
        }
        // What the kernel may still touch must not be freed: better to leak it.
        for key in self.slots.keys() {
            std::mem::forget(self.slots.remove(key));
        }
        std::mem::forget(Rc::clone(&self.pool));
    }
}
