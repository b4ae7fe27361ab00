//! What a shard holds of the world: sockets and pipes, closed on drop and counted.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::net::{Net, SocketOwner};
use super::queue::ByteQueue;
use super::tcp::By;
use crate::machine::sys::kernel::Presence;

/// A socket of a shard.
pub(in crate::machine::sys) struct SimSocket {
    net: Net,
    id: u32,
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.id)
    }
}

impl SimSocket {
    /// Takes over a socket that is counted already.
    pub(super) fn new(net: Net, id: u32) -> Self {
        Self { net, id }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// What an accept on this listener has just made.
    pub(in crate::machine::sys) fn accepted(&self, id: i32) -> Self {
        Self { net: self.net.clone(), id: id.unsigned_abs() }
    }

    pub(in crate::machine::sys) fn shutdown_write(&self) -> io::Result<()> {
        self.net.lock().finish(self.id).map_err(io::Error::from_raw_os_error)
    }

    pub(in crate::machine::sys) fn reset_on_close(&self) {
        self.net.lock().at(self.id).resets_on_close = true;
    }

    pub(in crate::machine::sys) fn presence(&self) -> Presence {
        self.net.lock().presence(self.id)
    }

    pub(in crate::machine::sys) fn peer_address(&self) -> Option<SocketAddr> {
        Some(self.net.lock().at(self.id).far)
    }

    pub(in crate::machine::sys) fn local_address(&self) -> SocketAddr {
        self.net.lock().at(self.id).own
    }

    pub(in crate::machine::sys) fn is_readable(&self) -> bool {
        self.net.lock().is_readable(self.id)
    }

    pub(in crate::machine::sys) fn unacknowledged(&self) -> u64 {
        self.net.lock().under_way(self.id)
    }

    pub(in crate::machine::sys) fn accept_now(&self) -> io::Result<Option<Self>> {
        let mut state = self.net.lock();
        let owner = state.at(self.id).owner;
        let accepted = state.accept_for(self.id, owner);
        drop(state);
        match accepted {
            Ok(id) => Ok(id.map(|id| Self { net: self.net.clone(), id })),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl SimSocket {
    /// Sends as many bytes as there is room for.
    pub(in crate::machine::sys) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.net.lock().write_few(self.id, bytes).map_err(error)
    }
}

impl super::net::State {
    /// Accepts for a shard, if it has a descriptor left.
    pub(super) fn accept_for(
        &mut self,
        listener: u32,
        owner: SocketOwner,
    ) -> Result<Option<u32>, i32> {
        if self.at(listener).waiting.is_empty() {
            return Ok(None);
        }
        if self.descriptors >= self.weather.descriptors {
            self.note("no descriptor", listener.into(), 0);
            return Err(libc::EMFILE);
        }
        self.descriptors += 1;
        self.accepted += 1;
        Ok(self.accept(listener, owner))
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        state.descriptors -= 1;
        state.close(self.id);
    }
}

/// A pipe of a shard.
pub(in crate::machine::sys) struct SimPipe {
    net: Net,
    bytes: ByteQueue,
}

impl fmt::Debug for SimPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimPipe({} bytes)", self.bytes.len())
    }
}

impl SimPipe {
    /// An empty pipe.
    pub(super) fn new(net: Net) -> io::Result<Self> {
        let mut state = net.lock();
        if state.descriptors + 2 > state.weather.descriptors {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        state.descriptors += 2;
        state.pipes += 1;
        drop(state);
        Ok(Self { net, bytes: ByteQueue::default() })
    }

    /// Moves received bytes into the pipe; 0 at the end of the stream, or in front of urgent data.
    pub(in crate::machine::sys) fn fill(
        &mut self,
        from: &SimSocket,
        len: usize,
    ) -> io::Result<usize> {
        let mut state = self.net.lock();
        let room = state.weather.pipe.saturating_sub(self.bytes.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = &mut self.bytes;
        state.read(from.id, len.min(room), By::Splice, |read| bytes.push(read)).map_err(error)
    }

    /// Moves bytes from the pipe into a socket.
    pub(in crate::machine::sys) fn drain(&mut self, to: &SimSocket) -> io::Result<usize> {
        let written = self.net.lock().write(to.id, self.bytes.front(usize::MAX)).map_err(error)?;
        self.bytes.drop_front(written);
        Ok(written)
    }
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        state.descriptors -= 2;
        state.pipes -= 1;
    }
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
