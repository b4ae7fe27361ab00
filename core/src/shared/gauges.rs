//! What all shards share while serving: how many sessions each server, frontend and shard has.
//!
//! These are the only words that more than one shard writes, each on its own cache line. They are
//! read for decisions (least_conn, limits, hand-over) and never for accounts; accounts are in
//! `counters`, which have one writer each. Every configuration has its own vectors, indexed by its
//! ids; what stands in them is shared with the configuration before, object by object, found by
//! name ([`Gauges::follow`]). Invariant: an object keeps its words for as long as its name is
//! configured, unless what they count has become something else. Next: `common`, for the words of
//! the process; `balance`, which reads server gauges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::balance::{Turns, affinity};
use crate::ids::{BackendId, FrontendId, Places, ServerId, Tag};
use crate::settings::{Backend, Frontend, RoleWanted, Server, Snapshot, Tags};

use super::clients;
use super::common::Common;
use super::gate::Gate;
use super::hops::Hops;
use super::pace::Pace;
use super::queue::Queue;
use super::server::ServerGauge;

/// Whose turn it is, for each role that sessions may want.
type BackendTurns = [Turns; RoleWanted::COUNT];

/// Bytes per second from clients and from servers.
type BandwidthPaces = [CachePadded<Pace>; 2];

/// The gauges of one configuration.
#[derive(Debug)]
pub struct Gauges {
    /// The words of the process, whatever is configured.
    pub common: Arc<Common>,
    /// Connections of this process to its own listeners.
    pub hops: Hops,
    tags: Tags,
    frontends: Vec<Arc<CachePadded<Gate>>>,
    servers: Vec<Arc<CachePadded<ServerGauge>>>,
    affinities: Vec<Option<Arc<affinity::Table>>>,
    turns: Vec<Arc<BackendTurns>>,
    queues: Vec<Option<Arc<Queue>>>,
    /// New connections per second of each frontend that has a limit.
    rates: Vec<Option<Arc<CachePadded<Pace>>>>,
    /// Of each backend that has a limit.
    bandwidths: Vec<Option<Arc<BandwidthPaces>>>,
    clients: Vec<Option<Arc<clients::Table>>>,
}

impl Gauges {
    /// Gauges at zero for `snapshot` on `shards` shards, whose clock begins at `origin`.
    pub fn new(snapshot: &Snapshot, shards: usize, origin: Instant) -> Self {
        Self::build(snapshot, Arc::new(Common::new(snapshot.max_connections, shards, origin)), None)
    }

    /// Gauges for `snapshot`, which follows the configuration of these: each object that was there
    /// already keeps its words. Limits are changed where they are counted, so they hold at once for
    /// sessions of both configurations; shards that wait at a gate are to be told afterwards.
    pub fn follow(&self, before: &Snapshot, snapshot: &Snapshot, now: Instant) -> Self {
        // What waits for a place is told by the caller.
        let _ = self.common.process.set_max(snapshot.max_connections);
        Self::build(snapshot, Arc::clone(&self.common), Some(Older { gauges: self, before, now }))
    }

    fn build(snapshot: &Snapshot, common: Arc<Common>, older: Option<Older<'_>>) -> Self {
        let tags = snapshot.tags();
        let empty = Tags::default();
        let before = older.map_or(&empty, |older| &older.gauges.tags);
        let frontends = Places::new(&tags.frontends, &before.frontends);
        let backends = Places::new(&tags.backends, &before.backends);
        let servers = Places::new(&tags.servers, &before.servers);
        let frontends = || snapshot.frontends.iter().zip(frontends.iter());
        let backends = || snapshot.backends.iter().zip(backends.iter());
        let shards = common.shards();
        let with_servers = || backends().zip((0..).map(BackendId)).map(|((_, at), id)| (id, at));
        Self {
            frontends: frontends().map(|(one, at)| gate(one, older, at)).collect(),
            servers: snapshot
                .servers
                .iter()
                .zip(servers.iter())
                .map(|(one, at)| server(one, older, at))
                .collect(),
            affinities: with_servers().map(|(id, at)| affinity(snapshot, id, older, at)).collect(),
            turns: with_servers().map(|(id, at)| turns(snapshot, id, older, at)).collect(),
            queues: backends().map(|(one, at)| queue(one, shards, older, at)).collect(),
            rates: frontends().map(|(one, at)| rate(one, older, at)).collect(),
            bandwidths: backends().map(|(one, at)| bandwidth(one, older, at)).collect(),
            clients: frontends().map(|(one, at)| clients(one, older, at)).collect(),
            hops: Hops::follow(&snapshot.frontends, older.map(|older| &older.gauges.hops)),
            common,
            tags,
        }
    }

    /// What a backend is recognised by in other configurations.
    pub fn backend_tag(&self, id: BackendId) -> Tag {
        self.tags.backends[id.0 as usize]
    }

    /// What a server is recognised by in other configurations.
    pub fn server_tag(&self, id: ServerId) -> Tag {
        self.tags.servers[id.0 as usize]
    }

