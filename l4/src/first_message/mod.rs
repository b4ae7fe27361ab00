//! Parsers of what clients send before a server is chosen.
//!
//! Each gets all that came so far and tells whether it is a whole message. Not here: choosing by it
//! (`greet`). Invariants: nothing that a client sends makes a parser panic, or keep more than
//! [`GREETING_MAX`] bytes. Next: `client_hello`, then `postgres`.

pub mod client_hello;
pub mod postgres;
mod reader;

/// Bytes of the longest first message; a longer one is refused.
pub const GREETING_MAX: usize = 16 * 1024;
