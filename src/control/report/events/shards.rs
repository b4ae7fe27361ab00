//! What shards ran out of: descriptors at accept, receive buffers, places for access-log records.

use std::time::Instant;

use super::Look;
use super::pacing::{Tally, counted, human};
use crate::control::log::{Level, Notice};

/// What is remembered of a shard.
#[derive(Debug)]
pub(super) struct ShardEvents {
    accepts_failed: Tally,
    buffers: Tally,
    dropped: Tally,
}

impl ShardEvents {
    pub(super) fn new(now: Instant) -> Self {
        let tally = || Tally::new(now);
        Self { accepts_failed: tally(), buffers: tally(), dropped: tally() }
    }

    pub(super) fn look(&mut self, index: usize, look: &mut Look<'_>) {
        let counters = &look.traffic.shard_counters[index];
        let failed = counters.accepts_failed.get();
        if let Some(seen) = self.accepts_failed.observe(failed, look.now, &mut look.budget) {
            let text = format!(
                "shard {index}: cannot accept connections for lack of descriptors or memory (tried {} in \
                 {}): raise LimitNOFILE= or lower max_connections",
                counted(seen.count, "time"),
                human(seen.within)
            );
            push(look, Level::Error, "accepts_failed", text, seen.count);
        }
        let waited = counters.event_loop.buffers_exhausted.get();
        if let Some(seen) = self.buffers.observe(waited, look.now, &mut look.budget) {
            let text = format!(
                "shard {index}: {} in {} waited for a buffer; sessions are slowed down",
                counted(seen.count, "receive"),
                human(seen.within)
            );
            push(look, Level::Warning, "buffers_exhausted", text, seen.count);
        }
        let dropped = counters.log_dropped.get();
        if let Some(seen) = self.dropped.observe(dropped, look.now, &mut look.budget) {
            let text = format!(
                "access log: {} of shard {index} dropped in {} because its queue was full: the \
                 destination is too slow",
                counted(seen.count, "record"),
                human(seen.within)
            );
            push(look, Level::Warning, "access_log_dropped", text, seen.count);
        }
    }
}

fn push(look: &mut Look<'_>, level: Level, event: &'static str, text: String, count: u64) {
    look.notices.push(Notice::new(level, event, text).count(count));
}
