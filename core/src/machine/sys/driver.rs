//! Operations in flight: what was asked of the kernel, what it was lent, and what came back.
//!
//! The seam to the kernel. An operation lives in a slot from its start until its last completion
//! has been seen *and* its owner has let go, whichever is later. Until the last completion the slot
//! owns everything that the kernel may still touch: the descriptor (so a number is never reused
//! under a queued entry), the buffer being sent, the address being connected to. That is the whole
//! argument for memory safety: nothing lent can be freed, because the slot holds it.
//!
//! A send that does all it should wakes nobody, unless its owner has asked: most owners have
//! nothing to do then, and a turn for nothing costs more than the send's own account.
//!
//! Invariants: a completion whose slot has gone is counted and dropped with what it carries; an
//! owner that lets go of an armed operation cancels it; a dropped driver waits for what is in
//! flight.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Instant;

use socket2::SockAddr;

use super::buffers::{Buffer, BufferPool};
use super::kernel::{CANCELLATION, Completion, Interest, Kernel, Request, WOKEN, Wait};
use super::options::ConnectOptions;
use super::pipe::Pipe;
use super::setup::{DriverKind, SetupError};
use super::sim::Place;
use super::socket::Socket;
use crate::limits::RECEIVE_QUEUE;
use crate::machine::Address;
use crate::machine::slab::{Key, Slab};

/// What came back from an operation.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended well (connect, poll), or there will be no more (receive: the end of the stream).
    Done,
    /// Bytes were received.
    Data(Buffer),
    /// A connection was accepted.
    Accepted(Socket),
    /// So many bytes of the buffer were sent.
    Sent(u32, Buffer),
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

/// What an operation does, and what the kernel may touch until its last completion.
enum Work {
    Accept,
    Receive,
    Send(Buffer),
    Connect(Box<SockAddr>),
    Poll(Interest),
    /// The buffer was sent and has gone back to the owner.
    Sent,
}

struct InFlight {
    work: Work,
    socket: Rc<Socket>,
    /// The task to wake; `None` when nobody waits for this operation any more.
    owner: Option<Key>,
    /// What the task is told that it was woken for.
    label: Label,
    armed: bool,
    cancelled: bool,
    /// Whether the owner has looked for the end of this operation and must be woken by it.
    awaited: bool,
    first: Option<Outcome>,
    /// What came after it; boxed, since almost every operation is looked at before more comes.
    rest: Option<Box<LaterOutcomes>>,
}

#[derive(Default)]
struct LaterOutcomes(VecDeque<Outcome>);

/// What a task is told that it was woken for: a bit for each of its parts that may have news.
pub(crate) type Label = u8;

/// Whoever starts an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) task: Key,
    pub(crate) label: Label,
}

/// The operations of one shard.
pub(crate) struct Driver {
    // Dropped first: the kernel must be done before what it was lent goes.
    kernel: Kernel,
    slots: Slab<InFlight>,
    pool: Rc<BufferPool>,
    completions: Vec<Completion>,
    /// Tasks that wait for a buffer to come back.
    starved: Vec<Owner>,
    /// How often those who waited for a buffer have been woken.
    buffer_rounds: NonZeroU64,
    stale: u64,
}

/// What one visit to the kernel brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) completions: usize,
    pub(crate) rung: bool,
}

impl Driver {
    /// Sets up a driver and its buffers for the calling thread.
    pub(crate) fn new(kind: DriverKind) -> Result<Self, SetupError> {
        match kind {
            DriverKind::Epoll => Ok(Self::over(Kernel::epoll()?)),
            DriverKind::Uring => {
                let mut driver = Self::over(Kernel::uring()?);
                driver
                    .probe_receive_limit()
                    .map_err(|error| SetupError::from_ring_setup(&error))?;
                Ok(driver)
            }
        }
    }

    /// Sets up a driver in a simulated world.
    pub(crate) fn simulated(place: Place) -> Result<Self, SetupError> {
        Ok(Self::over(Kernel::simulated(place)?))
    }

