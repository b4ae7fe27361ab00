//! Makes the listening sockets of all frontends, with clear errors.
//!
//! Not here: socket options (`ringlane_core::machine::sys::listen`), accepting. A TCP address gets
//! one SO_REUSEPORT socket per shard, so that the kernel spreads connections; a unix address has
//! one socket, which one shard accepts from. What listens already goes on as it is. Invariant:
//! nothing new listens before every new address was found free. Next: `socket_files`.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ringlane_core::ids::FrontendId;
use ringlane_core::limits::MIRRORS_MAX;
use ringlane_core::machine::sys::{self, ListenOptions, Refused};
use ringlane_core::machine::{Address, Congestion, TcpOptions};
use ringlane_core::settings::{Frontend, Snapshot};
use ringlane_shard::ListenerId;
use socket2::{Domain, Protocol, Socket, Type};

use super::problem::Problem;
use super::socket_files::{SocketFiles, prepare_path};

/// Connections that wait in the kernel until a shard accepts them; net.core.somaxconn caps it.
const BACKLOG: u32 = 65_535;

/// How long a start waits for all addresses in use together. The kernel closes the sockets of a
/// ring a moment after its process has ended, and a service manager may start the next process
/// before that.
pub(in crate::control) const FREE_WAIT: Duration = Duration::from_secs(1);

/// The pause between two looks at an address that is taken.
const FREE_STEP: Duration = Duration::from_millis(10);

/// The listening sockets of a configuration.
#[derive(Debug)]
pub(in crate::control) struct Listeners {
    /// What each shard accepts from that was not there before.
    pub(in crate::control) shards: Vec<Vec<(ListenerId, sys::Socket)>>,
    /// Where each frontend listens.
    pub(in crate::control) addresses: Listening,
    /// The socket files among those that were not there before.
    pub(in crate::control) files: SocketFiles,
    /// Those that were there before, and have other socket options now.
    pub(in crate::control) changed: Vec<ListenerId>,
}

/// The addresses at which each frontend listens, with the ports that the kernel chose for port 0.
#[derive(Debug, Default)]
pub struct Listening {
    addresses: Vec<Vec<Address>>,
    /// The same by number.
    ids: Vec<Vec<ListenerId>>,
    /// The number of the next one.
    next: u32,
}

impl Listening {
    #[cfg(test)]
    pub(in crate::control) fn new(by_frontend: Vec<Vec<Address>>) -> Self {
        Self { addresses: by_frontend, ..Self::default() }
    }

    /// The addresses of one frontend.
    pub(in crate::control) fn of(&self, id: FrontendId) -> &[Address] {
        &self.addresses[id.0 as usize]
    }

    /// The addresses of all frontends, by id.
    pub(in crate::control) fn all(&self) -> impl Iterator<Item = &[Address]> {
        self.addresses.iter().map(Vec::as_slice)
    }

    /// The frontend of each listener.
    pub(in crate::control) fn owners(&self) -> HashMap<ListenerId, FrontendId> {
        let of = |(frontend, ids): (u32, &Vec<ListenerId>)| {
            ids.iter().map(move |id| (*id, FrontendId(frontend))).collect::<Vec<_>>()
        };
        (0..).zip(&self.ids).flat_map(of).collect()
    }

    /// The first that is no unix socket.
    pub fn first_inet(&self) -> Option<SocketAddr> {
        self.addresses.iter().flatten().find_map(|address| match address {
            Address::Inet(inet) => Some(*inet),
            Address::Unix(_) => None,
        })
    }

    /// The paths of all unix sockets.
    pub(in crate::control) fn paths(&self) -> HashSet<&Path> {
        self.addresses
            .iter()
            .flatten()
            .filter_map(|address| match address {
                Address::Unix(path) => Some(path.as_path()),
                Address::Inet(_) => None,
            })
            .collect()
    }

    fn next_id(&mut self) -> ListenerId {
        self.next += 1;
        ListenerId(self.next)
    }

    fn add(&mut self, id: ListenerId, address: Address) {
        if let (Some(ids), Some(addresses)) = (self.ids.last_mut(), self.addresses.last_mut()) {
            ids.push(id);
            addresses.push(address);
        }
    }
}

/// A listener of the configuration before.
struct KeptListener<'a> {
    id: ListenerId,
    configured: &'a Address,
    at: &'a Address,
    frontend: &'a Frontend,
}

