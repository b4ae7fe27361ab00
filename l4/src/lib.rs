//! Layer 4: relays the bytes of TCP sessions between client and server, and ends them properly.
//!
//! Not here: accepting, choosing a server and connecting to it (`ringlane-shard`); configuration,
//! checks, the admin API (root package); rings, buffers, timers (core). [`Tcp`] is the carrier of
//! one shard. Read `session` first: it is the life of one connection; then `relay` and `pump`,
//! which carry its bytes.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests make up times and print figures"
    )
)]

mod cancel;
mod copy;
mod first_byte;
pub mod first_message;
mod greet;
mod mirror;
mod path;
mod pipes;
mod pump;
mod relay;
mod session;
mod side;
mod splice;
mod taps;
mod tcp;
mod throttle;
mod traffic;
pub mod transactions;

pub use session::begin;
pub use tcp::Tcp;
