//! The shards' histograms of one time, poured together: quantiles, sum, count.

use hdrhistogram::Histogram as Hdr;
use ringlane_core::counters::ShardCounters;
use ringlane_core::histogram::Histogram;

use crate::control::Running;

/// The quantiles that are published, with their names.
pub(in crate::control) const QUANTILES: [(&str, f64); 4] =
    [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999)];

/// The greatest value that the shards tell apart, microseconds.
const MAX_US: u64 = 1 << 40;

/// One time, merged over all shards.
#[derive(Debug)]
pub(in crate::control) struct Latency {
    values: Hdr<u64>,
    sum_us: u64,
}

impl Latency {
    /// Merges what every shard of `running` has recorded in the histogram that `which` picks.
    pub(in crate::control) fn merge(
        running: &Running,
        which: fn(&ShardCounters) -> &Histogram,
    ) -> Self {
        let mut values =
            Hdr::new_with_max(MAX_US, 3).expect("constant bounds that the histogram can have");
        let mut sum_us = 0_u64;
        for shard in &running.counters {
            which(shard).pour_into(&mut values);
            sum_us = sum_us.wrapping_add(which(shard).sum());
        }
        Self { values, sum_us }
    }

    /// How many values there are.
    pub(in crate::control) fn count(&self) -> u64 {
        self.values.len()
    }

    /// The value below which this part of all values lies, microseconds; 0 without values.
    pub(in crate::control) fn us_at(&self, quantile: f64) -> u64 {
        // The top of a bucket may lie above the greatest value that falls into it.
        self.values.value_at_quantile(quantile).min(self.max_us())
    }

    /// The greatest value, microseconds.
    pub(in crate::control) fn max_us(&self) -> u64 {
        self.values.max()
    }

    pub(super) fn seconds_at(&self, quantile: f64) -> f64 {
        seconds(self.us_at(quantile))
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        seconds(self.sum_us)
    }
}

/// Exact up to 2^53 µs, which are 285 years.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
