//! Driver and executor of one shard: rings, sockets, buffers, tasks, timers.
//!
//! Not here: anything about load balancing. Next: `reactor`, then `sys`, the only room with
//! `unsafe`.

mod counter;
mod doorbell;
mod options;
pub(crate) mod parking;
pub mod reactor;
pub(crate) mod slab;
pub mod sys;
pub(crate) mod wheel;

pub use counter::Counter;
pub use doorbell::Doorbell;
pub use options::{Address, Congestion, Keepalive, Source, SourceAddress, SourcePorts, TcpOptions};
