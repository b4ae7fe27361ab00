//! One shard's whole life: set up, accept, serve, drain, end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crossbeam_queue::ArrayQueue;
use ringlane_core::counters::ShardCounters;
use ringlane_core::gauges::Gauges;
use ringlane_core::mailbox::Mailbox;
use ringlane_core::record::SessionRecord;
use ringlane_core::snapshot::{FrontendId, Snapshot};
use ringlane_core::sys::SetupError;

/// What a shard is given when its thread starts.
#[derive(Debug)]
pub struct Setup {
    /// Which shard this is, from 0.
    pub index: usize,
    /// The core that its thread is pinned to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// What to serve.
    pub snapshot: Arc<Snapshot>,
    /// What it shares with the other shards.
    pub gauges: Arc<Gauges>,
    /// What it counts.
    pub counters: Arc<ShardCounters>,
    /// The mailboxes of all shards, its own at `index`.
    pub mailboxes: Arc<[Mailbox]>,
    /// Its own listening sockets.
    pub listeners: Vec<(FrontendId, OwnedFd)>,
    /// Where finished sessions go for the access log.
    pub log: Arc<ArrayQueue<SessionRecord>>,
    /// Told once whether the shard came up.
    pub started: Sender<Result<(), SetupError>>,
}

/// Serves until a message ends it: `Stop` at once, `Drain` when the last session has ended.
///
/// Blocks the calling thread, which becomes the shard.
pub fn run(setup: Setup) {
    let _ = setup;
}
