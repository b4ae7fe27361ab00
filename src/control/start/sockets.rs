//! Makes the listening sockets of all frontends, with clear errors.
//!
//! Not here: socket options (`ringlane_core::machine::sys::listen`), accepting. A TCP address gets
//! one SO_REUSEPORT socket per shard, so that the kernel spreads connections; a unix address has
//! one socket, which one shard accepts from. Invariant: nothing listens before every address was
//! found free, and a socket file that is left behind or removed is always our own or stale.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringlane_core::ids::FrontendId;
use ringlane_core::limits::MIRRORS_MAX;
use ringlane_core::machine::sys::{self, ListenOptions, Refused};
use ringlane_core::machine::{Address, Congestion, TcpOptions};
use ringlane_core::settings::{Frontend, Snapshot};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::problem::{Problem, errno};

/// Connections that wait in the kernel until a shard accepts them; net.core.somaxconn caps it.
const BACKLOG: u32 = 65_535;

/// How long a start waits for all addresses in use together. The kernel closes the sockets of a
/// ring a moment after its process has ended, and a service manager may start the next process
/// before that.
pub(in crate::control) const FREE_WAIT: Duration = Duration::from_secs(1);

/// The pause between two looks at an address that is taken.
const FREE_STEP: Duration = Duration::from_millis(10);

/// The listening sockets of a process.
#[derive(Debug)]
pub(in crate::control) struct Listeners {
    /// What each shard accepts from.
    pub(in crate::control) shards: Vec<Vec<(FrontendId, sys::Socket)>>,
    /// Where each frontend listens.
    pub(in crate::control) addresses: Listening,
    /// The socket files among them.
    pub(in crate::control) files: SocketFiles,
}

/// The addresses at which each frontend listens, with the ports that the kernel chose for port 0.
#[derive(Debug)]
pub struct Listening(Vec<Vec<Address>>);

impl Listening {
    #[cfg(test)]
    pub(in crate::control) fn new(by_frontend: Vec<Vec<Address>>) -> Self {
        Self(by_frontend)
    }

    /// The addresses of one frontend.
    pub(in crate::control) fn of(&self, id: FrontendId) -> &[Address] {
        &self.0[id.0 as usize]
    }

    /// The addresses of all frontends, by id.
    pub(in crate::control) fn all(&self) -> impl Iterator<Item = &[Address]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// The first that is no unix socket.
    pub fn first_inet(&self) -> Option<SocketAddr> {
        self.0.iter().flatten().find_map(|address| match address {
            Address::Inet(inet) => Some(*inet),
            Address::Unix(_) => None,
        })
    }
}

/// How many sockets `snapshot` needs on this many shards, besides those of sessions.
pub(in crate::control) fn count(snapshot: &Snapshot, shards: usize) -> usize {
    let sockets = |address: &Address| match address {
        Address::Inet(_) => shards,
        Address::Unix(_) => 1,
    };
    let listeners: usize =
        snapshot.frontends.iter().flat_map(|frontend| &frontend.bind).map(sockets).sum();
    let has_mirrors = snapshot.backends.iter().any(|backend| backend.mirror.is_some());
    listeners + if has_mirrors { MIRRORS_MAX * shards } else { 0 }
}

/// Binds every address of every frontend.
pub(in crate::control) fn bind(snapshot: &Snapshot, shards: usize) -> Result<Listeners, BindError> {
    let until = Instant::now() + FREE_WAIT;
    for frontend in &snapshot.frontends {
        for address in &frontend.bind {
            when_free(until, || check_free(address, frontend.transparent))
                .map_err(|problem| BindError::new(frontend, address, problem))?;
        }
    }
    let mut listeners = Listeners {
        shards: (0..shards).map(|_| Vec::new()).collect(),
        addresses: Listening(Vec::with_capacity(snapshot.frontends.len())),
        files: SocketFiles::default(),
    };
    let mut unix_sockets = 0;
    for (id, frontend) in (0..).map(FrontendId).zip(&snapshot.frontends) {
        let mut bound = Vec::with_capacity(frontend.bind.len());
        for address in &frontend.bind {
            let add = match address {
                Address::Inet(inet) => listeners.add_inet(id, frontend, *inet),
                Address::Unix(path) => {
                    unix_sockets += 1;
                    listeners.add_unix(id, path, (unix_sockets - 1) % shards)
                }
            };
            bound.push(add.map_err(|refused| {
                let problem = Problem::from_listen(refused, &frontend.congestion);
                BindError::new(frontend, address, problem)
            })?);
        }
        listeners.addresses.0.push(bound);
    }
    Ok(listeners)
}

