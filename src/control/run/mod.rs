//! The life of the process: started, served, drained, ended.
//!
//! Not here: what a start takes from the system (`start`), what is shown meanwhile (`report`). Read
//! `supervisor` first, then `serving`.

mod serving;
mod shards;
mod signals;
pub mod supervisor;

pub use supervisor::Supervisor;
