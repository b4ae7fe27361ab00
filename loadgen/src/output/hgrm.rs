//! The text format that the plotters of HdrHistogram read, in milliseconds.

use std::fmt::Write;

use crate::latency::Latencies;

/// Lines per halving of the distance to 100 %.
const STEPS: u32 = 5;

/// The percentiles with their counts, and the totals.
pub(super) fn text(latencies: &Latencies) -> String {
    let histogram = latencies.histogram();
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for value in histogram.iter_quantiles(STEPS) {
        count += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let millis = value.value_iterated_to() as f64 / 1e6;
        let _ = write!(text, "{millis:12.3} {quantile:14.12} {count:10}");
        let _ = if quantile < 1.0 {
            writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, " {:>14}", "inf")
        };
    }
    let (mean, deviation) = (histogram.mean() / 1e6, histogram.stdev() / 1e6);
    let (max, total) = (histogram.max() as f64 / 1e6, histogram.len());
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {total:12}]");
    let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048);
    text
}
