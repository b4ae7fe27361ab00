//! The two kinds of sockets that the admin API listens on, and where a connection comes from.
//!
//! Not here: whether it may ask for something (`access`), bounds for connections (`connection`).
//! Invariant: the identity of a process is what the kernel recorded when it connected.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, unix};

use super::connection::{AdminClient, Bounded};

/// A listening socket that reports why an accept fails; the server library's own waits in silence.
pub(super) trait Accepts: Send + 'static {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    type Addr: Send;

    fn accept_one(&mut self) -> impl Future<Output = io::Result<(Self::Io, Self::Addr)>> + Send;

    fn address(&self) -> io::Result<Self::Addr>;

    /// Where a connection comes from.
    fn origin(io: &Self::Io, address: &Self::Addr) -> Origin;
}

impl Accepts for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept_one(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn origin(_: &TcpStream, address: &SocketAddr) -> Origin {
        Origin::Tcp(*address)
    }
}

impl Accepts for UnixListener {
    type Io = UnixStream;
    type Addr = unix::SocketAddr;

    async fn accept_one(&mut self) -> io::Result<(UnixStream, unix::SocketAddr)> {
        Self::accept(self).await
    }

    fn address(&self) -> io::Result<unix::SocketAddr> {
        self.local_addr()
    }

    fn origin(io: &UnixStream, _: &unix::SocketAddr) -> Origin {
        // The kernel knows it of every connected socket; without it, the user is "nobody".
        let credentials = io.peer_cred().ok();
        Origin::Unix {
            uid: credentials.map_or(u32::MAX, |known| known.uid()),
            pid: credentials.and_then(|known| known.pid()),
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// A process of this machine.
    Unix { uid: u32, pid: Option<i32> },
    /// A client on TCP.
    Tcp(SocketAddr),
}

/// A connection, for those that answer its request.
#[derive(Clone, Debug)]
pub(in crate::control::report) struct Requester {
    pub(super) origin: Origin,
    pub(super) client: Arc<AdminClient>,
}

impl Requester {
    pub(in crate::control::report) fn is_tcp(&self) -> bool {
        matches!(self.origin, Origin::Tcp(_))
    }

    /// Its answer is a stream from now on.
    pub(in crate::control::report) fn begin_stream(&self) {
        self.client.begin_stream();
    }
}

impl<L: Accepts> Connected<IncomingStream<'_, Bounded<L>>> for Requester {
    fn connect_info(stream: IncomingStream<'_, Bounded<L>>) -> Self {
        stream.io().requester()
    }
}
