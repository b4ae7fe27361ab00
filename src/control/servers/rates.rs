//! Once a second: measures the bytes per second of each server, and expires affinity entries.
//!
//! Only the control thread sees the counters of all shards. It sums them per server and publishes
//! the rate as one word of the server's gauge, which shards read when they choose: nothing is
//! counted or shared per byte for this. The same round measures the connect times, and how late the
//! round itself was: whatever delays the control thread delays checks and orders as much. Every
//! minute it also frees expired entries of affinity tables. It forgets configurations that no
//! session has any more. Not here: the smoothing
//! (`balance::Meter` of the core).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringlane_core::balance::Meter;
use ringlane_core::ids::{BackendId, ServerId, Tag};
use tokio::time::{MissedTickBehavior, interval};

use crate::control::running::{Current, Running};
use crate::control::traffic::Traffic;
use crate::control::traffic::latency::Latency;
use crate::control::traffic::threads::Threads;

/// Between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);

/// Measurements between two rounds through the affinity tables.
const SWEEP_EVERY: u64 = 60;

/// Measures until the future is dropped.
pub(in crate::control) async fn measure(current: Current, threads: Arc<Threads>) {
    let mut meters = Meters::new();
    threads.register(None);
    let mut ticker = interval(INTERVAL);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u64.. {
        let due = ticker.tick().await.into_std();
        let now = Instant::now();
        threads.tick(now.saturating_duration_since(due));
        let Running { traffic, snapshots, .. } = current.get();
        snapshots.prune();
        publish(&traffic, &mut meters, now);
        let connects = Latency::merge(&traffic, |shard| &shard.connect_time);
        traffic.gauges.common.measure_connects(connects.us_at(0.95));
        if round % SWEEP_EVERY == 0 {
            let backends = (0..).map(BackendId).take(traffic.snapshot.backends.len());
            let tables = backends.filter_map(|id| traffic.gauges.affinity(id));
            tables.for_each(|table| table.sweep(traffic.gauges.millis(now)));
        }
    }
}

/// A meter for each server that is configured.
type Meters = HashMap<Tag, Meter>;

fn publish(traffic: &Traffic, meters: &mut Meters, now: Instant) {
    let tags = &traffic.gauges.tags().servers;
    if meters.len() > tags.len() {
        let there: HashSet<Tag> = tags.iter().copied().collect();
        meters.retain(|tag, _| there.contains(tag));
    }
    for (tag, id) in tags.iter().zip((0..).map(ServerId)) {
        let meter = meters.entry(*tag).or_default();
        let total = traffic.server_total(id, |s| s.bytes_in.get() + s.bytes_out.get());
        traffic.gauges.server(id).measure(meter.observe(total, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::status::tests::running;

    #[test]
    fn bytes_of_all_shards_and_both_directions_make_a_rate() {
        let (traffic, start) = (running().traffic, Instant::now());
        let mut meters = Meters::new();
        publish(&traffic, &mut meters, start);
        assert_eq!(traffic.gauges.server(ServerId(0)).rate(), 0);
        traffic.counters[0].server(ServerId(0)).bytes_in.add(300_000);
        traffic.counters[1].server(ServerId(0)).bytes_out.add(700_000);
        publish(&traffic, &mut meters, start + Duration::from_secs(60));
        let rate = traffic.gauges.server(ServerId(0)).rate();
        assert!((16_600..=16_667).contains(&rate), "{rate}");
        assert_eq!(traffic.gauges.server(ServerId(0)).measured(), 1);
        assert_eq!(traffic.gauges.server(ServerId(1)).rate(), 0);
    }
}
