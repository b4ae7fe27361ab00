//! A listening socket on a shard.
//!
//! The accept is multishot: the kernel may have accepted a few connections that nobody has asked
//! for yet. They wait here, in order, and are handed out first after a pause. Invariant: an
//! accepted connection is either returned or closed, never forgotten.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use super::{Operation, Reactor};
use crate::machine::sys::{self, Outcome, Refused, Socket};
use crate::machine::{Congestion, TcpOptions};

/// A listening socket.
pub struct Listener {
    reactor: Reactor,
    fd: Rc<Socket>,
    operation: Option<Operation>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({:?}, armed: {})", self.fd, self.operation.is_some())
    }
}

impl Listener {
    /// A listener over a listening, non-blocking socket.
    pub fn new(reactor: &Reactor, socket: Socket) -> Self {
        Self { reactor: reactor.clone(), fd: Rc::new(socket), operation: None }
    }

    /// Changes the options that accepted sockets inherit; those that are not set become the host's
    /// defaults again.
    ///
    /// # Errors
    /// The kernel's, with the setting that it refused. Settings before it have been changed.
    pub fn set_options(
        &self,
        congestion: &Congestion,
        tcp: &TcpOptions,
        transparent: bool,
    ) -> Result<(), Refused> {
        sys::set_listen_options(&self.fd, congestion, tcp, transparent)
    }

    /// The next connection.
    ///
    /// # Errors
    /// Those of `accept4`. `EMFILE` and its like come at once and again: wait before the next call.
    pub async fn accept(&mut self) -> io::Result<Socket> {
        std::future::poll_fn(|_| {
            loop {
                let operation = match &self.operation {
                    Some(operation) => operation,
                    None => {
                        let fd = &self.fd;
                        let start = |driver: &mut sys::Driver, task| driver.accept(fd, task);
                        self.operation.insert(Operation::start(&self.reactor, start)?)
                    }
                };
                match operation.poll() {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => self.operation = None,
                    Poll::Ready(Some(outcome)) => {
                        if let Some(accepted) = accepted(outcome) {
                            return Poll::Ready(accepted);
                        }
                    }
                }
            }
        })
        .await
    }

    /// Stops accepting until `accept` is called again: new connections wait in the kernel's queue.
    pub fn pause(&self) {
        if let Some(operation) = &self.operation {
            operation.stop();
        }
    }

    /// Closes the listener without losing anyone: gives the connections that were in its queue.
    pub async fn close(mut self) -> VecDeque<Socket> {
        let mut queue = VecDeque::new();
        if let Some(operation) = self.operation.take() {
            operation.stop();
            while let Some(outcome) = std::future::poll_fn(|_| operation.poll()).await {
                queue.extend(accepted(outcome).and_then(Result::ok));
            }
        }
        // A bound for a flood of connections; what is behind it meets a closed port.
        for _ in 0..QUEUE_MAX {
            match sys::accept_now(&self.fd) {
                Ok(Some(connection)) => queue.push_back(connection),
                Ok(None) | Err(_) => break,
            }
        }
        queue
    }
}

/// Connections taken out of the kernel's queue when a listener closes: its largest default size.
const QUEUE_MAX: usize = 4096;

/// The connection in an outcome; `None` for one that went away before it was accepted.
fn accepted(outcome: Outcome) -> Option<io::Result<Socket>> {
    match outcome {
        Outcome::Accepted(connection) => Some(Ok(connection)),
        Outcome::Failed(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN) => None,
        Outcome::Failed(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
        Outcome::Done | Outcome::Data(_) | Outcome::Sent(..) => None,
    }
}