    /// What a frontend is recognised by in other configurations.
    pub fn frontend_tag(&self, id: FrontendId) -> Tag {
        self.tags.frontends[id.0 as usize]
    }

    /// The tags of all objects.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Takes one new connection of a frontend; how long to wait first if it is too early.
    ///
    /// # Errors
    /// The time to wait.
    pub fn try_arrive(&self, id: FrontendId, now: Instant) -> Result<(), Duration> {
        let Some(rate) = &self.rates[id.0 as usize] else { return Ok(()) };
        rate.try_take(1, self.since(now))
    }

    /// Bytes of a backend's clients (0) or servers (1) have come; how long the next of them must
    /// wait.
    pub fn charge_bandwidth(
        &self,
        id: BackendId,
        direction: usize,
        bytes: u64,
        now: Instant,
    ) -> Duration {
        let paces = &self.bandwidths[id.0 as usize];
        let charge = |paces: &BandwidthPaces| paces[direction].charge(bytes, self.since(now));
        paces.as_deref().map(charge).unwrap_or_default()
    }

    /// What the clients of a frontend take, if that is limited.
    pub fn clients(&self, id: FrontendId) -> Option<&clients::Table> {
        self.clients[id.0 as usize].as_deref()
    }

    /// The clock of tables and paces: the time since the process began to serve.
    pub fn since(&self, now: Instant) -> Duration {
        self.common.since(now)
    }

    /// Who waits for the servers of a backend, if it lets sessions wait.
    pub fn queue(&self, id: BackendId) -> Option<&Queue> {
        self.queues[id.0 as usize].as_deref()
    }

    /// The same, to be kept.
    pub fn shared_queue(&self, id: BackendId) -> Option<&Arc<Queue>> {
        self.queues[id.0 as usize].as_ref()
    }

    /// Which servers the clients of a backend had, if it remembers them.
    pub fn affinity(&self, id: BackendId) -> Option<&affinity::Table> {
        self.affinities[id.0 as usize].as_deref()
    }

    /// Whose turn it is among the servers of a backend, for sessions that want this role.
    pub fn turns(&self, id: BackendId, role: RoleWanted) -> &Turns {
        &self.turns[id.0 as usize][role.index()]
    }

    /// The gate of a frontend.
    pub fn frontend(&self, id: FrontendId) -> &Gate {
        &self.frontends[id.0 as usize]
    }

    /// Takes a place at a frontend's gate and at that of the process, or none. `tell` is called if
    /// shards that wait must be told that a place is free.
    pub fn try_enter(&self, id: FrontendId, tell: impl FnOnce()) -> bool {
        // Looked at first: while the process is full, every shard that waits would otherwise take
        // a place at its frontend's gate, give it back, and so wake all others to do the same.
        if self.common.process.is_full() || !self.frontend(id).try_enter() {
            return false;
        }
        if self.common.process.try_enter() {
            return true;
        }
        if self.frontend(id).leave() {
            tell();
        }
        false
    }

    /// Says that the caller waits for what `try_enter` takes.
    pub fn wait(&self, id: FrontendId) {
        self.frontend(id).wait();
        self.common.process.wait();
    }

    /// Gives back what `try_enter` took; `true` if shards that wait must be told.
    #[must_use]
    pub fn leave(&self, id: FrontendId) -> bool {
        let process = self.common.process.leave();
        self.frontend(id).leave() || process
    }

    /// The gauge of a server.
    pub fn server(&self, id: ServerId) -> &ServerGauge {
        &self.servers[id.0 as usize]
    }

