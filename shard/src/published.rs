//! What the control thread publishes to all shards at once.
//!
//! Not here: what one shard makes of it (`generation`).

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use ringlane_core::balance::HashTable;
use ringlane_core::counters::{Counters, SessionRecord};
use ringlane_core::ids::FrontendId;
use ringlane_core::machine::Address;
use ringlane_core::machine::sys::Socket;
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::Gauges;

/// A listening socket's number, for as long as the process listens there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ListenerId(pub u32);

/// What the control thread publishes to all shards at once.
#[derive(Clone, Debug)]
pub struct Published {
    /// What to serve.
    pub snapshot: Arc<Snapshot>,
    /// The words that shards share.
    pub gauges: Arc<Gauges>,
    /// The tables of backends that are balanced by hash, by the ids of all backends.
    pub tables: Arc<[HashTable]>,
    /// What each shard counts, by its index.
    pub counters: Arc<[Counters]>,
    /// Where each shard puts finished sessions for the access log, by its index.
    pub logs: Arc<[Arc<ArrayQueue<SessionRecord>>]>,
    /// The frontend of each listener.
    pub owners: Arc<HashMap<ListenerId, FrontendId>>,
}

/// A configuration for one shard, and what it needs to begin with it.
#[derive(Debug)]
pub struct Installation {
    /// The configuration.
    pub published: Published,
    /// Where each server is now, by its id.
    pub addresses: Vec<Option<Address>>,
    /// New listening sockets of this shard: they are accepted from when it is served.
    pub listeners: Vec<(ListenerId, Socket)>,
    /// Listeners whose socket options have changed.
    pub changed: Arc<[ListenerId]>,
}
