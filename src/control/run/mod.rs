//! The life of the process: start, service, drain, end.
//!
//! Not here: what a start takes from the system (`start`), what is reported (`report`). Read
//! `supervisor` first, then `serving`.

mod live;
mod prepare;
pub(in crate::control) mod publish;
pub(in crate::control) mod refusals;
mod reload;
pub(in crate::control) mod requests;
mod serving;
mod shards;
mod signals;
pub mod supervisor;

pub use supervisor::Supervisor;
