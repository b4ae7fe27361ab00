//! The workbench of a shard: ring driver, executor, buffers, timers, balance, settings, counters.
//!
//! Four rooms, each above the ones before it: `machine` (driver and executor, which know nothing of
//! load balancing), `settings` (what is configured), `counters` (what happened, one writer each),
//! `shared` (the words that several shards write) and `balance`, which reads those to choose a
//! server. Not here: any protocol above TCP and UDP, TLS, file formats, threads of the control
//! side, what checks make of servers (`ringlane-health`). `unsafe` is allowed in `machine::sys`
//! alone. Read `machine::reactor` first, then `settings` and `balance`.

#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests make up times and print figures"
    )
)]

pub mod balance;
#[doc(hidden)]
pub mod bench;
pub mod counters;
pub mod ids;
pub mod limits;
#[cfg(all(loom, test))]
mod loom_tests;
pub mod machine;
pub mod parsed;
pub mod prng;
pub mod settings;
pub mod shared;
mod sync;
