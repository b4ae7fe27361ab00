//! The control side of a running balancer: everything on the control thread and around the shards.
//!
//! ```text
//! run      the process from its first step to its last: supervisor, serving, shards, signals
//! report   what is shown: status page, metrics, admin API, access log, log lines about sessions
//! running  the parts below, put together
//! changes  what operators changed, by name
//! servers  states of the servers and what changes them: checks, DNS names, outliers, rates
//! start    what a start takes from the system: cores, descriptors, sockets, privileges
//! traffic  what shards count, summed
//! log      the process's own log
//! life, thread
//! ```
//!
//! Each of these uses what is below it and nothing above. Not here: the configuration file
//! (`config`), what shards do (`ringlane-l4`). Invariant: nothing in it holds up a shard; it sends
//! shards messages through mailboxes and reads what they count. Read `running` first, then
//! `run::supervisor`.

mod changes;
mod life;
pub mod log;
pub mod report;
pub mod run;
mod running;
pub mod servers;
pub mod start;
mod thread;
pub mod traffic;

pub use life::{Life, Stage};
pub use run::Supervisor;
pub use running::Running;
pub use start::{BindError, ConnectError, PrivilegesError, StartError, TooFewDescriptors};
