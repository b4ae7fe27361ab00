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
        Receiver { stream: self.clone(), operation: None }
    }

    /// Sends all bytes of a buffer and gives the buffer back to the pool.
    ///
    /// # Errors
    /// `EPIPE` or `ECONNRESET` when the other side has gone.
    pub async fn send(&self, mut buffer: Buffer) -> io::Result<()> {
        while !buffer.is_empty() {
            let send = Operation::start(&self.reactor, |driver, task| {
                driver.send(&self.fd, buffer, task)
            })?;
            let Outcome::Sent(sent, rest) = send.outcome().await? else {
                return Err(io::ErrorKind::Other.into());
            };
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            // Short only if an error struck in between; the next attempt will tell which.
            buffer = rest;
            buffer.consume(sent);
        }
        Ok(())
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

impl Receiver {
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
                None => self.arm()?,
            };
            match operation.poll() {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.operation = None,
                Poll::Ready(Some(outcome)) => match received(outcome) {
                    Some(received) => return Poll::Ready(received),
                    None => {
                        self.operation = None;
                        if self.starve() {
                            return Poll::Pending;
                        }
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
    fn starve(&self) -> bool {
        let inner = &self.stream.reactor.0;
        inner.counters.buffers_exhausted.add(1);
        inner.driver.borrow_mut().wait_for_buffer(inner.current.get())
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
