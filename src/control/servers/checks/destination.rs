//! Where a check connects to, and how: in the same way as sessions.
//!
//! A check that takes another way than sessions can pass where no session gets through, and fail
//! where all do. So the backend's `source`, `source_ports`, `tcp` and `congestion` apply to every
//! check of the server's own address, whatever the port, and its `send_proxy` to checks of the
//! server's own port: a header without a client (`LOCAL`, `UNKNOWN`). Each can be turned off in
//! `check`. Not here: TCP fast open, with which a connect succeeds before the server has answered.
//! With `transparent` a check has no client whose address it could use, so it comes from this
//! machine.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringlane_core::limits::SOURCE_PORT_TRIES;
use ringlane_core::machine::sys::{self, ConnectOptions};
use ringlane_core::machine::{Address, Congestion, Source, TcpOptions};
use ringlane_core::settings::{Backend, SendProxy};
use ringlane_shard::proxy::header as proxy;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::shortage::{self, is_shortage};
use super::{Connection, plain};
use crate::config::Check;

/// The pause between two tries to connect to a unix socket whose queue is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// One check's place and way.
pub(super) struct Destination {
    /// Where it connects to.
    pub(super) address: Address,
    source: Source,
    tcp: TcpOptions,
    congestion: Congestion,
    proxy: Option<SendProxy>,
    /// This machine ran out of a resource, so the check proves nothing about the server.
    exhausted: Arc<AtomicBool>,
    /// The file that the check waits for.
    waits_for: Mutex<Option<PathBuf>>,
    /// What is missing in an answer so far.
    lacks: Mutex<Option<String>>,
}

/// A task that ends with its owner.
pub(super) struct OwnedTask(pub(super) JoinHandle<()>);

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Destination {
    /// Where the check of a server of `backend` connects to that listens at `server`; `own` is the
    /// address that this server's checks have in the configuration, if it has one.
    pub(super) fn new(
        check: &Check,
        backend: &Backend,
        server: &Address,
        own: Option<&Address>,
    ) -> Self {
        let address = check.place(server, own);
        let same_host = match (&address, server) {
            (Address::Inet(address), Address::Inet(server)) => address.ip() == server.ip(),
            (address, server) => address == server,
        };
        let sends_proxy = check.way.send_proxy.unwrap_or(address == *server);
        let by_tcp = same_host && check.way.tcp;
        Self {
            address,
            source: if same_host && check.way.source {
                backend.source.clone()
            } else {
                Source::default()
            },
            tcp: if by_tcp {
                TcpOptions { fast_open: false, ..backend.tcp.clone() }
            } else {
                TcpOptions::default()
            },
            congestion: if by_tcp { backend.congestion.clone() } else { Congestion::Host },
            proxy: backend.send_proxy.filter(|_| sends_proxy),
            exhausted: Arc::default(),
            waits_for: Mutex::default(),
            lacks: Mutex::default(),
        }
    }

    /// Whether this machine ran out of descriptors, memory, ports or processes during the check.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Remembers whether an error of the check is a shortage of this machine. Every error of a
    /// check passes through here.
    pub(super) fn note(&self, error: &(dyn Error + 'static)) {
        if is_shortage(error) {
            self.exhausted.store(true, Ordering::Relaxed);
        }
    }

    /// The text of an error of the check; see [`Self::note`].
    pub(super) fn text(&self, error: &io::Error) -> String {
        self.note(error);
        plain(error)
    }

    /// The text of an error on starting a program; see [`Self::note`].
    pub(super) fn text_of_fork(&self, error: &io::Error) -> String {
        if shortage::is_of_fork(error) {
            self.exhausted.store(true, Ordering::Relaxed);
        }
        plain(error)
    }

    /// The check waits for a file, or for none any more.
    pub(super) fn waits_for(&self, path: Option<&Path>) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = path.map(Path::to_owned);
    }

    /// What is missing in an answer so far; the sentence is completed by "within" and a time.
    pub(super) fn lacks(&self, what: String) {
        *self.lacks.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// Why a check is given up that has taken `time`.
    pub(super) fn gave_up(&self, time: Duration) -> String {
        match &*self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(path) => format!("reading {} took longer than {time:?}", path.display()),
            None => match &*self.lacks.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(what) => format!("{what} within {time:?}"),
                None => format!("no answer within {time:?}"),
            },
        }
    }

    /// Whether a plain connect would do the same.
    pub(super) fn is_plain(&self) -> bool {
        let no_options = self.tcp == TcpOptions::default() && self.source == Source::default();
        no_options && self.proxy.is_none() && !matches!(self.congestion, Congestion::Named(_))
    }

    /// Connects, and sends the PROXY header where the server gets one.
    pub(super) async fn connect(&self) -> Result<Box<dyn Connection>, String> {
        let opened = self.open().await;
        let mut stream =
            opened.map_err(|error| format!("cannot connect to {self}: {}", self.text(&error)))?;
        if let Some(send) = self.proxy {
            let header = proxy::write(send, None, Vec::new());
            let sent = stream.write_all(&header).await;
            sent.map_err(|error| format!("{self}: {}", self.text(&error)))?;
        }
        Ok(stream)
    }

    async fn open(&self) -> io::Result<Box<dyn Connection>> {
        let inet = match &self.address {
            Address::Unix(path) => return Ok(Box::new(open_unix(path).await?)),
            Address::Inet(inet) => *inet,
        };
        let mut tries = if self.source.draws() { SOURCE_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match self.open_once(inet).await {
                Err(error) if tries > 0 && shortage::is_taken(&error) => {}
                outcome => return Ok(Box::new(outcome?)),
            }
        }
    }

    async fn open_once(&self, inet: SocketAddr) -> io::Result<TcpStream> {
        let Self { congestion, tcp, source, .. } = self;
        let options = ConnectOptions { congestion, tcp, source, client: None };
        let socket = sys::socket_towards(inet, &options)?;
        TcpSocket::from_std_stream(socket).connect(inet).await
    }

    /// An address of this machine that leads to the server by way of [`Self::connect`], once, for a
    /// client library that must connect by itself; for as long as the task lives.
    pub(super) async fn bridge(&self) -> Result<(SocketAddr, OwnedTask), String> {
        let far = self.connect().await?;
        let broken = |error: io::Error| format!("cannot listen on loopback: {}", self.text(&error));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(broken)?;
        let near = listener.local_addr().map_err(broken)?;
        let exhausted = Arc::clone(&self.exhausted);
        let task = tokio::spawn(async move {
            let mut far = far;
            // Only one connection is accepted: the port is closed then.
            let mut client = match listener.accept().await {
                Ok((client, _)) => client,
                Err(error) => return exhausted.store(is_shortage(&error), Ordering::Relaxed),
            };
            drop(listener);
            let _ = client.set_nodelay(true);
            // How it ends is seen by both sides.
            let _ = copy_bidirectional(&mut client, &mut far).await;
        });
        Ok((near, OwnedTask(task)))
    }
}

/// Connects to a unix socket. Where a TCP connect waits for room in the server's queue, the kernel
/// answers `EAGAIN` here.
async fn open_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_PAUSE).await,
            connected => return connected,
        }
    }
}
