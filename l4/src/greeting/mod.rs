//! What clients say before a server is chosen, and what tells when their sessions are idle.
//!
//! Plain parsers that are given bytes: no I/O, no clock. A greeting may come in any pieces; a parser
//! is given all that came so far and says whether it is whole ([`Progress`]). Not here: choosing by
//! it (`greet`), and the PROXY header that may stand before it (`proxy`). Invariants: nothing that a
//! stranger sends makes a parser panic, or keep more than [`GREETING_MAX`] bytes. Next:
//! `client_hello`, then `postgres`.

pub mod client_hello;
pub mod postgres;
mod reader;

/// Bytes of the longest greeting that is waited for; one that is longer is refused.
pub const GREETING_MAX: usize = 16 * 1024;

/// How far a greeting has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress<T> {
    /// It is whole.
    Done(T),
    /// More bytes are needed.
    More,
    /// It is something else.
    Not,
}