impl Listeners {
    /// One socket per shard. With port 0 the first one chooses the port for all.
    fn add_inet(
        &mut self,
        id: FrontendId,
        frontend: &Frontend,
        mut address: SocketAddr,
    ) -> Result<Address, Refused> {
        let Frontend { congestion, tcp, transparent, .. } = frontend;
        let options = ListenOptions {
            congestion,
            tcp,
            transparent: *transparent,
            reuse_port: true,
            backlog: BACKLOG,
        };
        for shard in &mut self.shards {
            let socket = sys::listen(&Address::Inet(address), &options)?;
            if address.port() == 0 {
                let local = sys::local_address(&socket)?;
                address.set_port(local.map_or(0, |local| local.port()));
            }
            shard.push((id, socket));
        }
        Ok(Address::Inet(address))
    }

    fn add_unix(&mut self, id: FrontendId, path: &Path, shard: usize) -> Result<Address, Refused> {
        let address = Address::Unix(path.to_owned());
        let (congestion, tcp) = (&Congestion::Host, &TcpOptions::default());
        let options = ListenOptions {
            congestion,
            tcp,
            transparent: false,
            reuse_port: false,
            backlog: BACKLOG,
        };
        let socket = sys::listen(&address, &options)?;
        self.files.add(path)?;
        // As with a TCP port, every user of this machine may connect; the directory can restrict
        // that.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        self.shards[shard].push((id, socket));
        Ok(address)
    }
}

/// Does `attempt` again until it finds its address free, but not after `until`.
pub(in crate::control) fn when_free<T>(
    until: Instant,
    mut attempt: impl FnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    loop {
        match attempt() {
            Err(Problem::InUse) if Instant::now() < until => thread::sleep(FREE_STEP),
            outcome => return outcome,
        }
    }
}

/// Whether nothing listens at `address`.
fn check_free(address: &Address, transparent: bool) -> Result<(), Problem> {
    match address {
        Address::Inet(inet) if inet.port() == 0 => Ok(()),
        Address::Inet(inet) => check_port(*inet, transparent)
            .map_err(|refused| Problem::from_listen(refused, &Congestion::Host)),
        Address::Unix(path) => prepare_path(path),
    }
}

/// Binds once without SO_REUSEPORT: with it, the kernel would let us share the port with another
/// process of the same user, silently, and give each a part of the connections.
fn check_port(address: SocketAddr, transparent: bool) -> Result<(), Refused> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if transparent {
        sys::set_transparent(&socket, address.is_ipv4())?;
    }
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket.bind(&address.into())?)
}

/// Makes room for a socket file: creates its directory if only that is missing, and removes a stale
/// file.
pub(in crate::control) fn prepare_path(path: &Path) -> Result<(), Problem> {
    if let Some(folder) = path.parent()
        && !folder.exists()
        && let Err(error) = fs::create_dir(folder)
    {
        return Err(Problem::Folder(folder.to_owned(), error));
    }
    clear_stale(path)
}

/// Removes a socket file that nothing listens at any more.
fn clear_stale(path: &Path) -> Result<(), Problem> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Problem::from_bind(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(Problem::NotASocket),
        Ok(_) => {}
    }
    match try_connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(Problem::Stale)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A listener whose queue is full, or a socket of another type.
        Err(error) if matches!(errno(&error), Errno::EAGAIN | Errno::EPROTOTYPE) => {
            Err(Problem::InUse)
        }
        Err(error) => Err(Problem::from_bind(error)),
        Ok(()) => Err(Problem::InUse),
    }
}

/// Connects without waiting for a slot in the listener's queue.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Socket files of ours, removed when this is dropped.
#[derive(Debug, Default)]
pub(in crate::control) struct SocketFiles(Vec<SocketFile>);

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFiles {
    /// Where they are.
    pub(in crate::control) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| file.path.as_path())
    }

    /// Remembers a file that this process has just made.
    pub(in crate::control) fn add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        self.0.push(SocketFile { path: path.to_owned(), device, inode });
        Ok(())
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for file in &self.0 {
            // While we drained, a new process may have put its own socket there.
            let ours = fs::symlink_metadata(&file.path)
                .is_ok_and(|found| (found.dev(), found.ino()) == (file.device, file.inode));
            if ours {
                // Without write access to the directory (privileges were given up) it stays, and
                // the next start removes it.
                let _ = fs::remove_file(&file.path);
            }
        }
    }
}

/// A frontend can't listen where it should.
#[derive(Debug)]
pub struct BindError {
    frontend: String,
    address: Address,
    problem: Problem,
}

impl BindError {
    fn new(frontend: &Frontend, address: &Address, problem: Problem) -> Self {
        Self { frontend: frontend.name.clone(), address: address.clone(), problem }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frontend, address, problem } = self;
        write!(f, "frontend \"{frontend}\" cannot listen on {address}: {problem}")
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests;
