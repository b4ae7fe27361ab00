//! Three echo servers, any of which can go away and come back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The servers' names.
pub(super) const NAMES: [&str; 3] = ["red", "green", "blue"];

/// The servers, bound and not serving yet.
pub(super) struct DemoServers {
    bound: Vec<std::net::TcpListener>,
    addresses: Vec<SocketAddr>,
}

/// One server at work. Dropping it takes the server away, with its connections.
pub(super) struct DemoServer {
    _alive: watch::Sender<()>,
}

impl DemoServers {
    pub(super) fn bind() -> io::Result<Self> {
        let bind = |_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let bound = NAMES.iter().map(bind).collect::<io::Result<Vec<_>>>()?;
        let addresses = bound.iter().map(std::net::TcpListener::local_addr);
        Ok(Self { addresses: addresses.collect::<io::Result<_>>()?, bound })
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        NAMES.into_iter().zip(self.addresses.iter().copied())
    }

    /// Begins to serve, inside a tokio runtime; where each server can be started again.
    pub(super) fn start(self) -> io::Result<(Vec<Option<DemoServer>>, Vec<SocketAddr>)> {
        let server = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            Ok(Some(DemoServer::start(TcpListener::from_std(listener)?)))
        };
        let servers = self.bound.into_iter().map(server).collect::<io::Result<_>>()?;
        Ok((servers, self.addresses))
    }
}

impl DemoServer {
    /// Serves at the address where it was before.
    pub(super) async fn restart(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::start(TcpListener::bind(address).await?))
    }

    fn start(listener: TcpListener) -> Self {
        let (alive, gone) = watch::channel(());
        tokio::spawn(accept(listener, gone));
        Self { _alive: alive }
    }
}

async fn accept(listener: TcpListener, mut gone: watch::Receiver<()>) {
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => drop(tokio::spawn(echo(connection, gone.clone()))),
                // Out of descriptors: those that end make room.
                Err(_) => tokio::task::yield_now().await,
            },
            _ = gone.changed() => return,
        }
    }
}

/// Echoes until the client leaves, or until this server goes away and has answered.
async fn echo(mut connection: TcpStream, mut gone: watch::Receiver<()>) {
    let mut bytes = [0; 4096];
    loop {
        let read = tokio::select! {
            biased;
            read = connection.read(&mut bytes) => read,
            _ = gone.changed() => return,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(n) if connection.write_all(&bytes[..n]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}
