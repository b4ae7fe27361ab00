//! The words of the process that its shards share, whatever is configured.
//!
//! Not here: those of frontends, backends and servers (`gauges`). Invariants: a session is counted
//! on exactly one shard; no session is on its way to a shard that has ended.

use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::gate::Gate;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The words of one process.
#[derive(Debug)]
pub struct Common {
    origin: Instant,
    /// Live sessions against `[global] max_connections`.
    pub process: CachePadded<Gate>,
    /// Live sessions of each shard, and [`CLOSED`].
    shards: Vec<CachePadded<AtomicU32>>,
    /// Orders to end sessions that each shard has carried out.
    acknowledged: Vec<CachePadded<AtomicU64>>,
    /// The last configuration that each shard has installed, and the last that it serves.
    installed: Vec<CachePadded<[AtomicU64; 2]>>,
    /// Microseconds that 95 of 100 connects take; 0 before the first. Written by the control
    /// thread.
    connect_p95_us: AtomicU64,
}

/// Set in the count of a shard that takes no session from others any more.
const CLOSED: u32 = 1 << 31;

impl Common {
    /// Zeros, for `shards` shards whose clock begins at `origin`.
    pub fn new(max_connections: u32, shards: usize, origin: Instant) -> Self {
        let installed = || CachePadded::new([AtomicU64::new(0), AtomicU64::new(0)]);
        Self {
            origin,
            process: CachePadded::new(Gate::new(max_connections)),
            shards: (0..shards).map(|_| CachePadded::new(AtomicU32::new(0))).collect(),
            acknowledged: (0..shards).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            installed: (0..shards).map(|_| installed()).collect(),
            connect_p95_us: AtomicU64::new(0),
        }
    }

    /// The clock of tables and paces: the time since the process began to serve.
    pub fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Live sessions of a shard, those on their way to it included.
    pub fn shard(&self, index: usize) -> u32 {
        self.shards[index].load(Ordering::Relaxed) & !CLOSED
    }

    /// The same for comparing shards: as many as can be for one that takes no session from others.
    pub fn load(&self, index: usize) -> u32 {
        self.shards[index].load(Ordering::Relaxed)
    }

    /// How long 95 of 100 connects take, once there were some.
    pub fn connect_p95(&self) -> Option<Duration> {
        let micros = self.connect_p95_us.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Publishes how long 95 of 100 connects take. For the control thread.
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

    /// The last configuration that a shard has installed.
    pub fn installed(&self, shard: usize) -> u64 {
        self.installed[shard][0].load(Ordering::Acquire)
    }

    /// A shard has installed a configuration.
    pub fn set_installed(&self, shard: usize, generation: u64) {
        self.installed[shard][0].store(generation, Ordering::Release);
    }

    /// The configuration that a shard serves.
    pub fn served(&self, shard: usize) -> u64 {
        self.installed[shard][1].load(Ordering::Acquire)
    }

    /// A shard serves a configuration.
    pub fn set_served(&self, shard: usize, generation: u64) {
        self.installed[shard][1].store(generation, Ordering::Release);
    }

    /// A session begins on a shard.
    pub fn enter_shard(&self, index: usize) {
        self.shards[index].fetch_add(1, Ordering::AcqRel);
    }

    /// A session ends on a shard.
    pub fn leave_shard(&self, index: usize) {
        self.shards[index].fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a session in on another shard, unless that is closed: it may have ended already and
    /// would never look into its mailbox again.
    pub fn try_hand_over(&self, index: usize) -> bool {
        let enter = |word: u32| (word & CLOSED == 0).then_some(word + 1);
        self.shards[index].fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// A shard takes no session from others from now on.
    pub fn close_shard(&self, index: usize) {
        self.shards[index].fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Whether a closed shard may end: it has no session, and none is on its way to it.
    pub fn is_shard_empty(&self, index: usize) -> bool {
        // Not a load: it takes its turn among the comings and goings. Asked only while draining.
        self.shards[index].fetch_add(0, Ordering::AcqRel) & !CLOSED == 0
    }
}
