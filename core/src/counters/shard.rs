//! What a shard counts of itself, whatever it serves: one writer (the shard), any reader.
//!
//! Not here: what it counts of frontends, backends and servers (`objects`), gauges that several
//! shards write (`shared`), names for people (the root package's registry). Invariant: counters
//! never go down.

use std::sync::Arc;

use crate::counters::Histogram;
use crate::machine::Counter;
use crate::machine::reactor::LoopCounters;

/// The counters of one shard, for its whole life.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardCounters {
    /// What its event loop counts.
    pub event_loop: Arc<LoopCounters>,
    /// Times that accepting paused because a limit was reached.
    pub accepts_paused: Counter,
    /// Listeners whose changed socket options the kernel refused.
    pub options_refused: Counter,
    /// Accepts that failed for want of a descriptor or memory.
    pub accepts_failed: Counter,
    /// Connections handed to a less loaded shard right after accept.
    pub handed_over: Counter,
    /// Connections taken from a more loaded shard.
    pub taken_over: Counter,
    /// Directions that moved from copying to splicing.
    pub splice_entered: Counter,
    /// Directions that moved back from splicing to copying.
    pub splice_left: Counter,
    /// Access-log records dropped because the queue was full.
    pub log_dropped: Counter,
    /// Session durations, microseconds.
    pub session_duration: Histogram,
    /// Times for a server to accept, microseconds.
    pub connect_time: Histogram,
    /// Times that sessions spent in a backend's queue, microseconds.
    pub queue_wait: Histogram,
}
