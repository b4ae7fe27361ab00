//! What is configured, as shards read it: one immutable snapshot per configuration.
//!
//! Filled in by the readers of the configuration file; shards only read it. Not here: the file's
//! words and its errors (root package), addresses and socket options (`machine`). Next: `snapshot`.

mod role;
mod route;
mod snapshot;

pub use role::RoleWanted;
pub use route::*;
pub use snapshot::*;
