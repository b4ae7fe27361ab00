//! The quantiles of a time over all shards, for `/status` and `race_after`.
//!
//! Not here: the histograms of `/metrics` (`buckets`), from which Prometheus computes its own.

use std::collections::BTreeMap;

use ringlane_core::counters::{Histogram, ShardCounters};

use super::Traffic;

/// One time, merged over all shards.
#[derive(Debug, Default)]
pub(in crate::control) struct Latency {
    /// Values by size, and how many there are of each. Only of those that occur: this is made every
    /// second, and a table of all that can occur would be the largest thing on the heap.
    values: BTreeMap<u64, u64>,
}

impl Latency {
    /// Merges what every shard has recorded in the histogram that `which` picks.
    pub(in crate::control) fn merge(
        traffic: &Traffic,
        which: fn(&ShardCounters) -> &Histogram,
    ) -> Self {
        let mut latency = Self::default();
        traffic.shard_counters.iter().for_each(|shard| latency.add(which(shard)));
        latency
    }

    /// Of these values, and how many there are of each.
    pub(in crate::control) fn from_values(values: BTreeMap<u64, u64>) -> Self {
        Self { values }
    }

    /// The values, and how many there are of each.
    pub(in crate::control) fn into_values(self) -> BTreeMap<u64, u64> {
        self.values
    }

    fn add(&mut self, histogram: &Histogram) {
        histogram.for_each(|value, count| *self.values.entry(value).or_default() += count);
    }

    /// How many values there are.
    pub(in crate::control) fn count(&self) -> u64 {
        self.values.values().sum()
    }

    /// The value that this part of all values does not exceed, microseconds; 0 without values.
    pub(in crate::control) fn us_at(&self, quantile: f64) -> u64 {
        let rank = (self.count() as f64 * quantile).ceil().max(1.0) as u64;
        let mut below = 0;
        let reaches = |(_, count): &(&u64, &u64)| {
            below += **count;
            below >= rank
        };
        self.values.iter().find(reaches).map_or_else(|| self.max_us(), |(value, _)| *value)
    }

    /// The greatest value, microseconds.
    pub(in crate::control) fn max_us(&self) -> u64 {
        self.values.last_key_value().map_or(0, |(value, _)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let (one, other) = (Histogram::default(), Histogram::default());
        (1..=900).for_each(|us| one.record(us));
        (901..=1000).for_each(|us| other.record(us));
        let mut latency = Latency::default();
        assert_eq!((latency.count(), latency.us_at(0.5), latency.max_us()), (0, 0, 0));
        latency.add(&one);
        latency.add(&other);
        assert_eq!(latency.count(), 1000);
        for (quantile, least) in [(0.0, 1), (0.5, 500), (0.9, 900), (0.999, 999), (1.0, 1000)] {
            let us = latency.us_at(quantile);
            assert!((least..=least + least / 32 + 1).contains(&us), "{quantile}: {us}");
        }
    }

    #[test]
    fn a_single_value_is_every_quantile() {
        let (one, mut latency) = (Histogram::default(), Latency::default());
        one.record(7);
        latency.add(&one);
        assert_eq!([0.0, 0.5, 0.999].map(|quantile| latency.us_at(quantile)), [7; 3]);
    }
}
