//! A connected stream socket on a shard: receive, send, splice, end.
//!
//! Not here: what to do with the bytes. A [`Receiver`] keeps a multishot receive armed and never
//! holds more than a window of unsent bytes, because it is armed again only when all that came
//! before was taken. The descriptor closes when the last `Stream`, `Receiver` and operation on it
//! have gone, so a close always reaches the other side.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use super::{Operation, Reactor};
use crate::snapshot::{Address, Congestion};
use crate::sys::{self, Buffer, Interest, Outcome, Pipe, Socket};

/// A connected socket.
#[derive(Clone, Debug)]
pub struct Stream {
    reactor: Reactor,
    fd: Rc<Socket>,
}

/// The receiving half of a stream.
pub struct Receiver {
    stream: Stream,
    operation: Option<Operation>,
    /// The round of waiting for a buffer that it has joined.
    starving: Option<u64>,
}

/// The sending half of a stream: one buffer is under way while the next is prepared.
pub struct Sender {
    stream: Stream,
    operation: Option<Operation>,
}

/// Which half of a direction failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failed {
    /// The connection that bytes come from.
    Receiving,
    /// The connection that bytes go to.
    Sending,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?}, sending: {})", self.stream.fd, self.operation.is_some())
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({:?}, armed: {})", self.stream.fd, self.operation.is_some())
    }
}

impl Stream {
    /// A stream over a connected, non-blocking socket.
    pub fn new(reactor: &Reactor, socket: Socket) -> Self {
        Self { reactor: reactor.clone(), fd: Rc::new(socket) }
    }

    /// Connects to a server.
    ///
    /// # Errors
    /// `EMFILE` and its like when this machine ran out of something, else the server's answer.
    pub async fn connect(
        reactor: &Reactor,
        address: &Address,
        congestion: &Congestion,
    ) -> io::Result<Self> {
        let (socket, address) = reactor.0.driver.borrow_mut().open(address, congestion)?;
        let stream = Self::new(reactor, socket);
        let connect =
            Operation::start(reactor, |driver, task| driver.connect(&stream.fd, address, task))?;
        connect.outcome().await?;
        Ok(stream)
    }

    /// The receiving half. One at a time makes sense.
    pub fn receiver(&self) -> Receiver {
        Receiver { stream: self.clone(), operation: None, starving: None }
    }

    /// The sending half. One at a time makes sense.
    pub fn sender(&self) -> Sender {
        Sender { stream: self.clone(), operation: None }
    }

    /// Waits until the socket can be read or written.
    ///
    /// # Errors
    /// Those of `poll`; an error of the connection itself also counts as ready.
    pub async fn ready(&self, interest: Interest) -> io::Result<()> {
        let poll =
            Operation::start(&self.reactor, |driver, task| driver.poll(&self.fd, interest, task))?;
        poll.outcome().await.map(drop)
    }

    /// Moves up to `len` received bytes into a pipe; 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when there are none or the pipe is full, else the connection's error.
    pub fn splice_into(&self, pipe: &mut Pipe, len: usize) -> io::Result<usize> {
        pipe.fill(&self.fd, len)
    }

    /// Sends bytes out of a pipe.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has no room, else the connection's error.
    pub fn splice_from(&self, pipe: &mut Pipe) -> io::Result<usize> {
        pipe.drain(&self.fd)
    }

    /// Sends a FIN after what was sent.
    ///
    /// # Errors
    /// `ENOTCONN` when the connection has gone already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        sys::shutdown_write(&self.fd)
    }

    /// Makes the close a reset, so that the other side learns that something broke.
    pub fn reset_on_close(&self) {
        sys::reset_on_close(&self.fd);
    }

    /// The address of the other side; `None` for unix sockets and connections that are gone.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        sys::peer_address(&self.fd)
    }

    /// Takes the connection off a pacing congestion control if its path is short; says whether.
    ///
    /// # Errors
    /// Those of `getsockopt` and `setsockopt`; the connection goes on as it was.
    pub fn leave_pacing_on_a_short_path(&self) -> io::Result<bool> {
        sys::leave_pacing_on_a_short_path(&self.fd)
    }
}

impl Sender {
    /// Begins to send a buffer, which goes back to the pool when it is sent. Waits only for the one
    /// before.
    ///
    /// # Errors
    /// `EPIPE` or `ECONNRESET` when the other side has gone; they may strike with the next call.
    pub async fn send(&mut self, buffer: Buffer) -> io::Result<()> {
        self.flush().await?;
        self.start(buffer)
    }

