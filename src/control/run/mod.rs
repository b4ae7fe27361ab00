//! The life of the process: start, service, drain, end.
//!
//! Not here: what a start takes from the system (`start`), what is reported (`report`). Read
//! `supervisor` first, then `serving`.

mod serving;
mod shards;
mod signals;
pub mod supervisor;

pub use supervisor::Supervisor;
