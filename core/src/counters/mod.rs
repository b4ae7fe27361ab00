//! What happened: counters with one writer each, histograms, close codes, records for the access
//! log.
//!
//! Not here: words that several shards write and decide by (`shared`). Next: `shard`, then `close`.

mod close;
mod histogram;
mod reason;
mod record;
mod shard;

pub use close::{Cause, Close, Phase};
pub use histogram::Histogram;
pub use reason::{Ending, Reason};
pub use record::{NAME_MAX, Names, SessionRecord, TRIED_MAX, UniqueId};
pub use shard::{
    AffinityCounters, BackendCounters, CloseCounters, Counter, EndedCounters, FrontendCounters,
    LastAddress, QueueCounters, ServerCounters, ShardCounters,
};
