//! A balancer with known numbers, and its page.

use std::time::{Duration, Instant};

use ringlane_core::balance::{Known, key};
use ringlane_core::ids::ServerId;
use ringlane_core::machine::Address;
use ringlane_core::settings::{
    Affinity, Backend as Group, Bandwidth, Frontend as Side, HashKey, Mirror, QueueSettings,
    Server as Member, Snapshot, Timeout,
};
use serde_json::{Value, json};

use super::*;
use crate::config::{Lookup, Name};
use crate::control::Stage;
use crate::control::start::Listening;
use ringlane_core::machine::sys::DriverKind;

fn member(name: &str, address: &str, backup: bool) -> Member {
    let address = Some(Address::Inet(address.parse().unwrap()));
    Member {
        name: name.to_owned(),
        backend: BackendId(0),
        address,
        weight: 2,
        backup,
        max_connections: u32::MAX,
        ..Member::default()
    }
}

/// One frontend, one backend, two servers.
pub(in crate::control) fn snapshot() -> Snapshot {
    let hour = Duration::from_secs(3600);
    Snapshot {
        generation: 1,
        max_connections: 200,
        log_sessions: true,
        frontends: vec![Side {
            name: "pg \"write\"".to_owned(),
            bind: vec![Address::Inet("127.0.0.1:0".parse().unwrap())],
            backend: BackendId(0),
            max_connections: 100,
            timeout: Timeout {
                greeting: hour,
                connect: hour,
                client: hour,
                server: hour,
                fin: None,
            },
            ..Side::default()
        }],
        backends: vec![Group {
            name: "postgres".to_owned(),
            balance: BalanceKind::LeastConn,
            affinity: Some(Affinity { key: HashKey::ClientIp, ttl: hour, size: 100 }),
            queue: Some(QueueSettings { size: 9, timeout: None }),
            bandwidth: Bandwidth { per_session: Some(1_250_000), per_backend: None },
            mirror: Some(Mirror {
                server: Address::Inet(([192, 0, 2, 9], 5432).into()),
                per_million: 10_000,
            }),
            server_count: 2,
            ..Group::default()
        }],
        servers: vec![member("pg1", "10.0.0.1:5432", false), member("pg2", "[::1]:5432", true)],
    }
}

/// A serving balancer of two shards that has counted a little.
pub(in crate::control) fn running() -> Running {
    let bound = vec![vec![
        Address::Inet("127.0.0.1:5432".parse().unwrap()),
        Address::Unix("/run/pg.sock".into()),
    ]];
    let lookup = Lookup {
        name: Name::Addresses { name: "pg2.internal".to_owned(), port: 5432 },
        entry: "pg2".to_owned(),
        first: ServerId(1),
        slots: 1,
        weight: 2,
    };
    let (cpus, listening) = (vec![Some(0), None], Listening::new(bound));
    let running = Running::for_test(snapshot(), vec![lookup], DriverKind::Uring, cpus, listening);
    for (shard, turns, bytes) in [(0, 5, 10), (1, 7, 20)] {
        let counters = &running.traffic.shard_counters[shard];
        counters.event_loop.turns.add(turns);
        counters.session_duration.record(1000 * (shard as u64 + 1));
        let frontend = running.traffic.counters[shard].frontend(FrontendId(0));
        frontend.sessions.add(shard as u64 + 1);
        frontend.bytes_in.add(bytes);
    }
    running.traffic.counters[1].server(ServerId(1)).connects_failed.add(1);
    running.traffic.gauges.server(ServerId(1)).failed(1);
    running.traffic.gauges.server(ServerId(0)).try_enter();
    running.traffic.gauges.server(ServerId(0)).measure(4096);
    running.traffic.counters[0].affinity(BackendId(0)).hits.add(5);
    let table = running.traffic.gauges.affinity(BackendId(0)).unwrap();
    let client = |kind| key(kind, Known { client: "10.1.1.1:5".parse().ok(), hints: None });
    let now = running.traffic.gauges.millis(Instant::now());
    table.assign(client(HashKey::ClientIp), 1, now, |_| true);
    assert!(running.traffic.gauges.frontend(FrontendId(0)).try_enter());
    running.life.enter(Stage::Serving);
    running
}

#[test]
fn the_page_has_the_merged_numbers() {
    let running = running();
    let page = serde_json::to_value(Status::of(&running)).unwrap();
    for (pointer, wanted) in [
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/revision", json!(env!("RINGLANE_REVISION"))),
        ("/generation", json!(1)),
        ("/state", json!("serving")),
        ("/pid", json!(process::id())),
        ("/driver", json!("io_uring")),
        ("/sessions_max", json!(200)),
        ("/shards/0/cpu", json!(0)),
        ("/shards/1/cpu", Value::Null),
        ("/shards/1/turns", json!(7)),
        ("/frontends/0/name", json!("pg \"write\"")),
        ("/frontends/0/bind", json!(["127.0.0.1:5432", "unix:/run/pg.sock"])),
        ("/frontends/0/sessions", json!(3)),
        ("/frontends/0/sessions_live", json!(1)),
        ("/frontends/0/bytes_in", json!(30)),
        ("/backends/0/balance", json!("least_conn")),
        ("/backends/0/queue/size", json!(9)),
        ("/backends/0/servers/0/state", json!("up")),
        ("/backends/0/servers/0/admin", json!("ready")),
        ("/backends/0/servers/0/role", json!("unknown")),
        ("/backends/0/servers/0/weight_effective", json!(2.0)),
        ("/backends/0/servers/0/check", Value::Null),
        ("/backends/0/servers/0/bytes_per_second", json!(4096)),
        ("/backends/0/servers/0/sessions_live", json!(1)),
        ("/backends/0/servers/1/state", json!("down")),
        ("/backends/0/servers/1/backup", json!(true)),
        ("/backends/0/servers/1/address", json!("[::1]:5432")),
        ("/backends/0/servers/1/connects_failed", json!(1)),
        ("/latency/session_duration/count", json!(2)),
        ("/latency/connect_time/p99.9", json!(0)),
    ] {
        assert_eq!(page.pointer(pointer), Some(&wanted), "{pointer} in {page:#}");
    }
    assert!(page.pointer("/shards/2").is_none() && page.pointer("/frontends/1").is_none());
    assert!(page["uptime_seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0));
}

#[test]
fn a_frontend_without_a_limit_has_that_of_the_process() {
    let mut snapshot = snapshot();
    snapshot.frontends[0].max_connections = u32::MAX;
    let (cpus, listening) = (vec![None], Listening::new(vec![Vec::new()]));
    let running = Running::for_test(snapshot, Vec::new(), DriverKind::Epoll, cpus, listening);
    let page = serde_json::to_value(Status::of(&running)).unwrap();
    assert_eq!(page["frontends"][0]["sessions_max"], 200);
}

#[test]
fn quantiles_stay_within_the_histograms_error() {
    let running = running();
    let page = serde_json::to_value(Status::of(&running)).unwrap();
    let quantile = |name: &str| page["latency"]["session_duration"][name].as_u64().unwrap();
    for (name, least) in [("p50", 1000), ("p90", 2000), ("p99", 2000), ("p99.9", 2000)] {
        let found = quantile(name);
        assert!((least..=least + least / 32).contains(&found), "{name} is {found}");
    }
}
