//! Stories in simulated worlds: the real shards, a made-up network, and one seed for each.
//!
//! `many_seeds` runs 256 worlds, or as many as `RINGLANE_SIM_SEEDS` says from `RINGLANE_SIM_FROM`
//! on; `RINGLANE_SIM_TRACE` prints what happens. Use `cargo xtask sim`, which sets them. Not here:
//! real sockets (`tests/it`). Read `world` for how a world lives, `verdict` for what is checked.

#![forbid(unsafe_code)]

mod affinity;
mod balancer;
mod client;
mod content;
mod faults;
mod first_message;
mod mirror;
mod orders;
mod permits;
mod queues;
mod reloads;
mod server;
mod stories;
mod story;
mod verdict;
mod world;

use std::env;
use std::time::{Duration, Instant};

/// Worlds in an ordinary test run.
const SEEDS: u64 = 256;

fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} is \"{text}\", which is not a number"))
}

/// Says how to see a failure again, however it came about.
struct LastWords(u64);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("see it again: cargo xtask sim --seeds 1 --from {seed} --trace");
        }
    }
}

#[test]
fn many_seeds() {
    let (from, seeds) = (number("RINGLANE_SIM_FROM", 0), number("RINGLANE_SIM_SEEDS", SEEDS));
    let (begin, mut sessions, mut lived) = (Instant::now(), 0, Duration::ZERO);
    for seed in from..from + seeds {
        let mut world = story::world(seed);
        let _last_words = LastWords(seed);
        world.printed = env::var_os("RINGLANE_SIM_TRACE").is_some();
        match world.run() {
            Ok(report) => {
                sessions += report.sessions;
                lived += report.lasted;
            }
            Err(failure) => panic!("seed {seed} failed: {failure}"),
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds passed in {took:.1} s: {:.0} seeds/s, {:.0} simulated sessions/s; \
         {sessions} sessions, {:.0} simulated hours",
        seeds as f64 / took,
        sessions as f64 / took,
        lived.as_secs_f64() / 3600.0
    );
}

#[test]
fn equal_seeds_give_equal_worlds() {
    for seed in [1, 2, 3, 5, 8, 13, 21, 34] {
        let trace = || story::world(seed).run().map(|report| report.trace);
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}
