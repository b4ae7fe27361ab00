//! The threads of the process: their CPU time, and how well the control thread keeps up.
//!
//! Not here: starting them (`run::shards`). Written by the threads themselves, each its own entry.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

use super::buckets::Timings;

/// The kernel's numbers of the threads of all shards and of the control thread.
#[derive(Debug)]
pub(in crate::control) struct Threads {
    /// By shard, and last that of the control thread; 0 before the thread runs.
    ids: Vec<AtomicI32>,
    created_at: Instant,
    /// The control thread's last tick, milliseconds after `created_at`.
    ticked_ms: AtomicU64,
    /// How late the control thread's ticks came.
    pub(in crate::control) control_lag: Timings,
}

impl Threads {
    /// For this number of shards; no thread runs yet.
    pub(in crate::control) fn new(shards: usize) -> Self {
        Self {
            ids: (0..=shards).map(|_| AtomicI32::new(0)).collect(),
            created_at: Instant::now(),
            ticked_ms: AtomicU64::new(0),
            control_lag: Timings::default(),
        }
    }

    /// The calling thread is that of a shard, or, without one, the control thread.
    pub(in crate::control) fn register(&self, shard: Option<usize>) {
        self.ids[self.index(shard)].store(gettid().as_raw(), Ordering::Relaxed);
    }

    /// CPU time of a shard's thread, or, without one, of the control thread.
    pub(in crate::control) fn cpu_time(&self, shard: Option<usize>) -> Option<Duration> {
        let thread = self.ids.get(self.index(shard))?.load(Ordering::Relaxed);
        // The clock of a thread as pthread_getcpuclockid(3) makes its number: the thread's number
        // inverted, then "of a thread" (4) and "the scheduler's time" (2).
        let clock = ClockId::from_raw((!thread << 3) | 4 | 2);
        (thread > 0).then(|| clock_gettime(clock).ok().map(Duration::from))?
    }

    /// The control thread does what it does every second, so much later than it was due.
    pub(in crate::control) fn tick(&self, late: Duration) {
        self.control_lag.record(late);
        let now = u64::try_from(self.created_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ticked_ms.store(now, Ordering::Relaxed);
    }

    /// Time since the control thread's last tick.
    pub(in crate::control) fn since_tick(&self) -> Duration {
        let ticked = Duration::from_millis(self.ticked_ms.load(Ordering::Relaxed));
        self.created_at.elapsed().saturating_sub(ticked)
    }

    fn index(&self, shard: Option<usize>) -> usize {
        shard.unwrap_or(self.ids.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_cpu_time_of_its_own_once_it_runs() {
        let threads = Threads::new(2);
        assert_eq!(threads.cpu_time(Some(0)), None);
        threads.register(Some(0));
        threads.register(None);
        let mine = threads.cpu_time(Some(0)).unwrap();
        let process = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap();
        assert!(!mine.is_zero() && mine <= process);
        assert!(threads.cpu_time(None).unwrap() >= mine);
    }
}
