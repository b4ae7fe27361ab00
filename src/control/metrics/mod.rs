//! `GET /metrics`: the registry's metrics with their present values, as Prometheus text.
//!
//! Not here: what is measured (`registry`, the only list of names), the JSON page (`status`).
//! Invariant: a scrape reads the shards' counters and writes nothing; a metric that several shards
//! count is their sum, unless it has the label `shard`.

mod latency;
mod registry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use ringlane_core::snapshot::{Backend, BackendId, Bandwidth, FrontendId, ServerId};

use super::Running;
pub(super) use latency::{Latency, QUANTILES};
use registry::{METRICS, Metric, Read, Time};
pub(super) use registry::{
    affinity_total, backend_total, frontend_max, frontend_total, queue_total, server_total,
};

/// The text of a scrape.
///
/// # Errors
/// None that a `String` could give; the encoder's interface has them.
pub fn scrape(running: &Arc<Running>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(running))));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Scrape(Arc<Running>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let duration = Latency::merge(&self.0, |shard| &shard.session_duration);
        let connect = Latency::merge(&self.0, |shard| &shard.connect_time);
        let view = View { running: &self.0, duration, connect };
        for metric in METRICS {
            // The encoder adds `_total` to counters by itself.
            let family = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let kind = metric.kind();
            let mut out =
                encoder.encode_descriptor(family, metric.help, None, kind.metric_type())?;
            view.values(metric, |labels, value| value.encode(kind, &mut out, labels))?;
        }
        Ok(())
    }
}

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
        }
    }
}

/// A value and the form in which it is printed.
#[derive(Clone, Copy, Debug)]
enum Value {
    Whole(u64),
    Real(f64),
}

impl Value {
    fn encode(self, kind: Kind, out: &mut MetricEncoder<'_>, labels: Labels<'_>) -> fmt::Result {
        // An empty family would be printed as `{}`.
        if labels.is_empty() {
            self.sample(kind, out)
        } else {
            self.sample(kind, &mut out.encode_family(&labels)?)
        }
    }

    fn sample(self, kind: Kind, out: &mut MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (Kind::Counter, Self::Whole(n)) => out.encode_counter::<NoLabelSet, _, u64>(&n, None),
            (Kind::Counter, Self::Real(n)) => out.encode_counter::<NoLabelSet, _, u64>(&n, None),
            (Kind::Gauge, Self::Whole(n)) => out.encode_gauge(&n),
            (Kind::Gauge, Self::Real(n)) => out.encode_gauge(&n),
        }
    }
}

type Labels<'a> = &'a [(&'static str, &'a str)];

/// What one scrape reads.
struct View<'a> {
    running: &'a Running,
    duration: Latency,
    connect: Latency,
}

impl View<'_> {
    fn latency(&self, time: Time) -> &Latency {
        match time {
            Time::SessionDuration => &self.duration,
            Time::Connect => &self.connect,
        }
    }

    /// Gives the values of the backends that have one.
    fn backends(
        &self,
        has: fn(&Backend) -> bool,
        read: fn(&Running, BackendId) -> u64,
        mut each: impl FnMut(Labels<'_>, Value) -> fmt::Result,
    ) -> fmt::Result {
        let all = self.running.snapshot.backends.iter().zip((0..).map(BackendId));
        all.filter(|(backend, _)| has(backend)).try_for_each(|(backend, id)| {
            each(&[("backend", &backend.name)], Value::Whole(read(self.running, id)))
        })
    }

    /// Gives every value of `metric` to `each`, with its labels.
    fn values(
        &self,
        metric: &Metric,
        mut each: impl FnMut(Labels<'_>, Value) -> fmt::Result,
    ) -> fmt::Result {
        let running = self.running;
        match metric.read {
            Read::Version => each(&[("version", env!("CARGO_PKG_VERSION"))], Value::Whole(1)),
            Read::Process(read) => each(&[], Value::Whole(read(running))),
            Read::ProcessSeconds(read) => each(&[], Value::Real(read(running))),
            Read::Quantiles(which) => QUANTILES.iter().try_for_each(|(name, quantile)| {
                each(&[("quantile", name)], Value::Real(self.latency(which).seconds_at(*quantile)))
            }),
            Read::Sum(which) => each(&[], Value::Real(self.latency(which).sum_seconds())),
            Read::Count(which) => each(&[], Value::Whole(self.latency(which).count())),
            Read::Shard(read) => (0..running.shards()).try_for_each(|index| {
                each(&[("shard", &index.to_string())], Value::Whole(read(running, index)))
            }),
            Read::Frontend(read) => {
                running.snapshot.frontends.iter().zip(0..).try_for_each(|(frontend, id)| {
                    let value = Value::Whole(read(running, FrontendId(id)));
                    each(&[("frontend", &frontend.name)], value)
                })
            }
            Read::Affinity(read) => self.backends(|b| b.affinity.is_some(), read, each),
            Read::Queue(read) => self.backends(|b| b.queue.is_some(), read, each),
            Read::Bandwidth(read) => {
                self.backends(|b| b.bandwidth != Bandwidth::default(), read, each)
            }
            Read::Mirror(read) => self.backends(|b| b.mirror.is_some(), read, each),
            Read::Name(read) => running.names.iter().try_for_each(|name| {
                let lookup = &name.lookup;
                let backend = running.snapshot.server(lookup.first).backend;
                let labels = [
                    ("backend", running.snapshot.backend(backend).name.as_str()),
                    ("server", &lookup.entry),
                    ("name", lookup.name.asked()),
                ];
                each(&labels, Value::Whole(read(name)))
            }),
            Read::ServerIfKnown(read) => {
                running.snapshot.servers.iter().zip(0..).try_for_each(|(server, id)| {
                    let known = running.servers.known(ServerId(id));
                    let Some(value) = known.as_ref().and_then(read) else { return Ok(()) };
                    let backend = &running.snapshot.backend(server.backend).name;
                    each(&[("backend", backend), ("server", &server.name)], Value::Real(value))
                })
            }
            Read::Server(read) => {
                running.snapshot.servers.iter().zip(0..).try_for_each(|(server, id)| {
                    let backend = &running.snapshot.backend(server.backend).name;
                    let value = Value::Whole(read(running, ServerId(id)));
                    each(&[("backend", backend), ("server", &server.name)], value)
                })
            }
        }
    }
}
