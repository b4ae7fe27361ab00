//! A client's connection that knows when the kernel got what it has read.
//!
//! A thread of a busy machine may read an answer long after it came: what is said of the order of
//! answers must not depend on that. Not here: what is said (`talk`).

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

use super::client::connect;

/// A blocking connection; every wait has a deadline.
pub(crate) struct Stamped {
    stream: TcpStream,
    heard: Duration,
}

impl Stamped {
    /// Connects.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = connect(address);
        setsockopt(&stream, ReceiveTimestampns, &true).unwrap();
        Self { stream, heard: Duration::ZERO }
    }

    /// When the last bytes that were read came, since the beginning of 1970.
    pub(crate) fn heard(&self) -> Duration {
        self.heard
    }
}

impl Read for Stamped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut space = nix::cmsg_space!(TimeSpec);
        let fd = self.stream.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::empty())?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmTimestampns(at) = part {
                self.heard = at.into();
            }
        }
        Ok(message.bytes)
    }
}

impl Write for Stamped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
