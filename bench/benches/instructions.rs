//! Instructions per operation of what a shard does, counted by valgrind: the same on any machine.
//!
//! Each function does [`TIMES`] operations, so that what surrounds them vanishes in the division.
//! `cargo xtask bench instructions` runs this and keeps the table in docs/instructions.md.

#![allow(missing_docs, unused_qualifications, reason = "gungraun's attributes write items for us")]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use ringlane_core::balance::{Chooser, Turns, View};
use ringlane_core::bench::{BenchSlab, BenchWheel};
use ringlane_core::ids::BackendId;
use ringlane_core::machine::Address;
use ringlane_core::prng::Prng;
use ringlane_core::settings::{BalanceKind, LoadBound, Server};
use ringlane_core::shared::WEIGHT_SCALE;
use ringlane_shard::{Mailbox, Message};

/// Operations per count. `instructions.rs` of the program divides by it.
const TIMES: u64 = 1000;

const BOUND: Option<LoadBound> = Some(LoadBound { percent: 125 });

/// A chooser, and what it is told: loads that differ, so that there is something to decide.
fn chooser(kind: BalanceKind, count: u16) -> (Chooser, Vec<View>) {
    let server = |nth: u16| Server {
        name: format!("s{nth}"),
        backend: BackendId(0),
        address: Some(Address::Inet(([127, 0, 0, 1], 1024 + nth).into())),
        weight: 1 + u32::from(nth % 3),
        backup: false,
        max_connections: u32::MAX,
        ..Server::default()
    };
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
    let servers: Vec<Server> = (0..count).map(server).collect();
    (Chooser::new(kind, &servers), (0..u32::from(count)).map(view).collect())
}

#[library_benchmark]
#[bench::round_robin_2(chooser(BalanceKind::RoundRobin, 2))]
#[bench::round_robin_16(chooser(BalanceKind::RoundRobin, 16))]
#[bench::round_robin_1024(chooser(BalanceKind::RoundRobin, 1024))]
#[bench::least_conn_2(chooser(BalanceKind::LeastConn, 2))]
#[bench::least_conn_16(chooser(BalanceKind::LeastConn, 16))]
#[bench::least_conn_1024(chooser(BalanceKind::LeastConn, 1024))]
#[bench::random_two_2(chooser(BalanceKind::RandomTwo, 2))]
#[bench::random_two_16(chooser(BalanceKind::RandomTwo, 16))]
#[bench::random_two_1024(chooser(BalanceKind::RandomTwo, 1024))]
#[bench::source_2(chooser(BalanceKind::Source, 2))]
#[bench::source_16(chooser(BalanceKind::Source, 16))]
#[bench::source_1024(chooser(BalanceKind::Source, 1024))]
#[bench::maglev_2(chooser(BalanceKind::Maglev(None), 2))]
#[bench::maglev_16(chooser(BalanceKind::Maglev(None), 16))]
#[bench::maglev_1024(chooser(BalanceKind::Maglev(None), 1024))]
#[bench::maglev_bounded_2(chooser(BalanceKind::Maglev(BOUND), 2))]
#[bench::maglev_bounded_16(chooser(BalanceKind::Maglev(BOUND), 16))]
#[bench::maglev_bounded_1024(chooser(BalanceKind::Maglev(BOUND), 1024))]
#[bench::ring_hash_2(chooser(BalanceKind::RingHash(None), 2))]
#[bench::ring_hash_16(chooser(BalanceKind::RingHash(None), 16))]
#[bench::ring_hash_1024(chooser(BalanceKind::RingHash(None), 1024))]
#[bench::least_bandwidth_2(chooser(BalanceKind::LeastBandwidth, 2))]
#[bench::least_bandwidth_16(chooser(BalanceKind::LeastBandwidth, 16))]
#[bench::least_bandwidth_1024(chooser(BalanceKind::LeastBandwidth, 1024))]
#[bench::first_2(chooser(BalanceKind::First, 2))]
#[bench::first_16(chooser(BalanceKind::First, 16))]
#[bench::first_1024(chooser(BalanceKind::First, 1024))]
fn choose((mut chooser, views): (Chooser, Vec<View>)) -> (Chooser, Vec<View>) {
    let turns = Turns::new(views.len());
    let mut prng = Prng::new(1);
    let view = |nth: usize| views[nth];
    for _ in 0..TIMES {
        let key = prng.next_u64();
        black_box(chooser.choose(view, &turns, key, &mut prng));
    }
    (chooser, views)
}

fn wheel(timers: u64) -> BenchWheel {
    let mut wheel = BenchWheel::new();
    let mut prng = Prng::new(1);
    for _ in 0..timers {
        wheel.arm(3_600_000 + prng.next_u64() % 3_600_000);
    }
    wheel
}

#[library_benchmark]
#[bench::timers_1024(wheel(1024))]
fn wheel_arm_and_disarm(mut wheel: BenchWheel) -> BenchWheel {
    for n in 0..TIMES {
        let timer = wheel.arm(black_box(n * 37 % 60_000));
        wheel.disarm(timer);
    }
    wheel
}

#[library_benchmark]
#[bench::timers_1(wheel(0))]
fn wheel_arm_and_expire(mut wheel: BenchWheel) -> BenchWheel {
    for now in 1..=TIMES {
        wheel.arm(black_box(now + 1));
        black_box(wheel.expire(now));
    }
    wheel
}

fn slab(entries: u64) -> BenchSlab {
    let mut slab = BenchSlab::new();
    for n in 0..entries {
        slab.insert(n);
    }
    slab
}

#[library_benchmark]
#[bench::entries_1024(slab(1024))]
fn slab_insert_and_remove(mut slab: BenchSlab) -> BenchSlab {
    for n in 0..TIMES {
        let key = slab.insert(black_box(n));
        black_box(slab.remove(key));
    }
    slab
}

#[library_benchmark]
#[bench::awake(Mailbox::new())]
fn mailbox_post_and_take(mailbox: std::io::Result<Mailbox>) -> std::io::Result<Mailbox> {
    let mailbox = mailbox?;
    for _ in 0..TIMES {
        black_box(mailbox.post(black_box(Message::GateOpened)).is_ok());
        black_box(mailbox.take().is_some());
    }
    Ok(mailbox)
}

library_benchmark_group!(
    name = parts,
    benchmarks = [
        choose,
        wheel_arm_and_disarm,
        wheel_arm_and_expire,
        slab_insert_and_remove,
        mailbox_post_and_take
    ]
);
main!(library_benchmark_groups = parts);
