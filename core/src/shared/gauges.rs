//! What all shards share while serving: how many sessions each server, frontend and shard has.
//!
//! These are the only words that more than one shard writes, each on its own cache line. They are
//! read for decisions (least_conn, limits, hand-over) and never for accounts; accounts are in
//! `counters`, which have one writer each. Next: `balance`, which reads server gauges.

use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::balance::{Turns, affinity};
use crate::ids::{BackendId, FrontendId, ServerId};
use crate::settings::{Backend, Frontend, RoleWanted, Snapshot};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::clients;
use super::gate::Gate;
use super::hops::Hops;
use super::pace::Pace;
use super::queue::Queue;
use super::server::ServerGauge;

/// The gauges of one running configuration.
#[derive(Debug)]
pub struct Gauges {
    origin: Instant,
    draining: AtomicBool,
    /// Live sessions of the process against `[global] max_connections`.
    pub process: CachePadded<Gate>,
    frontends: Vec<CachePadded<Gate>>,
    servers: Vec<CachePadded<ServerGauge>>,
    shards: Vec<CachePadded<AtomicU32>>,
    /// Orders to end sessions that each shard has carried out.
    acknowledged: Vec<CachePadded<AtomicU64>>,
    /// Microseconds that 95 of 100 connects take; 0 before the first. Written by the control
    /// thread.
    connect_p95_us: AtomicU64,
    affinities: Vec<Option<affinity::Table>>,
    /// Whose turn it is in each backend, for each role that sessions may want.
    turns: Vec<[Turns; RoleWanted::COUNT]>,
    /// Connections of this process to its own listeners.
    pub hops: Hops,
    queues: Vec<Option<Queue>>,
    /// New connections per second of each frontend that has a limit.
    rates: Vec<Option<CachePadded<Pace>>>,
    /// Bytes per second of each backend that has a limit, from clients and from servers.
    bandwidths: Vec<Option<[CachePadded<Pace>; 2]>>,
    clients: Vec<Option<clients::Table>>,
}

impl Gauges {
    /// Gauges at zero for `snapshot` on `shards` shards, whose clock begins at `origin`.
    pub fn new(snapshot: &Snapshot, shards: usize, origin: Instant) -> Self {
        let gate = |max| CachePadded::new(Gate::new(max));
        let affinity = |(id, backend): (u32, &Backend)| {
            let servers = snapshot.servers_of(BackendId(id));
            backend.affinity.map(|affinity| affinity::Table::new(affinity, servers))
        };
        let turns = |(id, backend): (u32, &Backend)| {
            let servers = snapshot.servers_of(BackendId(id)).len();
            let count = if backend.balance.is_in_turn() { servers } else { 0 };
            std::array::from_fn(|_| Turns::new(count))
        };
        let queue = |backend: &Backend| backend.queue.map(|queue| Queue::new(queue.size, shards));
        // A tenth of a second's worth may come at once.
        let rate =
            |rate: u32| CachePadded::new(Pace::new(rate.into(), u64::from(rate / 10).max(1)));
        let bandwidth = |backend: &Backend| {
            let pace = |bytes| CachePadded::new(Pace::of_bytes(bytes));
            backend.bandwidth.per_backend.map(|bytes| [pace(bytes), pace(bytes)])
        };
        let clients = |frontend: &Frontend| frontend.per_client.as_ref().map(clients::Table::new);
        Self {
            origin,
            draining: AtomicBool::new(false),
            process: gate(snapshot.max_connections),
            frontends: snapshot.frontends.iter().map(|f| gate(f.max_connections)).collect(),
            servers: snapshot
                .servers
                .iter()
                .map(|server| CachePadded::new(server.into()))
                .collect(),
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            acknowledged: (0..shards).map(|_| CachePadded::default()).collect(),
            connect_p95_us: AtomicU64::new(0),
            affinities: (0..).zip(&snapshot.backends).map(affinity).collect(),
            turns: (0..).zip(&snapshot.backends).map(turns).collect(),
            hops: Hops::new(&snapshot.frontends),
            queues: snapshot.backends.iter().map(queue).collect(),
            rates: snapshot.frontends.iter().map(|frontend| frontend.rate.map(rate)).collect(),
            bandwidths: snapshot.backends.iter().map(bandwidth).collect(),
            clients: snapshot.frontends.iter().map(clients).collect(),
        }
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
        let charge =
            |paces: &[CachePadded<Pace>; 2]| paces[direction].charge(bytes, self.since(now));
        paces.as_ref().map(charge).unwrap_or_default()
    }

