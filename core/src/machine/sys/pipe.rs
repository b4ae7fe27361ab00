//! Pipes for `splice(2)`: pages move from socket to socket without passing through user space.
//!
//! Synchronous on purpose: `IORING_OP_SPLICE` always goes to a kernel worker thread, and costs
//! twice as much as copying. Invariant: a pipe goes back to a pool only when it is empty.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

use super::sim::SimPipe;
use super::socket::{Socket, wrong_world};
use crate::limits::PIPE_SIZE;

/// A pipe and how many bytes are in it.
#[derive(Debug)]
pub struct Pipe {
    ends: Ends,
    held: usize,
}

#[derive(Debug)]
enum Ends {
    Os { read: OwnedFd, write: OwnedFd },
    Sim(SimPipe),
}

impl Pipe {
    /// A new pipe, as large as the kernel allows up to [`PIPE_SIZE`].
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors ran out.
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let size = i32::try_from(PIPE_SIZE).unwrap_or(i32::MAX);
        // Beyond `pipe-user-pages-soft` an unprivileged process keeps the small pipe it got.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(size));
        Ok(Self { ends: Ends::Os { read, write }, held: 0 })
    }

    /// A pipe of a simulated world.
    pub(super) fn simulated(pipe: SimPipe) -> Self {
        Self { ends: Ends::Sim(pipe), held: 0 }
    }

    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `len` bytes from a socket into the pipe; 0 when none can be, be it at the end of
    /// the stream or in front of urgent data.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has no bytes or the pipe no room, else the socket's error.
    pub(crate) fn fill(&mut self, socket: &Socket, len: usize) -> io::Result<usize> {
        let moved = match &mut self.ends {
            Ends::Os { write, .. } => move_bytes(&socket.os()?, write, len)?,
            Ends::Sim(pipe) => pipe.fill(socket.simulated().ok_or_else(wrong_world)?, len)?,
        };
        self.held += moved;
        Ok(moved)
    }

    /// Moves bytes from the pipe into a socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has no room, else the socket's error.
    pub(crate) fn drain(&mut self, socket: &Socket) -> io::Result<usize> {
        let moved = match &mut self.ends {
            Ends::Os { read, .. } => move_bytes(read, &socket.os()?, self.held)?,
            Ends::Sim(pipe) => pipe.drain(socket.simulated().ok_or_else(wrong_world)?)?,
        };
        self.held -= moved;
        Ok(moved)
    }
}

fn move_bytes(from: &impl AsFd, to: &impl AsFd, len: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        match splice(from.as_fd(), None, to.as_fd(), None, len, flags) {
            Ok(moved) => return Ok(moved),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_come_out_as_they_went_in_and_are_counted() {
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let (from, to) = (Socket::from(from), Socket::from(to));
        let mut pipe = Pipe::new().unwrap();
        assert_eq!(pipe.fill(&from, 100).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        source.write_all(b"hello").unwrap();
        assert_eq!((pipe.fill(&from, 100).unwrap(), pipe.held()), (5, 5));
        assert_eq!((pipe.drain(&to).unwrap(), pipe.held()), (5, 0));
        let mut got = [0; 5];
        sink.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        drop(source);
        assert_eq!(pipe.fill(&from, 100).unwrap(), 0, "end of stream");
    }
}
