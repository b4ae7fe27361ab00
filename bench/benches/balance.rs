//! What choosing a server costs: every policy, with 2, 16 and 1024 servers.
//!
//! `Chooser::choose` as a session calls it, tiers included. A session pays it once; the figures
//! matter at many thousand new connections per second and with many servers.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringlane_core::balance::{Chooser, Turns, View};
use ringlane_core::ids::BackendId;
use ringlane_core::machine::Address;
use ringlane_core::prng::Prng;
use ringlane_core::settings::{BalanceKind, Server};
use ringlane_core::shared::WEIGHT_SCALE;

fn servers(count: u16) -> Vec<Server> {
    let server = |nth: u16| Server {
        name: format!("s{nth}"),
        backend: BackendId(0),
        address: Some(Address::Inet(([127, 0, 0, 1], 1024 + nth).into())),
        weight: 1 + u32::from(nth % 3),
        backup: false,
        max_connections: u32::MAX,
        ..Server::default()
    };
    (0..count).map(server).collect()
}

/// Loads that differ, so that the policies have something to decide.
fn views(count: u16) -> Vec<View> {
    let view = |nth: u32| View {
        sessions: nth.wrapping_mul(2_654_435_761) >> 24,
        max: u32::MAX,
        weight: (1 + nth % 3) * WEIGHT_SCALE,
        rate: u64::from(nth.wrapping_mul(2_654_435_761) >> 12),
        measured: 100,
        open: true,
        usable: true,
        tried: false,
        backup: false,
    };
    (0..u32::from(count)).map(view).collect()
}

fn choose(criterion: &mut Criterion) {
    let policies = [
        ("round_robin", BalanceKind::RoundRobin),
        ("least_conn", BalanceKind::LeastConn),
        ("random_two", BalanceKind::RandomTwo),
        ("source", BalanceKind::Source),
        ("maglev", BalanceKind::Maglev(None)),
        ("ring_hash", BalanceKind::RingHash(None)),
        ("least_bandwidth", BalanceKind::LeastBandwidth),
        ("first", BalanceKind::First),
    ];
    for (name, kind) in policies {
        let mut group = criterion.benchmark_group(name);
        for count in [2, 16, 1024] {
            let mut chooser = Chooser::new(kind, &servers(count));
            let turns = Turns::new(count.into());
            let mut prng = Prng::new(1);
            let views = views(count);
            let view = |nth: usize| views[nth];
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    let key = prng.next_u64();
                    chooser.choose(view, &turns, black_box(key), &mut prng)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, choose);
criterion_main!(benches);
