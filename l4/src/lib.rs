//! Layer 4: accepts TCP sessions, chooses a server, relays, and says how each one ended.
//!
//! Not here: configuration, checks, the admin API (root package); rings, buffers, timers (core).
//! [`run`] is one shard's whole life. Read `session` first: it is the life of one connection.

#![forbid(unsafe_code)]

mod shard;

pub use shard::{Setup, run};
