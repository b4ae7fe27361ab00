//! Histograms with fixed buckets, as Prometheus wants them.
//!
//! Shards record into fine histograms (`ringlane_core::counters`) that are merged here at a scrape;
//! what the control thread measures itself goes into [`Timings`] directly. The bounds are part of
//! the interface: recording rules and dashboards name them, `docs/metrics.md` lists them.
//! Invariant: a value counts below a bound only if all of its fine bucket does, so that no quantile
//! comes out too low; it may come out too high by the fine buckets' width, 1/32.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringlane_core::counters::{Histogram, ShardCounters};

use super::Traffic;

/// The upper bounds of a histogram's buckets, microseconds, ascending; above the last is `+Inf`.
pub(in crate::control) type Bounds = &'static [u64];

const MS: u64 = 1_000;
const S: u64 = 1_000 * MS;

/// Connecting, checking, lateness: from what a local network takes to a timeout.
pub(in crate::control) const SHORT: Bounds = &[
    100,
    250,
    500,
    MS,
    2_500,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    5 * S,
    10 * S,
    30 * S,
];

/// Sessions: from a request's time to a day.
pub(in crate::control) const LONG: Bounds = &[
    MS,
    5 * MS,
    10 * MS,
    50 * MS,
    100 * MS,
    500 * MS,
    S,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
    300 * S,
    900 * S,
    3_600 * S,
    21_600 * S,
    86_400 * S,
];

/// One histogram at the time of a scrape.
#[derive(Debug)]
pub(in crate::control) struct Buckets {
    /// Upper bound in seconds and the number of values in this bucket alone.
    pub(in crate::control) counts: Vec<(f64, u64)>,
    /// Of all values, seconds.
    pub(in crate::control) sum: f64,
}

impl Buckets {
    /// Merges what every shard has recorded in the histogram that `which` picks.
    pub(in crate::control) fn merge(
        traffic: &Traffic,
        bounds: Bounds,
        which: fn(&ShardCounters) -> &Histogram,
    ) -> Self {
        let mut counts = vec![0; bounds.len() + 1];
        let mut sum = 0_u64;
        for histogram in traffic.shard_counters.iter().map(|shard| which(shard)) {
            sum = sum.wrapping_add(histogram.sum());
            histogram.for_each(|value, count| counts[bucket_of(bounds, value)] += count);
        }
        Self::new(bounds, counts, sum)
    }

    fn new(bounds: Bounds, counts: Vec<u64>, sum_us: u64) -> Self {
        let bounds = bounds.iter().map(|us| seconds(*us)).chain([f64::INFINITY]);
        Self { counts: bounds.zip(counts).collect(), sum: seconds(sum_us) }
    }

    /// How many values there are.
    pub(in crate::control) fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

/// A histogram that is recorded into on the control side.
#[derive(Debug)]
pub(in crate::control) struct Timings {
    counts: [AtomicU64; SHORT.len() + 1],
    sum_us: AtomicU64,
}

impl Default for Timings {
    fn default() -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { counts, sum_us: AtomicU64::new(0) }
    }
}

impl Timings {
    /// Counts one time.
    pub(in crate::control) fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket_of(SHORT, us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The histogram now.
    pub(in crate::control) fn buckets(&self) -> Buckets {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Buckets::new(SHORT, counts, self.sum_us.load(Ordering::Relaxed))
    }
}

/// The first bucket whose bound is not below a value.
fn bucket_of(bounds: Bounds, us: u64) -> usize {
    bounds.partition_point(|bound| *bound < us)
}

/// Exact up to 2^53 µs, which are 285 years.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend() {
        for bounds in [SHORT, LONG] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_above_all_to_the_last() {
        let timings = Timings::default();
        for us in [0, 100, 101, 30 * S, 30 * S + 1] {
            timings.record(Duration::from_micros(us));
        }
        let buckets = timings.buckets();
        let filled: Vec<_> = buckets.counts.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(
            filled,
            [&(0.0001, 2), &(0.00025, 1), &(30.0, 1), &(f64::INFINITY, 1)],
            "{buckets:?}"
        );
        assert_eq!(buckets.count(), 5);
        assert!((buckets.sum - 60.000_202).abs() < 1e-9, "{buckets:?}");
    }
}
