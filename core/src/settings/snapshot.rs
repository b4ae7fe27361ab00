//! The configuration as shards read it: immutable, numbered, published whole.
//!
//! Not here: the file format (the root package lowers a file into this), nor anything that changes
//! while serving (`gauges`, `counters`). Invariants: ids are dense indices into the vectors of the
//! same snapshot; names are for people and never looked up on the data path.

use std::time::Duration;

use ipnet::IpNet;

use crate::ids::{BackendId, FrontendId, ServerId, Tag};
use crate::machine::{Address, Congestion, Source, TcpOptions};

use super::role::RoleWanted;
use super::route::{ClientHints, Protocol, Route, Unrouted};

/// How long a server may take to accept a connection, by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client's first message may take, by default.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a side may be silent, by default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long a drained session must have been silent, by default: no answer is outstanding then.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// Everything a shard must know to serve.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts published configurations, from 1.
    pub generation: u64,
    /// Sessions at once in the whole process.
    pub max_connections: u32,
    /// Whether sessions are recorded for the access log.
    pub log_sessions: bool,
    /// Client sides.
    pub frontends: Vec<Frontend>,
    /// Groups of servers.
    pub backends: Vec<Backend>,
    /// All servers of all backends; those of one backend are neighbours.
    pub servers: Vec<Server>,
}

/// A client side: listeners, limits, and the backend that serves them.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// What carries its sessions.
    pub mode: Mode,
    /// The operator's name for it.
    pub name: String,
    /// Where it listens.
    pub bind: Vec<Address>,
    /// Whether it may listen at, and answer from, addresses that are not this machine's.
    pub transparent: bool,
    /// Who serves its sessions.
    pub backend: BackendId,
    /// Sessions at once; above it new connections wait in the kernel's queue.
    pub max_connections: u32,
    /// When to give up.
    pub timeout: Timeout,
    /// Congestion control towards clients.
    pub congestion: Congestion,
    /// What else its sockets are told.
    pub tcp: TcpOptions,
    /// How bytes are relayed.
    pub path: Path,
    /// Which servers of the backend its sessions may go to.
    pub role: RoleWanted,
    /// Whose word on the client is heard (PROXY protocol).
    pub accept_proxy: Option<AcceptProxy>,
    /// What its clients speak, as far as that is looked at.
    pub protocol: Protocol,
    /// Whether the access log wants to know what they ask for in their first messages.
    pub log_names: bool,
    /// Where sessions go by what their clients say first; the first that fits counts.
    pub routes: Vec<Route>,
    /// What becomes of a TLS client that names no server.
    pub no_sni: Unrouted,
    /// What becomes of a client that no route fits.
    pub unmatched: Unrouted,
    /// New sessions per second; above it connections wait in the kernel's queue.
    pub rate: Option<u32>,
    /// What one client may take.
    pub per_client: Option<ClientLimits>,
    /// Its rank among those who wait for the same servers.
    pub priority: Priority,
}

/// What one client, known by its address, may take of a frontend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientLimits {
    /// Sessions at once; `u32::MAX`: as many as it likes.
    pub max_connections: u32,
    /// New sessions per second; `None`: as many as it likes.
    pub rate: Option<ClientRate>,
    /// New sessions that may come at once, before the rate holds.
    pub burst: u32,
    /// Clients from these networks may take what they like.
    pub allow: Vec<IpNet>,
    /// Clients that are counted at once.
    pub size: u32,
    /// What becomes of those who want more.
    pub refusal: Refusal,
}

/// How often one client may come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientRate {
    /// Sessions in a hundred seconds, since a part of one per second must be a number.
    pub per_100_seconds: u32,
}

/// How a client learns that it is refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Refusal {
    /// By a reset: nothing is kept of the connection.
    #[default]
    Reset,
    /// By the end of the stream.
    Close,
}

/// Who is served first of those who wait.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Priority {
    /// Before all others.
    High,
    /// In between.
    #[default]
    Normal,
    /// After all others.
    Low,
}

/// From whom a PROXY header is expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcceptProxy {
    /// Clients from these networks begin with a header, all others have none; empty: everybody
    /// does.
    pub trusted: Vec<IpNet>,
    /// How long a header may take to come.
    pub timeout: Duration,
}

/// Which version of the PROXY protocol is spoken to servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendProxy {
    /// A line of text.
    V1,
    /// Binary, with what it says besides addresses.
    V2(ProxyDetails),
}

/// What a PROXY header of version 2 says besides addresses, where it is known. What came with a
/// header of the client's own proxy is passed on in any case.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProxyDetails {
    /// The name that a TLS client asks for (`PP2_TYPE_AUTHORITY`).
    pub authority: bool,
    /// The protocol that it offers first (`PP2_TYPE_ALPN`).
    pub alpn: bool,
    /// A number for the session, which the access log has, too (`PP2_TYPE_UNIQUE_ID`).
    pub unique_id: bool,
}

