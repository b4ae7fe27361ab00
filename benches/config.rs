//! What reading a configuration costs: 1, 100 and 1,000 backends of four servers each.
//!
//! It happens at start and at every reload, on the control thread; the figure says how long a large
//! file keeps that thread.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringlane::config;

/// A file with so many backends, each behind a frontend of its own.
fn file(backends: u32) -> String {
    let mut text = String::from("[global]\nshards = 2\n");
    for nth in 0..backends {
        let port = 1024 + nth;
        let _ = write!(
            text,
            "\n[[frontend]]\nname = \"f{nth}\"\nbind = \"127.0.0.1:{port}\"\nbackend = \"b{nth}\"\n\
             timeout = {{ connect = \"2s\", idle = \"1h\" }}\n\n\
             [[backend]]\nname = \"b{nth}\"\nbalance = \"least_conn\"\nserver = [\n"
        );
        for server in 1..=4 {
            let _ = writeln!(
                text,
                "  {{ name = \"s{server}\", address = \"10.0.0.{server}:{port}\" }},"
            );
        }
        text.push_str("]\n");
    }
    text
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("config");
    for backends in [1, 100, 1000] {
        let text = file(backends);
        assert!(config::parse("bench", &text).is_ok(), "the file is meant to be right");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("parse", backends), |bencher| {
            bencher.iter(|| config::parse("bench", black_box(&text)).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
