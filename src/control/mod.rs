//! The control side of a running balancer: everything on the control thread and around the shards.
//!
//! Not here: the configuration file (`config`), what shards do (`ringlane-l4`). Invariant: nothing
//! in it holds up a shard; it speaks to shards through mailboxes and reads what they count. Read
//! `running` first, then `supervisor`.

pub mod access_log;
pub mod admin;
mod cores;
mod descriptors;
pub mod log;
pub mod metrics;
mod privileges;
pub mod running;
mod signals;
mod sockets;
pub mod status;
pub mod supervisor;

pub use running::Running;
pub use supervisor::{StartError, Supervisor};