/// A group of servers that can stand in for one another.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The operator's name for it.
    pub name: String,
    /// How a server is chosen.
    pub balance: BalanceKind,
    /// What policies by hash go by.
    pub hash: HashKey,
    /// Whether clients return to the server that they had last.
    pub affinity: Option<Affinity>,
    /// Congestion control towards servers.
    pub congestion: Congestion,
    /// What else its sockets are told.
    pub tcp: TcpOptions,
    /// Where its sessions come from.
    pub source: Source,
    /// What its servers are told of the client before its first byte (PROXY protocol).
    pub send_proxy: Option<SendProxy>,
    /// When a second server is tried beside one that has not answered yet.
    pub race_after: Option<RaceAfter>,
    /// Whether sessions wait while no server has room; otherwise they are refused.
    pub queue: Option<QueueSettings>,
    /// How long a session must have been silent to be idle, when it is drained and its transactions
    /// can't be seen.
    pub drain_idle: Duration,
    /// How fast bytes pass.
    pub bandwidth: Bandwidth,
    /// Who else hears what clients say.
    pub mirror: Option<Mirror>,
    /// The first of its servers.
    pub first_server: ServerId,
    /// How many servers it has.
    pub server_count: u32,
}

/// How long a server may take to accept before another one is tried, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RaceAfter {
    /// This long.
    Time(Duration),
    /// As long as 95 of 100 connects have taken.
    P95,
}

/// How fast bytes pass, in either direction by itself; `None`: as fast as they can.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bandwidth {
    /// Of one session, in bytes per second.
    pub per_session: Option<u64>,
    /// Of all sessions of the backend together, in bytes per second.
    pub per_backend: Option<u64>,
}

/// A server that hears what clients say beside the one that answers them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Where it listens.
    pub server: Address,
    /// How many sessions of a million it hears.
    pub per_million: u32,
}

/// How sessions wait for a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueSettings {
    /// Sessions that wait at once, over all shards; more are refused.
    pub size: u32,
    /// How long one waits; `None`: as long as its frontend gives a server to accept.
    pub timeout: Option<Duration>,
}

/// One member of a backend.
#[derive(Clone, Debug)]
pub struct Server {
    /// The operator's name for it.
    pub name: String,
    /// The backend it belongs to.
    pub backend: BackendId,
    /// Where it listens; nothing for one whose address its name gives while it serves.
    pub address: Option<Address>,
    /// Its share of sessions, relative to its neighbours; 0 takes none.
    pub weight: u32,
    /// Used only while no other server of the backend is usable.
    pub backup: bool,
    /// Sessions at once that it gets; `u32::MAX`: as many as come.
    pub max_connections: u32,
    /// The state that the configuration orders; an operator's order replaces it.
    pub state: OrderedState,
}

/// What the configuration orders a server to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OrderedState {
    /// Take sessions.
    #[default]
    Ready,
    /// Take no new sessions, but keep the clients that it has.
    Drain,
    /// Take nothing.
    Maint,
}

/// When to give up waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeout {
    /// For the client to say what must be known to choose a server.
    pub greeting: Duration,
    /// For one server to accept a connection.
    pub connect: Duration,
    /// For the client to send or to take bytes.
    pub client: Duration,
    /// For the server to send or to take bytes.
    pub server: Duration,
    /// For one side to send bytes when the other one has ended; nothing: as long as ever.
    pub fin: Option<Duration>,
}

/// What carries the sessions of a frontend.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// Their bytes are relayed as they come.
    #[default]
    Tcp,
}

/// How bytes are relayed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Path {
    /// Small data by receive and send, bulk by splice; chosen per direction by what it carries.
    #[default]
    Auto,
    /// Always receive and send.
    Copy,
    /// Always splice.
    Splice,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BalanceKind {
    /// In turn, by weight, without bursts.
    #[default]
    RoundRobin,
    /// Fewest sessions over weight, counted across all shards.
    LeastConn,
    /// The less loaded of two drawn at random.
    RandomTwo,
    /// By hash, a server's score drawn from key and name.
    Source,
    /// By hash through a table that gives each server an equal part.
    Maglev(Option<LoadBound>),
    /// By hash on a ring of points.
    RingHash(Option<LoadBound>),
    /// Fewest bytes per second over weight, counted across all shards.
    LeastBandwidth,
    /// The first server that has room.
    First,
}

impl Default for Frontend {
    /// Without a name, a listener or a limit.
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            name: String::new(),
            bind: Vec::new(),
            transparent: false,
            backend: BackendId::default(),
            max_connections: u32::MAX,
            timeout: Timeout::default(),
            congestion: Congestion::default(),
            tcp: TcpOptions::default(),
            path: Path::default(),
            role: RoleWanted::default(),
            accept_proxy: None,
            protocol: Protocol::default(),
            log_names: false,
            routes: Vec::new(),
            no_sni: Unrouted::default(),
            unmatched: Unrouted::default(),
            rate: None,
            per_client: None,
            priority: Priority::default(),
        }
    }
}

