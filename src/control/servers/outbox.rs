//! Messages about one backend that shards have yet to be sent, because their mailboxes were full.
//!
//! Not here: when they are sent (`servers`). Invariants: a shard gets every message once, those
//! about the sessions of a backend in their order; the outbox is bounded, since a message that
//! already waits is not added again; sending to a shard whose mailbox is full costs one attempt,
//! however many messages wait.

use std::collections::{BTreeSet, HashSet, VecDeque};

use ringlane_health::Ended;

/// The messages of one backend, by shard.
#[derive(Debug)]
pub(super) struct Outbox {
    shards: Vec<Pending>,
}

/// The messages for one shard.
#[derive(Debug, Default)]
struct Pending {
    /// Servers whose new address it does not have yet. The address is read when the message is
    /// sent.
    moves: BTreeSet<usize>,
    endings: VecDeque<Ended>,
    /// The same as in `endings`.
    known: HashSet<Ended>,
}

impl Outbox {
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| Pending::default()).collect() }
    }

    /// A server has another address, for all shards.
    pub(super) fn add_move(&mut self, server: usize) {
        for shard in &mut self.shards {
            shard.moves.insert(server);
        }
    }

    /// Sessions end, on all shards.
    pub(super) fn add_ending(&mut self, ended: Ended) {
        for shard in &mut self.shards {
            if shard.known.insert(ended) {
                shard.endings.push_back(ended);
            }
        }
    }

    /// Whether a shard does not have the address of a server yet.
    pub(super) fn has_move(&self, server: usize) -> bool {
        self.shards.iter().any(|shard| shard.moves.contains(&server))
    }

    /// Whether a shard does not have all orders to end sessions yet.
    pub(super) fn has_endings(&self) -> bool {
        self.shards.iter().any(|shard| !shard.endings.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.moves.is_empty() && shard.endings.is_empty())
    }

    /// Sends addresses; `send` gets a shard and a server, and returns whether the shard accepted
    /// it. Returns the servers whose address all shards have now, and did not before.
    pub(super) fn send_moves(&mut self, mut send: impl FnMut(usize, usize) -> bool) -> Vec<usize> {
        let mut sent = BTreeSet::new();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            while let Some(server) = shard.moves.first().copied().filter(|&s| send(index, s)) {
                shard.moves.remove(&server);
                sent.insert(server);
            }
        }
        sent.into_iter().filter(|server| !self.has_move(*server)).collect()
    }

    /// Sends orders to end sessions, as above.
    pub(super) fn send_endings(&mut self, mut send: impl FnMut(usize, Ended) -> bool) {
        for (index, shard) in self.shards.iter_mut().enumerate() {
            while let Some(ended) = shard.endings.front().copied().filter(|&e| send(index, e)) {
                shard.endings.pop_front();
                shard.known.remove(&ended);
            }
        }
    }
}
