//! A connected stream socket on a shard: receive, send, splice, end.
//!
//! Not here: what to do with the bytes. A [`Receiver`] keeps a multishot receive armed and never
//! holds more than a window of unsent bytes, because it is armed again only when all that came
//! before was taken. The descriptor closes when the last `Stream` and operation on it have
//! gone, so a close always reaches the other side.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::{Operation, Reactor, Retry};
use crate::limits::SOURCE_PORT_TRIES;
use crate::machine::Address;
use crate::machine::slab::Key;
use crate::machine::sys::{
    self, Buffer, ConnectOptions, Interest, Look, Outcome, Pipe, Presence, Socket,
};

/// A connected socket.
#[derive(Clone, Debug)]
pub struct Stream {
    reactor: Reactor,
    fd: Rc<Socket>,
}

/// The receiving half of a stream. Small on purpose, as every session holds two.
pub struct Receiver<'a> {
    stream: &'a Stream,
    operation: Option<Key>,
    /// The round of waiting for a buffer that it has joined.
    starving: Option<NonZeroU64>,
}

/// The sending half of a stream: one buffer is under way while the next is prepared.
pub struct Sender<'a> {
    stream: &'a Stream,
    operation: Option<Key>,
}

impl fmt::Debug for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?}, sending: {})", self.stream.fd, self.operation.is_some())
    }
}

impl fmt::Debug for Receiver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({:?}, armed: {})", self.stream.fd, self.operation.is_some())
    }
}

impl Stream {
    /// A stream over a connected, non-blocking socket.
    pub fn new(reactor: &Reactor, socket: Socket) -> Self {
        Self { reactor: reactor.clone(), fd: Rc::new(socket) }
    }

