//! What all shards share while serving: how many sessions each server, frontend and shard has.
//!
//! These are the only words that more than one shard writes, each on its own cache line. They are
//! read for decisions (least_conn, limits, hand-over) and never for accounts; accounts are in
//! `counters`, which have one writer each. Next: `balance`, which reads server gauges.

use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::balance::{Turns, affinity};
use crate::clients;
use crate::health::{Orders, RoleWanted, WEIGHT_SCALE};
use crate::hops::Hops;
use crate::pace::Pace;
use crate::queue::Queue;
use crate::snapshot::{Backend, BackendId, Frontend, FrontendId, Server, ServerId, Snapshot};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Milliseconds for which a server that failed a connect is not tried again, but by one session.
pub const RETRY_FAILED_MS: u64 = 1000;

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
    /// Words on ending sessions that each shard has acted upon.
    heard: Vec<CachePadded<AtomicU64>>,
    /// Microseconds that 95 of 100 connects take; 0 before the first. Written by the control thread.
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
            heard: (0..shards).map(|_| CachePadded::default()).collect(),
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

    /// Words on ending sessions that a shard has acted upon: those whom they meant have heard.
    pub fn heard(&self, shard: usize) -> u64 {
        self.heard[shard].load(Ordering::Acquire)
    }

    /// A shard has acted upon another word.
    pub fn hear(&self, shard: usize) {
        self.heard[shard].fetch_add(1, Ordering::Release);
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

/// One server as all shards see it.
#[derive(Debug, Default)]
pub struct ServerGauge {
    sessions: AtomicU32,
    /// Sessions that it may have.
    max: u32,
    avoid_until_ms: AtomicU64,
    /// Written by the control thread alone, as are the next two.
    orders: AtomicU64,
    /// Bytes per second, both directions.
    rate: AtomicU64,
    /// Sessions when the rate was measured.
    measured: AtomicU32,
    /// As above: percentage of segments sent again with which a session counts as lossy; 0: none does.
    loss_limit: AtomicU32,
    /// As above: milliseconds after which a session's first byte comes late; 0: it never does.
    first_byte_limit_ms: AtomicU64,
}

impl From<&Server> for ServerGauge {
    /// Without sessions, and open until somebody says otherwise, if it has an address.
    fn from(server: &Server) -> Self {
        let gauge = Self { max: server.max_connections, ..Self::default() };
        let open = server.address.is_some();
        gauge.order(Orders::new([open, false, false], server.weight.saturating_mul(WEIGHT_SCALE)));
        gauge
    }
}

impl ServerGauge {
    /// Sessions that this server has now, those still connecting included.
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Bytes per second that it carried lately, all shards together.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Sessions that it had when its rate was measured.
    pub fn measured(&self) -> u32 {
        self.measured.load(Ordering::Relaxed)
    }

    /// Publishes its rate, which its present sessions make. For the control thread.
    pub fn measure(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
        self.measured.store(self.sessions(), Ordering::Relaxed);
    }

    /// The percentage of segments sent again above which a session is lossy, if somebody asked.
    pub fn loss_limit(&self) -> Option<u32> {
        Some(self.loss_limit.load(Ordering::Relaxed)).filter(|limit| *limit != 0)
    }

    /// Asks for lossy sessions to be counted. For the control thread.
    pub fn limit_loss(&self, percent: u32) {
        self.loss_limit.store(percent, Ordering::Relaxed);
    }

    /// How long its first byte may take after a client's, if somebody asked.
    pub fn first_byte_limit(&self) -> Option<Duration> {
        let limit = self.first_byte_limit_ms.load(Ordering::Relaxed);
        (limit != 0).then(|| Duration::from_millis(limit))
    }

    /// Asks for sessions whose first byte comes later to be counted, to the millisecond and at least
    /// one. For the control thread.
    pub fn limit_first_byte(&self, limit: Option<Duration>) {
        let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.first_byte_limit_ms.store(limit.map_or(0, millis), Ordering::Relaxed);
    }

    /// Whether it has as many sessions as it may have.
    pub fn is_full(&self) -> bool {
        self.sessions() >= self.max
    }

    /// A session takes a place at this server, unless it is full.
    pub fn try_enter(&self) -> bool {
        let enter = |sessions| (sessions < self.max).then_some(sessions + 1);
        self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    /// A session left this server.
    pub fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connect failed at `now_ms`: leave the server alone for a while.
    pub fn failed(&self, now_ms: u64) {
        self.avoid_until_ms.store(now_ms + RETRY_FAILED_MS, Ordering::Relaxed);
    }

    /// A connect succeeded.
    pub fn answered(&self) {
        if self.avoid_until_ms.load(Ordering::Relaxed) != 0 {
            self.avoid_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// What it may take, as the control thread last said.
    pub fn orders(&self) -> Orders {
        Orders::from_bits(self.orders.load(Ordering::Relaxed))
    }

    /// Says what it may take from now on. For the control thread.
    pub fn order(&self, orders: Orders) {
        self.orders.store(orders.to_bits(), Ordering::Relaxed);
    }

    /// Whether the last connect failed and none has succeeded since.
    pub fn is_down(&self) -> bool {
        self.avoid_until_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether a session may choose this server at `now_ms`: it is up, or its time-out is over.
    pub fn is_usable(&self, now_ms: u64) -> bool {
        self.avoid_until_ms.load(Ordering::Relaxed) <= now_ms
    }

    /// Claims the one trial that a failed server gets when its time-out is over; `true` for a
    /// server that is up. Whoever gets `false` lost the race and should choose again.
    pub fn claim(&self, now_ms: u64) -> bool {
        let until = self.avoid_until_ms.load(Ordering::Relaxed);
        until == 0
            || (until <= now_ms
                && self
                    .avoid_until_ms
                    .compare_exchange(
                        until,
                        now_ms + RETRY_FAILED_MS,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    )
                    .is_ok())
    }
}

/// A bounded number of places that all shards draw from.
///
/// Protocol: `try_enter`; on `false`, `wait` and then `try_enter` once more before sleeping, since
/// a place may have become free in between. Whoever leaves asks `leave` whether all shards must be
/// woken. Count and waiting are one word, so one of two things is true of each `wait`: a later
/// `leave` sees it, or the `try_enter` after it sees every place that was given back before.
/// A failed `try_enter` changes nothing: a count raised for a moment would turn others away from
/// a place that is free.
#[derive(Debug)]
pub struct Gate {
    max: u32,
    /// Places taken in the low half; above them [`WAITING`].
    state: AtomicU64,
}

/// Set while a shard may be asleep for want of a place.
const WAITING: u64 = 1 << 32;

/// Places taken, of a gate's state.
const fn taken(state: u64) -> u32 {
    state as u32
}

impl Gate {
    /// A gate with `max` places.
    pub fn new(max: u32) -> Self {
        Self { max, state: AtomicU64::new(0) }
    }

    /// Takes a place if one is free.
    pub fn try_enter(&self) -> bool {
        let enter = |state| (taken(state) < self.max).then_some(state + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// Gives a place back; `true` if somebody waits for one.
    #[must_use]
    pub fn leave(&self) -> bool {
        let waited = |state| state & WAITING != 0;
        waited(self.state.fetch_sub(1, Ordering::AcqRel))
            && waited(self.state.fetch_and(!WAITING, Ordering::AcqRel))
    }

    /// Says that the caller waits for a place.
    pub fn wait(&self) {
        self.state.fetch_or(WAITING, Ordering::AcqRel);
    }

    /// Places taken.
    pub fn live(&self) -> u32 {
        taken(self.state.load(Ordering::Relaxed))
    }

    /// Whether no place is free. Whoever asks after `wait` is told when that changes.
    pub fn is_full(&self) -> bool {
        self.live() >= self.max
    }

    /// Places in all.
    pub fn max(&self) -> u32 {
        self.max
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
            heard: (0..shards).map(|_| CachePadded::default()).collect(),
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
    fn a_gate_lets_max_in_and_tells_who_leaves_about_waiters() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        assert!(!gate.try_enter());
        gate.wait();
        assert!(gate.leave(), "somebody waits");
        assert!(gate.try_enter());
        assert!(!gate.leave(), "nobody waits any more");
        assert_eq!(gate.live(), 0);
    }

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

    #[test]
    fn a_failed_server_gets_one_trial_per_interval_and_a_full_one_no_session() {
        let server = ServerGauge { max: 1, ..ServerGauge::default() };
        assert!(server.try_enter() && server.is_full() && !server.try_enter());
        server.leave();
        assert!(!server.is_full());
        assert!(server.is_usable(0) && server.claim(0));
        server.failed(10);
        assert!(server.is_down() && !server.is_usable(11));
        let later = 10 + RETRY_FAILED_MS;
        assert!(server.is_usable(later) && server.claim(later), "the trial");
        assert!(!server.is_usable(later), "only one");
        server.answered();
        assert!(!server.is_down() && server.claim(later));
    }
}
