//! The quantiles of a time over all shards, for `/status` and `race_after`.
//!
//! Not here: the histograms of `/metrics` (`buckets`), from which Prometheus makes quantiles itself.

use hdrhistogram::Histogram as Hdr;
use ringlane_core::counters::ShardCounters;
use ringlane_core::histogram::Histogram;

use crate::control::Running;

/// The greatest value that the shards tell apart, microseconds.
const MAX_US: u64 = 1 << 40;

/// One time, merged over all shards.
#[derive(Debug)]
pub(in crate::control) struct Latency {
    values: Hdr<u64>,
}

impl Latency {
    /// Merges what every shard of `running` has recorded in the histogram that `which` picks.
    pub(in crate::control) fn merge(
        running: &Running,
        which: fn(&ShardCounters) -> &Histogram,
    ) -> Self {
        let mut values =
            Hdr::new_with_max(MAX_US, 3).expect("constant bounds that the histogram can have");
        for shard in &running.counters {
            which(shard).pour_into(&mut values);
        }
        Self { values }
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
}