impl Default for Backend {
    /// Without a name or servers.
    fn default() -> Self {
        Self {
            name: String::new(),
            balance: BalanceKind::default(),
            hash: HashKey::default(),
            affinity: None,
            congestion: Congestion::default(),
            tcp: TcpOptions::default(),
            source: Source::default(),
            send_proxy: None,
            race_after: None,
            queue: None,
            drain_idle: DRAIN_IDLE,
            bandwidth: Bandwidth::default(),
            mirror: None,
            first_server: ServerId(0),
            server_count: 0,
        }
    }
}

impl Default for Server {
    /// Without a name or an address.
    fn default() -> Self {
        Self {
            name: String::new(),
            backend: BackendId::default(),
            address: None,
            weight: 1,
            backup: false,
            max_connections: u32::MAX,
            state: OrderedState::default(),
        }
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            greeting: GREETING_TIMEOUT,
            connect: CONNECT_TIMEOUT,
            client: IDLE_TIMEOUT,
            server: IDLE_TIMEOUT,
            fin: None,
        }
    }
}

impl BalanceKind {
    /// Whether it goes by a session's key.
    pub const fn is_by_hash(self) -> bool {
        matches!(self, Self::Source | Self::Maglev(_) | Self::RingHash(_))
    }

    /// Whether servers that are equal otherwise take turns.
    pub const fn is_in_turn(self) -> bool {
        matches!(self, Self::RoundRobin | Self::LeastConn | Self::LeastBandwidth)
    }
}

/// How much more than the average for its weight a server may have before keys go past it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoadBound {
    /// In hundredths of the average; more than 100.
    pub percent: u32,
}

impl LoadBound {
    /// As a factor of the average.
    pub fn factor(self) -> f64 {
        f64::from(self.percent) / 100.0
    }
}

/// What a session is recognised by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HashKey {
    /// The client's address without its port.
    #[default]
    ClientIp,
    /// The client's address and port.
    Client,
    /// The name that a TLS client asks for.
    Sni,
    /// The database user, in clear text.
    User,
}

/// Clients return to the server that they had last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Affinity {
    /// What a client is recognised by.
    pub key: HashKey,
    /// How long it is remembered after its last session began.
    pub ttl: Duration,
    /// Clients that are remembered at once.
    pub size: u32,
}

/// The tags of the objects of a snapshot, by their ids.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    /// Of frontends.
    pub frontends: Vec<Tag>,
    /// Of backends.
    pub backends: Vec<Tag>,
    /// Of servers.
    pub servers: Vec<Tag>,
}

impl Snapshot {
    /// The frontend with this id.
    pub fn frontend(&self, id: FrontendId) -> &Frontend {
        &self.frontends[id.0 as usize]
    }

    /// The backend with this id.
    pub fn backend(&self, id: BackendId) -> &Backend {
        &self.backends[id.0 as usize]
    }

    /// The server with this id.
    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0 as usize]
    }

    /// A server's name with that of its backend before it: `postgres/pg1`.
    pub fn full_name(&self, id: ServerId) -> String {
        let server = self.server(id);
        format!("{}/{}", self.backend(server.backend).name, server.name)
    }

    /// What its objects are recognised by in other snapshots.
    pub fn tags(&self) -> Tags {
        let backend = |id: BackendId| &self.backend(id).name;
        Tags {
            frontends: self.frontends.iter().map(|one| Tag::of(&[&one.name])).collect(),
            backends: self.backends.iter().map(|one| Tag::of(&[&one.name])).collect(),
            servers: self
                .servers
                .iter()
                .map(|one| Tag::of(&[backend(one.backend), &one.name]))
                .collect(),
        }
    }

    /// The servers of one backend, in the order of the configuration.
    pub fn servers_of(&self, id: BackendId) -> &[Server] {
        let backend = self.backend(id);
        let first = backend.first_server.0 as usize;
        &self.servers[first..first + backend.server_count as usize]
    }

    /// The ids of the servers of one backend, in the order of the configuration.
    pub fn ids_of(&self, id: BackendId) -> impl Iterator<Item = ServerId> + use<> {
        let Backend { first_server: ServerId(first), server_count, .. } = *self.backend(id);
        (first..first + server_count).map(ServerId)
    }

    /// The place of a server among those of its backend.
    pub fn index_in_backend(&self, id: ServerId) -> usize {
        let first = self.backend(self.server(id).backend).first_server;
        (id.0 - first.0) as usize
    }
}

impl Frontend {
    /// The backends that its sessions may go to; one may be there more than once.
    pub fn backends(&self) -> impl Iterator<Item = BackendId> + '_ {
        std::iter::once(self.backend).chain(self.routes.iter().map(|route| route.backend))
    }

    /// Where a session goes whose client's first message told this: by the first route that fits.
    pub fn route_of(&self, hints: &ClientHints) -> Option<(BackendId, RoleWanted)> {
        let route = self.routes.iter().find(|route| route.fits(hints))?;
        Some((route.backend, route.role))
    }
}