    /// Waits until everything has been sent.
    ///
    /// # Errors
    /// As `send`.
    pub async fn flush(&mut self) -> io::Result<()> {
        std::future::poll_fn(|_| {
            while let Some(operation) = &self.operation {
                match operation.poll() {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(outcome) => self.sent(outcome)?,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Looks whether sending has failed, without asking to be woken when it ends well.
    fn check(&mut self) -> io::Result<()> {
        match self.operation.as_ref().map(Operation::glance) {
            None | Some(Poll::Pending) => Ok(()),
            Some(Poll::Ready(outcome)) => self.sent(outcome),
        }
    }

    /// What came of the buffer under way. Short only if an error struck in between: the next
    /// attempt will tell which.
    fn sent(&mut self, outcome: Option<Outcome>) -> io::Result<()> {
        self.operation = None;
        match outcome {
            Some(Outcome::Failed(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Outcome::Sent(0, buffer)) if !buffer.is_empty() => {
                Err(io::ErrorKind::WriteZero.into())
            }
            Some(Outcome::Sent(sent, mut buffer)) => {
                buffer.consume(sent);
                if buffer.is_empty() { Ok(()) } else { self.start(buffer) }
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, buffer: Buffer) -> io::Result<()> {
        let fd = &self.stream.fd;
        let start = |driver: &mut sys::Driver, task| driver.send(fd, buffer, task);
        self.operation = Some(Operation::start(&self.stream.reactor, start)?);
        Ok(())
    }
}

impl Receiver {
    /// As `next`, for bytes that go to `sender`; also ends when sending fails meanwhile.
    ///
    /// # Errors
    /// Which of the two connections broke.
    pub async fn next_for(&mut self, sender: &mut Sender) -> Result<Option<Buffer>, Failed> {
        std::future::poll_fn(|_| {
            sender.check().map_err(|_| Failed::Sending)?;
            self.poll_next().map_err(|_| Failed::Receiving)
        })
        .await
    }

    /// The next bytes; `None` at the end of the stream. Bytes not yet taken are never lost by
    /// dropping this future, only by dropping the receiver.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn next(&mut self) -> io::Result<Option<Buffer>> {
        std::future::poll_fn(|_| self.poll_next()).await
    }

    /// Stops receiving, then gives what had already come: `None` when nothing is left and the
    /// socket can be read by other means.
    pub async fn remainder(&mut self) -> Option<io::Result<Option<Buffer>>> {
        std::future::poll_fn(|_| {
            let Some(operation) = &self.operation else { return Poll::Ready(None) };
            operation.stop();
            let polled = operation.poll();
            if let Poll::Ready(None) = polled {
                self.operation = None;
            }
            polled.map(|outcome| outcome.and_then(received))
        })
        .await
    }

    fn poll_next(&mut self) -> Poll<io::Result<Option<Buffer>>> {
        loop {
            let operation = match &self.operation {
                Some(operation) => operation,
                // Polled for another reason: a receive would only find no buffer again.
                None if self.is_starving() => return Poll::Pending,
                None => self.arm()?,
            };
            match operation.poll() {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.operation = None,
                Poll::Ready(Some(outcome)) => match received(outcome) {
                    Some(received) => return Poll::Ready(received),
                    None => {
                        self.operation = None;
                        self.starve();
                    }
                },
            }
        }
    }

    fn arm(&mut self) -> io::Result<&Operation> {
        let fd = &self.stream.fd;
        let start = |driver: &mut sys::Driver, task| driver.receive(fd, task);
        Ok(self.operation.insert(Operation::start(&self.stream.reactor, start)?))
    }

    /// No buffer was left: asks to be woken when one is, unless one is already.
    fn starve(&mut self) {
        let inner = &self.stream.reactor.0;
        inner.counters.buffers_exhausted.add(1);
        self.starving = inner.driver.borrow_mut().wait_for_buffer(inner.current.get());
    }

    fn is_starving(&self) -> bool {
        let driver = &self.stream.reactor.0.driver;
        self.starving.is_some_and(|round| driver.borrow().is_buffer_awaited(round))
    }
}

/// What an outcome means for a receive; `None` when only a buffer was missing.
fn received(outcome: Outcome) -> Option<io::Result<Option<Buffer>>> {
    match outcome {
        Outcome::Data(buffer) => Some(Ok(Some(buffer))),
        Outcome::Failed(libc::ENOBUFS) => None,
        Outcome::Failed(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
        Outcome::Done | Outcome::Accepted(_) | Outcome::Sent(..) => Some(Ok(None)),
    }
}
