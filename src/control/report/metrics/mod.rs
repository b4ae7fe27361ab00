//! `GET /metrics`: the registry's metrics with their present values, as Prometheus text.
//!
//! Not here: what is measured (`registry`, the only list of names), the JSON page (`status`).
//! Invariants: a scrape reads counters and writes nothing; a metric that several shards count is
//! their sum, unless it has the label `shard`; the work is linear in the servers, and the lock on
//! their states is held for one backend at a time. Next: `read`.

mod format;
mod process;
mod read;
mod registry;
#[cfg(test)]
mod tests;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::control::Running;
use crate::control::traffic::buckets::Buckets;
pub use format::Format;
use read::View;
use registry::METRICS;

/// The text of a scrape.
///
/// # Errors
/// None that a `String` could give; the encoder's interface has them.
pub fn scrape(running: &Running, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(running.clone())));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(format.write(out))
}

#[derive(Debug)]
struct Scrape(Running);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = View::of(&self.0);
        for metric in METRICS {
            let kind = metric.kind;
            let mut out = encoder.encode_descriptor(
                metric.family(),
                metric.help,
                None,
                kind.metric_type(),
            )?;
            view.values(metric.read, &mut |labels, value| value.encode(kind, &mut out, labels))?;
        }
        Ok(())
    }
}

/// What a metric's values are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MetricKind {
    /// Only grows.
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

/// A value and the form in which it is printed.
#[derive(Debug)]
enum Value {
    Whole(u64),
    Real(f64),
    Times(Buckets),
}

impl Value {
    fn encode(
        &self,
        kind: MetricKind,
        out: &mut MetricEncoder<'_>,
        labels: Labels<'_>,
    ) -> fmt::Result {
        // An empty family would be printed as `{}`.
        if labels.is_empty() {
            self.sample(kind, out)
        } else {
            self.sample(kind, &mut out.encode_family(&labels)?)
        }
    }

    fn sample(&self, kind: MetricKind, out: &mut MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (MetricKind::Counter, Self::Whole(n)) => {
                out.encode_counter::<NoLabelSet, _, u64>(n, None)
            }
            (MetricKind::Counter, Self::Real(n)) => {
                out.encode_counter::<NoLabelSet, _, u64>(n, None)
            }
            (_, Self::Whole(n)) => out.encode_gauge(n),
            (_, Self::Real(n)) => out.encode_gauge(n),
            (_, Self::Times(times)) => {
                out.encode_histogram::<NoLabelSet>(times.sum, times.count(), &times.counts, None)
            }
        }
    }
}

impl From<u64> for Value {
    fn from(whole: u64) -> Self {
        Self::Whole(whole)
    }
}

impl From<u32> for Value {
    fn from(whole: u32) -> Self {
        Self::Whole(whole.into())
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Whole(is.into())
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

type Labels<'a> = &'a [(&'static str, &'a str)];