impl KeptListener<'_> {
    /// Whether it is what a frontend wants to listen at. Port 0 is another port for each frontend.
    fn is_for(&self, address: &Address, frontend: &Frontend) -> bool {
        let any_port = matches!(address, Address::Inet(inet) if inet.port() == 0);
        self.configured == address && (!any_port || self.frontend.name == frontend.name)
    }

    /// Whether its sockets have the options of a frontend.
    fn has_options_of(&self, frontend: &Frontend) -> bool {
        let Frontend { congestion, tcp, transparent, .. } = self.frontend;
        (congestion, tcp, transparent)
            == (&frontend.congestion, &frontend.tcp, &frontend.transparent)
    }

    /// Whether a new socket at this address is refused to another process alone: one of ours may
    /// have the same port at another address.
    fn has_port_of(&self, address: &Address) -> bool {
        match (self.at, address) {
            (Address::Inet(own), Address::Inet(other)) => own.port() == other.port(),
            _ => false,
        }
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

/// The configuration before: where it listens, and its settings.
pub(in crate::control) type OlderListeners<'a> = Option<(&'a Listening, &'a Snapshot)>;

/// Binds every address of every frontend that the configuration before did not have.
pub(in crate::control) fn bind(
    snapshot: &Snapshot,
    shards: usize,
    before: OlderListeners<'_>,
) -> Result<Listeners, BindError> {
    look(snapshot, before, FREE_WAIT)?;
    let mut kept =
        before.map(|(listening, snapshot)| kept(listening, snapshot)).unwrap_or_default();
    let mut listeners = Listeners {
        shards: (0..shards).map(|_| Vec::new()).collect(),
        addresses: Listening {
            next: before.map_or(0, |(listening, _)| listening.next),
            ..Listening::default()
        },
        files: SocketFiles::default(),
        changed: Vec::new(),
    };
    for frontend in &snapshot.frontends {
        listeners.addresses.ids.push(Vec::new());
        listeners.addresses.addresses.push(Vec::new());
        for address in &frontend.bind {
            if let Some(place) = kept.iter().position(|one| one.is_for(address, frontend)) {
                let one = kept.swap_remove(place);
                if !one.has_options_of(frontend) {
                    listeners.changed.push(one.id);
                }
                listeners.addresses.add(one.id, one.at.clone());
                continue;
            }
            let added = match address {
                Address::Inet(inet) => listeners.add_inet(frontend, *inet),
                Address::Unix(path) => listeners.add_unix(path),
            };
            added.map_err(|refused| {
                let problem = Problem::from_listen(refused, &frontend.congestion);
                BindError::new(frontend, address, problem)
            })?;
        }
    }
    Ok(listeners)
}

/// Looks whether every address that the configuration before did not have is free, waiting for it
/// for so long.
pub(in crate::control) fn look(
    snapshot: &Snapshot,
    before: OlderListeners<'_>,
    wait: Duration,
) -> Result<(), BindError> {
    let kept = before.map(|(listening, snapshot)| kept(listening, snapshot)).unwrap_or_default();
    let until = Instant::now() + wait;
    for frontend in &snapshot.frontends {
        for address in &frontend.bind {
            if kept.iter().any(|one| one.is_for(address, frontend) || one.has_port_of(address)) {
                continue;
            }
            when_free(until, || check_free(address, frontend.transparent))
                .map_err(|problem| BindError::new(frontend, address, problem))?;
        }
    }
    Ok(())
}

/// All listeners of a configuration.
fn kept<'a>(listening: &'a Listening, snapshot: &'a Snapshot) -> Vec<KeptListener<'a>> {
    let of = |(nth, frontend): (usize, &'a Frontend)| {
        let bound = listening.ids[nth].iter().zip(&listening.addresses[nth]);
        let all = bound.zip(&frontend.bind);
        all.map(move |((id, at), configured)| KeptListener { id: *id, configured, at, frontend })
    };
    snapshot.frontends.iter().enumerate().flat_map(of).collect()
}

impl Listeners {
    /// One socket per shard. With port 0 the first one chooses the port for all.
    fn add_inet(&mut self, frontend: &Frontend, mut address: SocketAddr) -> Result<(), Refused> {
        let id = self.addresses.next_id();
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
        self.addresses.add(id, Address::Inet(address));
        Ok(())
    }

    /// One socket, which shards get in turn.
    fn add_unix(&mut self, path: &Path) -> Result<(), Refused> {
        let id = self.addresses.next_id();
        let shard = self.files.len() % self.shards.len();
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
        self.addresses.add(id, address);
        Ok(())
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
