//! What clients and servers outside the balancer can do: the same network, told without futures.
//!
//! An actor is a number; it is woken when one of its sockets has news or an alarm is due. Not here:
//! what actors do then, which is the tests' business.

use std::net::SocketAddr;
use std::time::Duration;

use super::held::SimSocket;
use super::net::{Event, Net, SocketOwner};
use super::port::Place;
use super::tcp::{By, TcpState};
use crate::machine::sys::Socket;

/// Names one socket of the network, for ever.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId(u32);

impl From<u32> for SocketId {
    fn from(id: u32) -> Self {
        Self(id)
    }
}

/// Why an actor is woken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wake {
    /// A socket of its own has news.
    Socket(SocketId),
    /// The time that it named with this number has come.
    Alarm(u32),
}

/// How far a connection attempt is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connecting {
    /// No answer yet.
    Pending,
    /// Connected.
    Done,
    /// Refused.
    Failed,
}

/// What is known of a socket from the network's point of view.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The address it is bound to.
    pub own: SocketAddr,
    /// The address at the other end.
    pub far: SocketAddr,
    /// The socket at the other end.
    pub other: Option<SocketId>,
    /// Whether a shard has this socket, or had it.
    pub of_shard: bool,
    /// Whether it has sent a reset.
    pub sent_reset: bool,
    /// When bytes last went in or out, or else when it was connected.
    pub moved: Duration,
    /// When its owner closed it.
    pub closed: Option<Duration>,
    /// Bytes that had arrived and were not read then.
    pub unread: usize,
}

impl Net {
    /// Puts another shard into the world.
    pub fn place(&self) -> Place {
        let mut state = self.lock();
        state.news.push(Vec::new());
        Place::new(self.clone(), state.news.len() - 1)
    }

    /// A listening socket for a shard.
    pub fn listener(&self, shard: usize, address: SocketAddr) -> Socket {
        let mut state = self.lock();
        let id = state.socket(SocketOwner::Port(shard), address);
        state.listen(id);
        state.descriptors += 1;
        drop(state);
        Socket::from_sim(SimSocket::new(self.clone(), id))
    }

    /// A listening socket of an actor.
    pub fn listen(&self, actor: u32, address: SocketAddr) -> SocketId {
        let mut state = self.lock();
        let id = state.socket(SocketOwner::Actor(actor), address);
        state.listen(id);
        SocketId(id)
    }

    /// Takes a connection that waits on a listener.
    pub fn accept(&self, actor: u32, listener: SocketId) -> Option<SocketId> {
        self.lock().accept(listener.0, SocketOwner::Actor(actor)).map(SocketId)
    }

    /// Makes an address swallow connection attempts, or answer them again.
    pub fn silence(&self, address: SocketAddr, silent: bool) {
        let mut state = self.lock();
        if silent {
            state.silent.insert(address);
        } else {
            state.silent.remove(&address);
        }
    }

    /// Begins to connect.
    pub fn connect(&self, actor: u32, from: SocketAddr, to: SocketAddr) -> SocketId {
        let mut state = self.lock();
        let id = state.socket(SocketOwner::Actor(actor), from);
        state.connect(id, to);
        SocketId(id)
    }

    /// How far a connection attempt is.
    pub fn progress(&self, id: SocketId) -> Connecting {
        match self.lock().at(id.0) {
            socket if socket.phase == TcpState::Connected => Connecting::Done,
            socket if socket.error.is_some() => Connecting::Failed,
            _ => Connecting::Pending,
        }
    }

    /// Reads up to `max` bytes; 0 at the end of the stream.
    ///
    /// # Errors
    /// The errno: `EAGAIN` when nothing has come, `ECONNRESET`.
    pub fn read(&self, id: SocketId, max: usize, take: impl FnOnce(&[u8])) -> Result<usize, i32> {
        self.lock().read(id.0, max, By::Read, take)
    }

    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// The errno: `EAGAIN` when there is no room, `ECONNRESET`, `EPIPE`.
    pub fn write(&self, id: SocketId, bytes: &[u8]) -> Result<usize, i32> {
        self.lock().write(id.0, bytes)
    }

    /// Sends a byte of urgent data, which belongs to no stream of bytes: whoever reads steps over
    /// it.
    ///
    /// # Errors
    /// The errno: `EAGAIN` when there is no room or one is under way, `ECONNRESET`, `EPIPE`.
    pub fn write_urgent(&self, id: SocketId) -> Result<(), i32> {
        self.lock().write_urgent(id.0)
    }

    /// Sends a FIN.
    pub fn finish(&self, id: SocketId) {
        // A connection that has gone needs none.
        let _ = self.lock().finish(id.0);
    }

    /// Closes a socket, with a reset if bytes are unread.
    pub fn close(&self, id: SocketId) {
        self.lock().close(id.0);
    }

    /// Closes a connection with a reset.
    pub fn reset(&self, id: SocketId) {
        let mut state = self.lock();
        state.at(id.0).resets_on_close = true;
        state.close(id.0);
    }

    /// Wakes an actor after some time.
    pub fn alarm(&self, actor: u32, after: Duration, token: u32) {
        let mut state = self.lock();
        let at = state.now + after;
        state.schedule(at, Event::Alarm(actor, token));
    }

    /// The next actor to be woken, and why.
    pub fn next_woken(&self) -> Option<(u32, Wake)> {
        self.lock().woken.pop_front()
    }

    /// What is known of a socket.
    pub fn facts(&self, id: SocketId) -> Facts {
        let mut state = self.lock();
        let socket = state.at(id.0);
        Facts {
            own: socket.own,
            far: socket.far,
            other: socket.other.map(SocketId),
            of_shard: matches!(socket.owner, SocketOwner::Port(_)),
            sent_reset: socket.sent_reset,
            moved: socket.moved,
            closed: socket.closed,
            unread: socket.unread,
        }
    }
}
