//! What a shard's own parts cost: timer wheel, slab, mailbox.
//!
//! Every session that is relayed pays these many times a second: each operation is named by the
//! slab and each wait may arm a timer. They are measured full, as on a busy shard.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringlane_core::bench::{BenchSlab, BenchWheel};
use ringlane_core::prng::Prng;
use ringlane_shard::{Mailbox, Message};

/// Timers or entries that are there already.
const LOADS: [u64; 3] = [16, 1024, 65_536];

fn wheel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    for load in LOADS {
        let mut wheel = BenchWheel::new();
        let mut prng = Prng::new(1);
        for _ in 0..load {
            wheel.arm(3_600_000 + prng.next_u64() % 3_600_000);
        }
        group.bench_function(BenchmarkId::new("arm and disarm", load), |bencher| {
            bencher.iter(|| {
                let timer = wheel.arm(black_box(prng.next_u64() % 60_000));
                wheel.disarm(timer);
            });
        });
    }
    let mut wheel = BenchWheel::new();
    let mut now = 0;
    group.bench_function("arm and expire", |bencher| {
        bencher.iter(|| {
            now += 1;
            wheel.arm(black_box(now + 1));
            wheel.expire(now)
        });
    });
    group.finish();
}

fn slab(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slab");
    for load in LOADS {
        let mut slab = BenchSlab::new();
        let keys: Vec<_> = (0..load).map(|n| slab.insert(n)).collect();
        let mut prng = Prng::new(1);
        group.bench_function(BenchmarkId::new("insert and remove", load), |bencher| {
            bencher.iter(|| {
                let key = slab.insert(black_box(7));
                slab.remove(key)
            });
        });
        group.bench_function(BenchmarkId::new("get", load), |bencher| {
            bencher.iter(|| slab.get(keys[(prng.next_u64() % load) as usize]));
        });
    }
    group.finish();
}

fn mailbox(criterion: &mut Criterion) {
    // Needs a descriptor and nothing else; without one there is nothing to measure.
    let Ok(mailbox) = Mailbox::new() else { return };
    criterion.bench_function("mailbox/post and take", |bencher| {
        bencher.iter(|| {
            let posted = mailbox.post(black_box(Message::GateOpened));
            (posted.is_ok(), mailbox.take().is_some())
        });
    });
}

criterion_group!(benches, wheel, slab, mailbox);
criterion_main!(benches);