    /// The clock of `ServerGauge`: milliseconds since the process began to serve.
    pub fn millis(&self, now: Instant) -> u64 {
        u64::try_from(self.since(now).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The configuration before.
#[derive(Clone, Copy)]
struct Older<'a> {
    gauges: &'a Gauges,
    before: &'a Snapshot,
    now: Instant,
}

fn gate(one: &Frontend, older: Option<Older<'_>>, at: Option<usize>) -> Arc<CachePadded<Gate>> {
    let Some((older, at)) = older.zip(at) else {
        return Arc::new(CachePadded::new(Gate::new(one.max_connections)));
    };
    let gate = Arc::clone(&older.gauges.frontends[at]);
    // Otherwise an operator may have set another limit.
    if older.before.frontends[at].max_connections != one.max_connections {
        let _ = gate.set_max(one.max_connections);
    }
    gate
}

fn server(
    one: &Server,
    older: Option<Older<'_>>,
    at: Option<usize>,
) -> Arc<CachePadded<ServerGauge>> {
    let Some((older, at)) = older.zip(at) else {
        return Arc::new(CachePadded::new(one.into()));
    };
    let gauge = Arc::clone(&older.gauges.servers[at]);
    if older.before.servers[at].max_connections != one.max_connections {
        gauge.set_max(one.max_connections);
    }
    gauge
}

fn queue(
    one: &Backend,
    shards: usize,
    older: Option<Older<'_>>,
    at: Option<usize>,
) -> Option<Arc<Queue>> {
    let size = one.queue?.size;
    let before = older.zip(at).and_then(|(older, at)| older.gauges.queues[at].clone());
    let queue = before.unwrap_or_else(|| Arc::new(Queue::new(size, shards)));
    queue.resize(size);
    Some(queue)
}

/// A tenth of a second's worth may come at once.
fn rate(
    one: &Frontend,
    older: Option<Older<'_>>,
    at: Option<usize>,
) -> Option<Arc<CachePadded<Pace>>> {
    let (rate, burst) = (one.rate?.into(), u64::from(one.rate? / 10).max(1));
    let before = older.zip(at).and_then(|(older, at)| older.gauges.rates[at].clone());
    let pace = before.unwrap_or_else(|| Arc::new(CachePadded::new(Pace::new(rate, burst))));
    pace.set(rate, burst);
    Some(pace)
}

fn bandwidth(
    one: &Backend,
    older: Option<Older<'_>>,
    at: Option<usize>,
) -> Option<Arc<BandwidthPaces>> {
    let bytes = one.bandwidth.per_backend?;
    let before = older.zip(at).and_then(|(older, at)| older.gauges.bandwidths[at].clone());
    let paces = before.unwrap_or_else(|| {
        Arc::new(std::array::from_fn(|_| CachePadded::new(Pace::of_bytes(bytes))))
    });
    paces.iter().for_each(|pace| pace.set_bytes(bytes));
    Some(paces)
}

/// A table of another size begins empty: sessions give their permits back to the table of their own
/// configuration.
fn clients(
    one: &Frontend,
    older: Option<Older<'_>>,
    at: Option<usize>,
) -> Option<Arc<clients::Table>> {
    let limits = one.per_client.as_ref()?;
    let before = older.zip(at).and_then(|(older, at)| older.gauges.clients[at].clone());
    let same_size = before.filter(|table| table.fits(limits));
    let table = same_size.unwrap_or_else(|| Arc::new(clients::Table::new(limits)));
    table.set_limits(limits);
    Some(table)
}

/// Whether a backend has the same servers in the same order as before.
fn same_servers(older: Older<'_>, at: usize, servers: &[Server]) -> bool {
    let before = older.before.servers_of(BackendId(at as u32));
    before.len() == servers.len()
        && before.iter().zip(servers).all(|(before, now)| before.name == now.name)
}

/// The same clients, as far as their servers are still there; a table of another size or key begins
/// empty.
fn affinity(
    snapshot: &Snapshot,
    id: BackendId,
    older: Option<Older<'_>>,
    at: Option<usize>,
) -> Option<Arc<affinity::Table>> {
    let affinity = snapshot.backend(id).affinity?;
    let servers = snapshot.servers_of(id);
    let new = || Arc::new(affinity::Table::new(affinity, servers));
    let Some((older, at)) = older.zip(at) else { return Some(new()) };
    let Some(before) = &older.gauges.affinities[at] else { return Some(new()) };
    if before.affinity() == affinity && same_servers(older, at, servers) {
        return Some(Arc::clone(before));
    }
    let table = new();
    if before.affinity().key == affinity.key {
        let now_ms = older.gauges.millis(older.now);
        table.inherit(before, now_ms, now_ms);
    }
    Some(table)
}

fn turns(
    snapshot: &Snapshot,
    id: BackendId,
    older: Option<Older<'_>>,
    at: Option<usize>,
) -> Arc<BackendTurns> {
    let servers = snapshot.servers_of(id);
    let in_turn = snapshot.backend(id).balance.is_in_turn();
    if let Some((older, at)) = older.zip(at)
        && older.before.backends[at].balance.is_in_turn() == in_turn
        && same_servers(older, at, servers)
    {
        return Arc::clone(&older.gauges.turns[at]);
    }
    let count = if in_turn { servers.len() } else { 0 };
    Arc::new(std::array::from_fn(|_| Turns::new(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges(process: u32, frontend: u32) -> Gauges {
        let snapshot = Snapshot {
            generation: 1,
            max_connections: process,
            log_sessions: false,
            frontends: vec![Frontend { max_connections: frontend, ..Frontend::default() }],
            backends: Vec::new(),
            servers: Vec::new(),
        };
        Gauges::new(&snapshot, 1, Instant::now())
    }

    #[test]
    fn waiting_for_the_process_disturbs_nobody_at_the_frontend() {
        let (frontend, gauges) = (FrontendId(0), gauges(1, 9));
        assert!(gauges.try_enter(frontend, || ()));
        gauges.wait(frontend);
        // Told now, a shard would try again, and again tell itself: a spin.
        assert!(!gauges.try_enter(frontend, || panic!("no place became free")));
        assert_eq!(gauges.frontend(frontend).live(), 1);
        assert!(gauges.leave(frontend));
        assert!(gauges.try_enter(frontend, || ()));
        assert!(!gauges.leave(frontend), "told already");
    }
}
