//! A log-linear histogram that one shard writes and anyone may read while it does.
//!
//! `hdrhistogram::Histogram` can't be read while another thread writes, so shards fill these plain
//! buckets and the control thread merges them for quantiles. Values are microseconds; 32
//! buckets per power of two keep the relative error below 1/32.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a value that are kept: 2^5 buckets per power of two.
const PRECISION: u32 = 5;
/// The largest power of two told apart: 2^40 µs are twelve days.
const MAGNITUDES: u32 = 40;
const BUCKETS: usize = ((MAGNITUDES - PRECISION + 1) << PRECISION) as usize;

/// Counts of values by size.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one value, in microseconds. Only the owning shard may call this.
    pub fn record(&self, micros: u64) {
        let bucket = &self.buckets[index(micros)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.sum.store(self.sum.load(Ordering::Relaxed).wrapping_add(micros), Ordering::Relaxed);
    }

    /// The sum of all values, in microseconds.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Calls `each` for every bucket that is not empty, in ascending order, with the highest value
    /// that falls into it and its count.
    pub fn for_each(&self, mut each: impl FnMut(u64, u64)) {
        for (i, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Ordering::Relaxed);
            if count > 0 {
                each(highest(i), count);
            }
        }
    }

    /// Adds all counts to an HDR histogram, each as the highest value of its bucket.
    pub fn pour_into(&self, hdr: &mut hdrhistogram::Histogram<u64>) {
        self.for_each(|value, count| hdr.saturating_record_n(value, count));
    }
}

/// The bucket of a value.
fn index(value: u64) -> usize {
    let value = value.min((1 << MAGNITUDES) - 1);
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION + 1);
    ((u64::from(shift) << PRECISION) + (value >> shift)) as usize
}

/// The highest value that falls into bucket `index`.
fn highest(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index >> PRECISION).saturating_sub(1);
    let mantissa = index - (shift << PRECISION);
    ((mantissa + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_contains_its_values_within_the_promised_error() {
        for value in (0..5000).chain((0..40).map(|n| (1 << n) + n)) {
            let top = highest(index(value));
            assert!(top >= value, "{value} is above its bucket's top {top}");
            assert!(top - value <= value >> PRECISION, "{value} → {top}");
        }
        assert!(index(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_come_out_of_the_hdr_histogram() {
        let ours = Histogram::default();
        (1..=1000).for_each(|v| ours.record(v));
        let mut hdr = hdrhistogram::Histogram::new_with_max(1 << MAGNITUDES, 3).unwrap();
        ours.pour_into(&mut hdr);
        assert_eq!(hdr.len(), 1000);
        let median = hdr.value_at_quantile(0.5);
        assert!((500..=516).contains(&median), "{median}");
        assert_eq!(ours.sum(), 500_500);
    }
}