    /// Connects to a server. Where source ports are drawn, a few are tried.
    ///
    /// # Errors
    /// `EMFILE` and its like when this machine ran out of something, else the server's answer.
    pub async fn connect(
        reactor: &Reactor,
        address: &Address,
        options: &ConnectOptions<'_>,
    ) -> io::Result<Self> {
        let mut tries = if options.source.draws() { SOURCE_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match Self::connect_once(reactor, address, options).await {
                Err(error) if tries > 0 && is_taken(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn connect_once(
        reactor: &Reactor,
        address: &Address,
        options: &ConnectOptions<'_>,
    ) -> io::Result<Self> {
        let (socket, address) = reactor.0.driver.borrow_mut().open(address, options)?;
        let stream = Self::new(reactor, socket);
        let connect =
            Operation::start(reactor, |driver, task| driver.connect(&stream.fd, address, task))?;
        connect.outcome().await?;
        Ok(stream)
    }

    /// The loop that it belongs to.
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// The receiving half. One at a time makes sense.
    pub fn receiver(&self) -> Receiver<'_> {
        Receiver { stream: self, operation: None, starving: None }
    }

    /// The sending half. One at a time makes sense.
    pub fn sender(&self) -> Sender<'_> {
        Sender { stream: self, operation: None }
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

    /// Readiness was false: counts it and pauses.
    pub(super) async fn pause_for_readiness(&self, time: Duration) {
        self.reactor.counters().false_readiness.add(1);
        self.reactor.sleep(time).await;
    }

    /// What the other side has done with the connection. Reads nothing.
    pub fn presence(&self) -> Presence {
        sys::presence(&self.fd)
    }

    /// Moves up to `len` received bytes into a pipe. 0 says that there are none to be spliced, and
    /// not that the stream has ended: in front of urgent data it comes as well. Only a receive
    /// tells an end.
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

    /// Whether a receive would tell something now. Asks the kernel, so it is for rare moments.
    pub fn is_readable(&self) -> bool {
        sys::is_readable(&self.fd)
    }

    /// How long ago bytes last arrived here, read or not; `None` for unix sockets.
    pub fn since_last_bytes(&self) -> Option<Duration> {
        sys::since_last_bytes(&self.fd)
    }

    /// Bytes that were sent and have not been acknowledged by the other side, or not even left,
    /// roughly: 0 only if there are none, or the connection has gone.
    pub fn unacknowledged(&self) -> u64 {
        sys::unacknowledged(&self.fd)
    }

    /// The address of the other side; `None` for unix sockets and connections that are gone.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        sys::peer_address(&self.fd)
    }

    /// Segments of TCP that were sent, and how many of them were sent again; `None` for unix
    /// sockets.
    pub fn segments(&self) -> Option<(u32, u32)> {
        sys::segments(&self.fd)
    }

    /// The address at this end; `None` for unix sockets.
    pub fn own_address(&self) -> Option<SocketAddr> {
        sys::local_address(&self.fd).ok().flatten()
    }

    /// Sends a few bytes at once, past any [`Sender`]: before the first one, as many as there is
    /// room for.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn send_few(&self, bytes: &[u8]) -> io::Result<usize> {
        sys::send_few(&self.fd, bytes)
    }

    /// Sends bytes past any [`Sender`] and waits until all have been taken.
    ///
    /// # Errors
    /// Those of `send`; some may have been sent.
    pub async fn send_now(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut retry = Retry::default();
        while !bytes.is_empty() {
            match self.send_few(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    retry.moved();
                    bytes = &bytes[sent..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    retry.wait(self, Interest::Writable).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the connection off a pacing congestion control if its path is short; says whether.
    ///
    /// # Errors
    /// Those of `getsockopt` and `setsockopt`; the connection goes on as it was.
    pub fn leave_pacing_on_a_short_path(&self) -> io::Result<bool> {
        sys::leave_pacing_on_a_short_path(&self.fd)
    }
}

impl<'a> Sender<'a> {
    /// What it sends to.
    pub fn stream(&self) -> &'a Stream {
        self.stream
    }

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
        std::future::poll_fn(|_| self.poll_flush()).await
    }

    /// As `flush`, for who polls by hand.
    ///
    /// # Errors
    /// As `send`.
    pub fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        while let Some(operation) = self.operation {
            let look = self.stream.reactor.0.driver.borrow_mut().look(operation);
            match look {
                Look::Pending => return Poll::Pending,
                Look::Ended => self.operation = None,
                Look::Outcome(outcome) => self.sent(outcome)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Looks whether sending has failed, without asking to be woken when it ends well.
    ///
    /// # Errors
    /// As `send`.
    pub fn check(&mut self) -> io::Result<()> {
        let Some(operation) = self.operation else { return Ok(()) };
        let look = self.stream.reactor.0.driver.borrow_mut().glance(operation);
        match look {
            Look::Pending => Ok(()),
            Look::Ended => {
                self.operation = None;
                Ok(())
            }
            Look::Outcome(outcome) => self.sent(outcome),
        }
    }

    /// What came of the buffer under way. Short only if an error struck in between: the next
    /// attempt will tell which.
    fn sent(&mut self, outcome: Outcome) -> io::Result<()> {
        self.let_go();
        match outcome {
            Outcome::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
            Outcome::Sent(0, buffer) if !buffer.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            Outcome::Sent(sent, mut buffer) => {
                buffer.consume(sent as usize);
                if buffer.is_empty() { Ok(()) } else { self.start(buffer) }
            }
            _ => Ok(()),
        }
    }

    /// Begins to send a buffer after everything before it has been sent.
    ///
    /// # Errors
    /// Of the ring itself.
    pub fn start(&mut self, buffer: Buffer) -> io::Result<()> {
        debug_assert!(self.operation.is_none(), "one buffer at a time");
        let inner = &self.stream.reactor.0;
        let owner = self.stream.reactor.owner();
        self.operation = Some(inner.driver.borrow_mut().send(&self.stream.fd, buffer, owner)?);
        Ok(())
    }

    fn let_go(&mut self) {
        if let Some(operation) = self.operation.take() {
            self.stream.reactor.0.driver.borrow_mut().release(operation);
        }
    }
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl<'a> Receiver<'a> {
    /// What it receives from.
    pub fn stream(&self) -> &'a Stream {
        self.stream
    }

    /// Whether bytes have come that nobody has taken yet.
    pub fn has_bytes(&self) -> bool {
        let driver = &self.stream.reactor.0.driver;
        self.operation.is_some_and(|operation| driver.borrow_mut().has_bytes(operation))
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
            let Some(operation) = self.operation else { return Poll::Ready(None) };
            let mut driver = self.stream.reactor.0.driver.borrow_mut();
            driver.stop(operation);
            match driver.look(operation) {
                Look::Pending => Poll::Pending,
                Look::Outcome(outcome) => Poll::Ready(received(outcome)),
                Look::Ended => {
                    self.operation = None;
                    Poll::Ready(None)
                }
            }
        })
        .await
    }

    /// As `next`, for who polls by hand.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_next(&mut self) -> Poll<io::Result<Option<Buffer>>> {
        loop {
            let operation = match self.operation {
                Some(operation) => operation,
                // Polled for another reason: a receive would only find no buffer again.
                None if self.is_starving() => return Poll::Pending,
                None => self.arm()?,
            };
            let look = self.stream.reactor.0.driver.borrow_mut().look(operation);
            match look {
                Look::Pending => return Poll::Pending,
                Look::Ended => self.operation = None,
                Look::Outcome(outcome) => match received(outcome) {
                    Some(received) => return Poll::Ready(received),
                    None => {
                        self.let_go();
                        self.starve();
                    }
                },
            }
        }
    }

    fn arm(&mut self) -> io::Result<Key> {
        let inner = &self.stream.reactor.0;
        let owner = self.stream.reactor.owner();
        let operation = inner.driver.borrow_mut().receive(&self.stream.fd, owner)?;
        Ok(*self.operation.insert(operation))
    }

    /// No buffer was left: asks to be woken when one is, unless one is already.
    fn starve(&mut self) {
        let inner = &self.stream.reactor.0;
        inner.counters.buffers_exhausted.add(1);
        self.starving = inner.driver.borrow_mut().wait_for_buffer(self.stream.reactor.owner());
    }

    fn is_starving(&self) -> bool {
        let driver = &self.stream.reactor.0.driver;
        self.starving.is_some_and(|round| driver.borrow().is_buffer_awaited(round))
    }

    fn let_go(&mut self) {
        if let Some(operation) = self.operation.take() {
            self.stream.reactor.0.driver.borrow_mut().release(operation);
        }
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.let_go();
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

/// Whether an error says that a source port, or the connection from it, is taken.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}