    /// What the clients of a frontend take, if that is limited.
    pub fn clients(&self, id: FrontendId) -> Option<&clients::Table> {
        self.clients[id.0 as usize].as_ref()
    }

    /// The clock of tables and paces: the time since these gauges were made.
    pub fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }

    /// Who waits for the servers of a backend, if it lets sessions wait.
    pub fn queue(&self, id: BackendId) -> Option<&Queue> {
        self.queues[id.0 as usize].as_ref()
    }

    /// Which servers the clients of a backend had, if it remembers them.
    pub fn affinity(&self, id: BackendId) -> Option<&affinity::Table> {
        self.affinities[id.0 as usize].as_ref()
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
        if self.process.is_full() || !self.frontend(id).try_enter() {
            return false;
        }
        if self.process.try_enter() {
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
        self.process.wait();
    }

    /// Gives back what `try_enter` took; `true` if shards that wait must be told.
    #[must_use]
    pub fn leave(&self, id: FrontendId) -> bool {
        let process = self.process.leave();
        self.frontend(id).leave() || process
    }

    /// The gauge of a server.
    pub fn server(&self, id: ServerId) -> &ServerGauge {
        &self.servers[id.0 as usize]
    }

    /// Live sessions of a shard, those on their way to it included.
    pub fn shard(&self, index: usize) -> u32 {
        self.shards[index].load(Ordering::Relaxed)
    }

    /// How long 95 of 100 connects take, once there were some.
    pub fn connect_p95(&self) -> Option<Duration> {
        let micros = self.connect_p95_us.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Says how long 95 of 100 connects take. For the control thread.
    pub fn measure_connects(&self, p95_us: u64) {
        self.connect_p95_us.store(p95_us, Ordering::Relaxed);
    }

    /// Orders to end sessions that a shard has carried out.
    pub fn acknowledged(&self, shard: usize) -> u64 {
        self.acknowledged[shard].load(Ordering::Acquire)
    }

    /// A shard has carried out another order.
    pub fn acknowledge(&self, shard: usize) {
        self.acknowledged[shard].fetch_add(1, Ordering::Release);
    }

    /// A session begins on a shard.
    pub fn enter_shard(&self, index: usize) {
        self.shards[index].fetch_add(1, Ordering::SeqCst);
    }

    /// A session ends on a shard.
    pub fn leave_shard(&self, index: usize) {
        self.shards[index].fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts a session in on another shard, unless shards have begun to drain: one of them may
    /// have ended already and would never look into its mailbox again.
    pub fn try_hand_over(&self, index: usize) -> bool {
        self.enter_shard(index);
        if !self.draining.load(Ordering::SeqCst) {
            return true;
        }
        self.leave_shard(index);
        false
    }

    /// Shards drain from now on: no session is handed over any more.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether a draining shard may end. Says no while a session is on its way to it.
    pub fn is_shard_empty(&self, index: usize) -> bool {
        // Not a load: this takes its turn among the comings and goings, so that whoever comes after
        // it sees that shards drain. Adds nothing, and is asked only while draining.
        self.shards[index].fetch_add(0, Ordering::SeqCst) == 0
    }

    /// The clock of `ServerGauge`: milliseconds since these gauges were made.
    pub fn millis(&self, now: Instant) -> u64 {
        u64::try_from(self.since(now).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
impl Gauges {
    /// Gauges of `shards` shards and one frontend, with so many places at the gates.
    pub(crate) fn for_test(process: u32, frontend: u32, shards: usize) -> Self {
        Self {
            origin: Instant::now(),
            draining: AtomicBool::new(false),
            process: CachePadded::new(Gate::new(process)),
            frontends: vec![CachePadded::new(Gate::new(frontend))],
            servers: Vec::new(),
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            acknowledged: (0..shards).map(|_| CachePadded::default()).collect(),
            connect_p95_us: AtomicU64::new(0),
            affinities: Vec::new(),
            turns: Vec::new(),
            hops: Hops::new(&[]),
            queues: Vec::new(),
            rates: vec![None],
            bandwidths: Vec::new(),
            clients: vec![None],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_process_disturbs_nobody_at_the_frontend() {
        let (frontend, gauges) = (FrontendId(0), Gauges::for_test(1, 9, 1));
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
