//! What happened: counters with one writer each, histograms, close codes, records for the access
//! log.
//!
//! Not here: words that several shards write and decide by (`shared`). Next: `shard` and `objects`,
//! then `close`.

mod close;
mod histogram;
mod objects;
mod reason;
mod record;
mod shard;

pub use close::{Cause, Close, Phase};
pub use histogram::Histogram;
pub use objects::{
    AffinityCounters, BackendCounters, CloseCounters, Counters, EndedCounters, FrontendCounters,
    LastAddress, QueueCounters, ServerCounters,
};
pub use reason::{Ending, Reason};
pub use record::{NAME_MAX, Names, SessionRecord, TRIED_MAX, UniqueId};
pub use shard::ShardCounters;
