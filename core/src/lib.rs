//! The workbench of a shard: ring driver, executor, buffers, timers, balance, snapshot, counters.
//!
//! Not here: any protocol above TCP and UDP, TLS, file formats, threads of the control side.
//! `unsafe` is allowed in `sys` alone. Read `reactor` first, then `snapshot` and `balance`.

#![deny(unsafe_code)]

pub mod addresses;
pub mod balance;
#[doc(hidden)]
pub mod bench;
pub mod clients;
pub mod close;
pub mod counters;
pub mod gauges;
pub mod health;
pub mod histogram;
pub mod hops;
pub mod limits;
#[cfg(all(loom, test))]
mod loom_tests;
pub mod mailbox;
pub mod options;
pub mod pace;
mod parking;
pub mod prng;
pub mod queue;
pub mod reactor;
pub mod reason;
pub mod record;
pub mod route;
mod slab;
pub mod snapshot;
mod sync;
pub mod sys;
mod wheel;
