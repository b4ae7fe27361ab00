//! The control side of a running balancer: everything on the control thread and around the shards.
//!
//! Not here: the configuration file (`config`), what shards do (`ringlane-l4`). Invariant: nothing
//! in it holds up a shard; it speaks to shards through mailboxes and reads what they count. Read
//! `running` first, then `supervisor`.

pub mod access_log;
pub mod admin;
mod blocking;
mod checks;
mod cores;
mod descriptors;
mod escape;
mod events;
pub mod log;
pub mod metrics;
pub mod names;
pub mod notice;
mod options;
mod outliers;
mod privileges;
mod rates;
pub mod running;
pub mod servers;
mod serving;
mod shards;
mod signals;
mod sink;
mod sockets;
mod start_error;
pub mod status;
pub mod supervisor;

pub use descriptors::TooFewDescriptors;
pub use options::ConnectError;
pub use privileges::PrivilegesError;
pub use running::{Running, Stage};
pub use sockets::BindError;
pub use start_error::StartError;
pub use supervisor::Supervisor;
