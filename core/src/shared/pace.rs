//! So much per second for all shards together: a frontend's new connections, a backend's bytes.
//!
//! One word holds the time until which everything that came has been paid for (the Generic Cell
//! Rate Algorithm, ITU-T I.371). Not here: waiting, and reading a clock. Invariant: over any time,
//! no more than the rate times that time passes, plus the burst.

use std::time::Duration;

use crate::limits::BUFFER_SIZE;
use crate::sync::{AtomicU64, Ordering};

/// Bytes that pass at once where their rate is limited: what comes in a fiftieth of a second, as a
/// shard wakes to the millisecond, but no less than a few buffers.
const BYTES_AT_ONCE: u64 = 4 * BUFFER_SIZE as u64;
const BURSTS_PER_SECOND: u64 = 50;

/// The limit and what has been used of it.
#[derive(Debug)]
pub struct Pace {
    /// Units per second.
    rate: AtomicU64,
    /// Nanoseconds that may be paid for ahead.
    ahead: AtomicU64,
    /// Until when what came is paid for, in nanoseconds.
    paid: AtomicU64,
}

impl Pace {
    /// `rate` units per second, `burst` of them at once.
    pub fn new(rate: u64, burst: u64) -> Self {
        let pace =
            Self { rate: AtomicU64::new(0), ahead: AtomicU64::new(0), paid: AtomicU64::new(0) };
        pace.set(rate, burst);
        pace
    }

    /// Changes both from the next unit on; what has been used stays used.
    pub fn set(&self, rate: u64, burst: u64) {
        let rate = rate.max(1);
        self.rate.store(rate, Ordering::Relaxed);
        self.ahead.store(nanos(burst.max(1) - 1, rate), Ordering::Relaxed);
    }

    /// So many bytes per second, with a burst that a shard can keep.
    pub fn of_bytes(rate: u64) -> Self {
        Self::new(rate, bytes_at_once(rate))
    }

    /// Changes it to so many bytes per second.
    pub fn set_bytes(&self, rate: u64) {
        self.set(rate, bytes_at_once(rate));
    }

    /// Takes so many units, `since` the clock began; how long to wait first, and then to ask anew,
    /// if it is too early.
    ///
    /// # Errors
    /// The time to wait. Nothing was taken.
    pub fn try_take(&self, units: u64, since: Duration) -> Result<(), Duration> {
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let (rate, ahead) = self.limits();
        let mut wait = 0;
        let take = |paid: u64| {
            let paid = paid.max(now);
            wait = (paid - now).saturating_sub(ahead);
            (wait == 0).then(|| paid.saturating_add(nanos(units, rate)))
        };
        let taken = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| Duration::from_nanos(wait))
    }

    /// Takes so many units that have passed already; how long to wait before more may.
    pub fn charge(&self, units: u64, since: Duration) -> Duration {
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let (rate, ahead) = self.limits();
        let cost = nanos(units, rate);
        let charge = |paid: u64| Some(paid.max(now).saturating_add(cost));
        let before = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
        let paid = before.unwrap_or_default().max(now).saturating_add(cost);
        Duration::from_nanos((paid - now).saturating_sub(ahead))
    }

    fn limits(&self) -> (u64, u64) {
        (self.rate.load(Ordering::Relaxed), self.ahead.load(Ordering::Relaxed))
    }
}

/// Bytes of a limited rate that pass at once.
fn bytes_at_once(rate: u64) -> u64 {
    (rate / BURSTS_PER_SECOND).max(BYTES_AT_ONCE)
}

fn nanos(units: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(units) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let pace = Pace::new(10, 3);
        let take = |ms| pace.try_take(1, Duration::from_millis(ms));
        assert_eq!([0, 0, 0].map(take), [Ok(()); 3]);
        assert_eq!(take(0), Err(Duration::from_millis(100)));
        assert_eq!(take(60), Err(Duration::from_millis(40)));
        assert_eq!([100, 200].map(take), [Ok(()); 2]);
        assert!(take(200).is_err());
        pace.set(1000, 1);
        assert_eq!(take(200), Err(Duration::from_millis(300)), "what was used stays used");
        assert_eq!([500, 501].map(take), [Ok(()); 2], "the new rate");
    }

    #[test]
    fn what_has_passed_is_waited_for() {
        let pace = Pace::new(1000, 100);
        let charge = |units, ms| pace.charge(units, Duration::from_millis(ms));
        assert_eq!(charge(99, 0), Duration::ZERO);
        assert_eq!(charge(500, 0), Duration::from_millis(500));
        assert_eq!(charge(0, 400), Duration::from_millis(100));
        assert_eq!(charge(0, 5000), Duration::ZERO);
    }
}
