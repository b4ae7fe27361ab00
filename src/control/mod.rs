//! The control side of a running balancer: everything on the control thread and around the shards.
//!
//! ```text
//! run      the process from its first step to its last: supervisor, serving, shards, signals
//! report   what is shown: status page, metrics, admin API, access log, lines about sessions
//! servers  what is known and decided of servers: their states, checks, names, outliers, rates
//! start    what a start takes from the system: cores, descriptors, sockets, privileges
//! log      the process's own log
//! ```
//!
//! Each folder uses those below it and none above. Not here: the configuration file (`config`), what
//! shards do (`ringlane-l4`). Invariant: nothing in it holds up a shard; it sends shards messages
//! through mailboxes and reads what they count. Read `running` first, then `run::supervisor`.

pub mod log;
pub mod report;
pub mod run;
pub mod running;
pub mod servers;
pub mod start;

pub use run::Supervisor;
pub use running::{Running, Stage};
pub use start::{BindError, ConnectError, PrivilegesError, StartError, TooFewDescriptors};
