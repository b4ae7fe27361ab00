//! The seam between a shard and what carries out its operations: requests in, completions out.
//!
//! One closed enum of drivers, chosen once at start; the same requests and the same completions for
//! all of them. `driver` keeps account of what is in flight and is the only user.

use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::SockAddr;

use super::buffers::{Buffer, BufferPool};
use super::epoll::Epoll;
use super::options::ConnectOptions;
use super::pipe::Pipe;
use super::setup::SetupError;
use super::sim::{Place, Port};
use super::socket::{self, Socket};
use super::uring::Uring;
use crate::limits::BUFFERS_MAX;
use crate::machine::Address;

/// How long a visit may sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until a completion arrives.
    Completion,
    /// Until a completion arrives, but no longer than this.
    AtMost(Duration),
}

/// What a socket should become before a wait ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interest {
    /// Bytes, the end of the stream or an error can be read.
    Readable,
    /// There is room to write, or an error.
    Writable,
    /// The other side has ended or broken the connection. Bytes alone don't count.
    Hangup,
}

impl Interest {
    /// How many there are.
    pub(super) const COUNT: usize = 3;
}

/// What the other side of a connection has done with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// It may still send, or what it has sent is not read yet.
    Open,
    /// It has ended its stream, and nothing is left to read.
    Ended,
    /// The connection is broken.
    Broken,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    /// Connections, one completion each, until cancelled or failed. Results: descriptors.
    Accept(&'a Socket),
    /// Bytes into buffers of the pool, one completion each, until a window's worth has come, the
    /// stream ends or something fails. Results: lengths.
    Receive(&'a Socket),
    /// All bytes of a buffer; fewer only if an error struck in between. Result: the length.
    Send(&'a Socket, &'a Buffer),
    /// A connection. Result: 0.
    Connect(&'a Socket, &'a SockAddr),
    /// A socket that is ready. Result: not negative.
    Poll(&'a Socket, Interest),
}

/// What came of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// The number that the request was submitted under.
    pub(super) user_data: u64,
    /// As the request says, or a negative errno.
    pub(super) result: i32,
    /// Whether more completions of the same request will follow.
    pub(super) more: bool,
    /// The pool's buffer that was received into.
    pub(super) buffer: Option<u16>,
    /// Whether bytes were left in the socket behind those received.
    pub(super) backlog: bool,
}

/// Marks the answer to a cancellation of the request whose number is in the other bits. Only failed
/// cancellations answer.
pub(super) const CANCELLATION: u64 = 1 << 63;
/// The watched bell became readable.
pub(super) const WOKEN: u64 = u64::MAX;

/// What carries operations out.
pub(super) enum Kernel {
    /// io_uring.
    Uring(Uring),
    /// epoll and non-blocking calls.
    Epoll(Epoll),
    /// A simulated world.
    Sim(Port),
}

impl Kernel {
    /// Sets io_uring up for the calling thread, with its buffers.
    pub(super) fn uring() -> Result<(Self, Rc<BufferPool>), SetupError> {
        let uring = Uring::new()?;
        let pool = BufferPool::shared(&uring.submitter())?;
        Ok((Self::Uring(uring), pool))
    }

    /// Sets epoll up, with buffers that the kernel never sees as such.
    pub(super) fn epoll() -> Result<(Self, Rc<BufferPool>), SetupError> {
        let pool = BufferPool::private(BUFFERS_MAX)?;
        Ok((Self::Epoll(Epoll::new(Rc::clone(&pool))?), pool))
    }

    /// Takes a place in a simulated world, with as many buffers as that world grants.
    pub(super) fn simulated(place: Place) -> Result<(Self, Rc<BufferPool>), SetupError> {
        let pool = BufferPool::private(place.buffers())?;
        Ok((Self::Sim(Port::new(place, Rc::clone(&pool))), pool))
    }

    /// Queues a request.
    ///
    /// # Safety
    /// The socket, buffer and address that the request names must stay valid until its last
    /// completion.
    pub(super) unsafe fn submit(&mut self, request: Request<'_>, user_data: u64) -> io::Result<()> {
        match self {
            // SAFETY: the caller's promise.
            Self::Uring(uring) => unsafe { uring.submit(request, user_data) },
            // SAFETY: the caller's promise.
            Self::Epoll(epoll) => unsafe { epoll.submit(request, user_data) },
            // SAFETY: the caller's promise.
            Self::Sim(port) => unsafe { port.submit(request, user_data) },
        }
    }

    /// Asks for the end of a request, whose last completion may be an `ECANCELED`.
    pub(super) fn cancel(&mut self, socket: &Socket, user_data: u64) -> io::Result<()> {
        match self {
            Self::Uring(uring) => uring.cancel(user_data)?,
            Self::Epoll(epoll) => epoll.cancel(socket, user_data),
            Self::Sim(port) => port.cancel(socket, user_data),
        }
        Ok(())
    }

    /// Completes once, as [`WOKEN`], when a bell's eventfd becomes readable.
    pub(super) fn watch(&mut self, event_fd: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::Uring(uring) => uring.watch(event_fd),
            Self::Epoll(epoll) => epoll.watch(event_fd),
            // What steps the shard sees the bell by itself.
            Self::Sim(_) => Ok(()),
        }
    }

    /// Carries out what is queued, sleeps as long as `wait` allows for at least one completion, and
    /// appends all completions to `out`.
    pub(super) fn enter(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        match self {
            Self::Uring(uring) => uring.enter(wait, out),
            Self::Epoll(epoll) => epoll.enter(wait, out),
            Self::Sim(port) => {
                port.enter(out);
                Ok(())
            }
        }
    }

    /// A socket towards `address`, not connected yet, and what to connect it to.
    pub(super) fn open(
        &mut self,
        address: &Address,
        options: &ConnectOptions<'_>,
    ) -> io::Result<(Socket, SockAddr)> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => socket::towards(address, options),
            Self::Sim(port) => port.open(address),
        }
    }

    /// An empty pipe.
    pub(super) fn pipe(&self) -> io::Result<Pipe> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => Pipe::new(),
            Self::Sim(port) => port.pipe(),
        }
    }

    /// The time.
    #[expect(clippy::disallowed_methods, reason = "the one clock, read once per turn")]
    pub(super) fn now(&self) -> Instant {
        match self {
            Self::Uring(_) | Self::Epoll(_) => Instant::now(),
            Self::Sim(port) => port.now(),
        }
    }

    /// The time of day, microseconds since the Unix epoch; 0 for a clock before it.
    #[expect(clippy::disallowed_methods, reason = "the one clock of the day")]
    pub(super) fn unix_micros(&self) -> u64 {
        match self {
            Self::Uring(_) | Self::Epoll(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            Self::Sim(port) => port.unix_micros(),
        }
    }

    /// Whether there is anything for the next visit that no event has to bring first.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Uring(_) | Self::Epoll(_) => false,
            Self::Sim(port) => port.is_busy(),
        }
    }
}
