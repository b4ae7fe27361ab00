//! Traffic over UDP.

pub(super) mod rr;
pub(super) mod stream;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::lane::Lane;
use crate::clock::Readiness;

/// What the kernel may keep for us, so that a burst is not lost on our own side.
pub(crate) const BUFFER: usize = 4 << 20;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    readiness: Readiness,
}

impl Socket {
    /// Towards the plan's address.
    pub(super) fn open(lane: &Rc<Lane>) -> io::Result<Self> {
        let address = lane.plan.address;
        let any = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let source = lane.next_source().unwrap_or_else(|| SocketAddr::new(any, 0));
        let raw = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        raw.set_nonblocking(true)?;
        raw.set_recv_buffer_size(BUFFER)?;
        raw.bind(&source.into())?;
        raw.connect(&address.into())?;
        let socket = UdpSocket::from(raw);
        let readiness = Readiness::of(&socket)?;
        lane.note(|report| report.sessions += 1);
        Ok(Self { socket, readiness })
    }

    /// Sends one datagram.
    pub(super) async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness.writable().await?;
                }
                sent => return sent.map(drop),
            }
        }
    }

    /// Takes the next datagram if there is one.
    pub(super) fn take(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => received.map(Some),
        }
    }

    /// Waits until there is one.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.readiness.readable().await
    }
}