    fn over((kernel, pool): (Kernel, Rc<BufferPool>)) -> Self {
        Self {
            kernel,
            slots: Slab::new(),
            pool,
            completions: Vec::new(),
            starved: Vec::new(),
            buffer_rounds: NonZeroU64::MIN,
            stale: 0,
        }
    }

    /// Receives with and without a byte limit look alike but to a kernel before 6.17, which refuses
    /// the limit.
    fn probe_receive_limit(&mut self) -> io::Result<()> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        io::Write::write_all(&mut &ours, b"?")?;
        let key =
            self.receive(&Rc::new(Socket::from(theirs)), Owner { task: Key::NOBODY, label: 0 })?;
        while matches!(self.slots.get_mut(key), Some(slot) if slot.first.is_none()) {
            self.turn(Wait::Completion, |_, _| ())?;
        }
        let refused = matches!(self.look(key), Look::Outcome(Outcome::Failed(libc::EINVAL)));
        self.release(key);
        while self.in_flight() > 0 {
            self.turn(Wait::Completion, |_, _| ())?;
        }
        if let Kernel::Uring(uring) = &mut self.kernel
            && refused
        {
            uring.forget_receive_limit();
        }
        Ok(())
    }

    /// Accepts connections until released, or until it fails.
    pub(crate) fn accept(&mut self, listener: &Rc<Socket>, owner: Owner) -> io::Result<Key> {
        self.start(Work::Accept, listener, owner)
    }

    /// Receives into buffers of the pool until a window's worth has come.
    pub(crate) fn receive(&mut self, socket: &Rc<Socket>, owner: Owner) -> io::Result<Key> {
        self.start(Work::Receive, socket, owner)
    }

    /// Sends a buffer's bytes, all of them unless it fails.
    pub(crate) fn send(
        &mut self,
        socket: &Rc<Socket>,
        buffer: Buffer,
        owner: Owner,
    ) -> io::Result<Key> {
        self.start(Work::Send(buffer), socket, owner)
    }

    /// Connects a socket.
    pub(crate) fn connect(
        &mut self,
        socket: &Rc<Socket>,
        address: SockAddr,
        owner: Owner,
    ) -> io::Result<Key> {
        self.start(Work::Connect(Box::new(address)), socket, owner)
    }

    /// Waits until a socket is as `interest` says.
    pub(crate) fn poll(
        &mut self,
        socket: &Rc<Socket>,
        interest: Interest,
        owner: Owner,
    ) -> io::Result<Key> {
        self.start(Work::Poll(interest), socket, owner)
    }

    fn start(&mut self, work: Work, socket: &Rc<Socket>, owner: Owner) -> io::Result<Key> {
        let key = self.slots.insert(InFlight::new(work, Rc::clone(socket), owner));
        let Some(request) = self.slots.get_mut(key).and_then(|slot| slot.request()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // SAFETY: what the request names is owned by the slot, which stays until the last
        // completion; the buffer's bytes and the boxed address don't move with the slot.
        let submitted = unsafe { self.kernel.submit(request, key.to_bits()) };
        if submitted.is_err() {
            self.slots.remove(key);
        }
        submitted.map(|()| key)
    }

    /// Watches a bell's eventfd, which must outlive the driver. Once: it is to be watched again
    /// after each wake-up.
    pub(crate) fn watch_bell(&mut self, event_fd: BorrowedFd<'_>) -> io::Result<()> {
        self.kernel.watch(event_fd)
    }

    /// A socket towards `address`, not connected yet, and what to connect it to.
    pub(crate) fn open(
        &mut self,
        address: &Address,
        options: &ConnectOptions<'_>,
    ) -> io::Result<(Socket, SockAddr)> {
        self.kernel.open(address, options)
    }

    /// An empty pipe.
    pub(crate) fn pipe(&self) -> io::Result<Pipe> {
        self.kernel.pipe()
    }

    /// The time of day, microseconds since the Unix epoch.
    pub(crate) fn unix_micros(&self) -> u64 {
        self.kernel.unix_micros()
    }

    /// Whether there is anything for the next visit that no event has to bring first.
    pub(crate) fn is_busy(&self) -> bool {
        self.kernel.is_busy()
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        self.kernel.now()
    }

    /// Takes the next outcome of an operation. After `Ended` the key means nothing.
    pub(crate) fn look(&mut self, key: Key) -> Look {
        let Some(slot) = self.slots.get_mut(key) else { return Look::Ended };
        if let Some(outcome) = slot.first.take() {
            slot.first = slot.next_of_rest();
            return Look::Outcome(outcome);
        }
        if slot.armed {
            slot.awaited = true;
            return Look::Pending;
        }
        self.slots.remove(key);
        Look::Ended
    }

    /// Whether received bytes wait to be looked at.
    pub(crate) fn has_bytes(&mut self, key: Key) -> bool {
        self.slots.get_mut(key).is_some_and(|slot| matches!(slot.first, Some(Outcome::Data(_))))
    }

    /// As `look`, but the owner does not care when the operation ends well.
    pub(crate) fn glance(&mut self, key: Key) -> Look {
        match self.slots.get_mut(key) {
            Some(slot) if slot.armed && slot.first.is_none() => Look::Pending,
            _ => self.look(key),
        }
    }

    /// Lets go of an operation: what came back is dropped, what is under way is cancelled.
    pub(crate) fn release(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.owner = None;
        slot.first = None;
        slot.rest = None;
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
        if let Some(slot) = self.slots.get_mut(key) {
            // Were it refused, the operation would only end later, with its connection.
            let _ = self.kernel.cancel(&slot.socket, key.to_bits());
        }
    }

    /// A task that found no buffer wants to hear when one is back: the round of waiting that it
    /// joins; `None` if one is back already.
    pub(crate) fn wait_for_buffer(&mut self, task: Owner) -> Option<NonZeroU64> {
        self.pool.is_exhausted().then(|| {
            self.starved.push(task);
            self.buffer_rounds
        })
    }

    /// Whether those who joined this round of waiting for a buffer still wait.
    pub(crate) fn is_buffer_awaited(&self, round: NonZeroU64) -> bool {
        round == self.buffer_rounds
    }

    /// Submits, waits as told, and hands every completion to its operation; `wake` hears of each
    /// task that has something to look at, and for which of its parts.
    pub(crate) fn turn(
        &mut self,
        wait: Wait,
        mut wake: impl FnMut(Key, Label),
    ) -> io::Result<Turn> {
        // A buffer may have come back while tasks ran, and nothing else may ever wake who waits.
        let wait = if self.wake_starved(&mut wake) { Wait::No } else { wait };
        let mut completions = std::mem::take(&mut self.completions);
        let entered = self.kernel.enter(wait, &mut completions);
        let mut turn = Turn { completions: completions.len(), rung: false };
        for completion in completions.drain(..) {
            match completion.user_data {
                WOKEN => turn.rung = true,
                bits if bits & CANCELLATION != 0 => {
                    self.cancel_failed(Key::from_bits(bits & !CANCELLATION));
                }
                _ => {
                    if let Some(Owner { task, label }) = self.complete(completion) {
                        wake(task, label);
                    }
                }
            }
        }
        self.completions = completions;
        self.wake_starved(&mut wake);
        entered.map(|()| turn)
    }

    /// Wakes the tasks that wait for a buffer, if one is there; whether there were any.
    fn wake_starved(&mut self, mut wake: impl FnMut(Key, Label)) -> bool {
        if self.starved.is_empty() || self.pool.is_exhausted() {
            return false;
        }
        self.buffer_rounds = self.buffer_rounds.saturating_add(1);
        self.starved.drain(..).for_each(|Owner { task, label }| wake(task, label));
        true
    }

    /// Hands one completion to its operation; the task to wake, if any.
    fn complete(&mut self, completion: Completion) -> Option<Owner> {
        let key = Key::from_bits(completion.user_data);
        let buffer = self.buffer_of(completion);
        let Some(slot) = self.slots.get_mut(key) else {
            self.stale += 1;
            return None;
        };
        slot.armed = completion.more;
        let outcome = slot.outcome(completion.result, buffer);
        let Some(task) = slot.owner else {
            drop(outcome);
            if !slot.armed {
                self.slots.remove(key);
            }
            return None;
        };
        if let Some(Outcome::Sent(sent, buffer)) = &outcome
            && !slot.awaited
            && *sent as usize == buffer.len()
        {
            self.slots.remove(key);
            return None;
        }
        let owner = Owner { task, label: slot.label };
        if let Some(outcome) = outcome {
            slot.queue(outcome);
        }
        if matches!(slot.work, Work::Receive) && slot.queued() >= RECEIVE_QUEUE {
            self.stop(key);
        }
        Some(owner)
    }

    fn buffer_of(&self, completion: Completion) -> Option<Buffer> {
        let len = u32::try_from(completion.result).unwrap_or(0);
        Some(self.pool.received(completion.buffer?, len, completion.backlog))
    }

    /// Whether memory worth giving back lies behind buffers that nobody uses.
    pub(crate) fn has_slack(&self) -> bool {
        self.pool.has_slack()
    }

    /// Gives that memory back to the system.
    pub(crate) fn trim(&self) {
        self.pool.trim();
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

impl InFlight {
    fn new(work: Work, socket: Rc<Socket>, owner: Owner) -> Self {
        let Owner { task, label } = owner;
        Self {
            work,
            socket,
            owner: Some(task),
            label,
            armed: true,
            cancelled: false,
            awaited: false,
            first: None,
            rest: None,
        }
    }

    fn request(&self) -> Option<Request<'_>> {
        Some(match &self.work {
            Work::Accept => Request::Accept(&self.socket),
            Work::Receive => Request::Receive(&self.socket),
            Work::Send(buffer) => Request::Send(&self.socket, buffer),
            Work::Connect(address) => Request::Connect(&self.socket, address),
            Work::Poll(interest) => Request::Poll(&self.socket, *interest),
            Work::Sent => return None,
        })
    }

    fn queue(&mut self, outcome: Outcome) {
        match self.first {
            None => self.first = Some(outcome),
            Some(_) => self.rest.get_or_insert_default().0.push_back(outcome),
        }
    }

    fn next_of_rest(&mut self) -> Option<Outcome> {
        let rest = self.rest.as_mut()?;
        let next = rest.0.pop_front();
        if rest.0.is_empty() {
            self.rest = None;
        }
        next
    }

    /// Outcomes that nobody has looked at yet.
    fn queued(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.0.len())
    }

    /// What a completion's result means for this kind of operation; `None` when it only says that
    /// a receive must be armed again.
    fn outcome(&mut self, result: i32, buffer: Option<Buffer>) -> Option<Outcome> {
        let Ok(count) = u32::try_from(result) else {
            let cancelled = result == -libc::ECANCELED && self.cancelled;
            return (!cancelled).then_some(Outcome::Failed(-result));
        };
        match &self.work {
            Work::Accept => Some(Outcome::Accepted(self.socket.accepted(result))),
            Work::Receive => match buffer {
                Some(buffer) if count > 0 => Some(Outcome::Data(buffer)),
                _ => Some(Outcome::Done),
            },
            Work::Connect(_) | Work::Poll(_) => Some(Outcome::Done),
            Work::Send(_) | Work::Sent => match std::mem::replace(&mut self.work, Work::Sent) {
                Work::Send(buffer) => Some(Outcome::Sent(count, buffer)),
                _ => None,
            },
        }
    }
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
            if self.turn(wait, |_, _| ()).is_err() {
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
