//! Layer 4: accepts TCP sessions, chooses a server, relays, and says how each one ended.
//!
//! Not here: configuration, checks, the admin API (root package); rings, buffers, timers (core).
//! [`run`] is one shard's whole life. Read `session` first: it is the life of one connection; then
//! `relay` and `pump`, which carry its bytes.

#![forbid(unsafe_code)]

mod accept;
mod cancel;
mod clients;
mod connect;
mod endings;
mod extras;
mod first_byte;
mod greet;
pub mod greeting;
mod mirror;
mod path;
mod pipes;
mod proxy;
mod pump;
mod queue;
mod relay;
mod round;
mod session;
mod shard;
mod splice;
mod throttle;
mod waiting;

pub use shard::{Setup, Thread, run, start};
