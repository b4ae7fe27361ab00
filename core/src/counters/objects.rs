//! What a shard counts of the objects that it serves: frontends, servers, queues, tables.
//!
//! One object per shard and configured thing, found by name when a configuration is published, so
//! that counts go on from one configuration to the next. Not here: what a shard counts of itself
//! (`shard`). Invariants: the shard is the only writer; counters never go down.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::counters::{Close, Ending, Reason};
use crate::ids::{BackendId, FrontendId, Places, ServerId};
use crate::machine::Counter;
use crate::settings::{Snapshot, Tags};

/// The last address of a kind that a shard met, for a log line to name as an example.
///
/// A sequence lock with one writer: the number is odd while the halves are written, so that a
/// reader never takes halves of two addresses for one.
#[derive(Debug, Default)]
pub struct LastAddress {
    sequence: AtomicU64,
    halves: [AtomicU64; 2],
}

/// Times that a reader tries again while the address is written.
const READ_ATTEMPTS: usize = 8;

impl LastAddress {
    /// Keeps an address instead of the one before. Only the owning shard may call this.
    pub fn set(&self, address: IpAddr) {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        }
        .to_bits();
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.halves[0].store((bits >> 64) as u64, Ordering::Relaxed);
        self.halves[1].store(bits as u64, Ordering::Relaxed);
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The address, if there was one; with bad luck `None` while it changes all the time.
    pub fn get(&self) -> Option<IpAddr> {
        for _ in 0..READ_ATTEMPTS {
            let before = self.sequence.load(Ordering::Acquire);
            let [high, low] = self.halves.each_ref().map(|half| half.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            if before.is_multiple_of(2) && before == self.sequence.load(Ordering::Relaxed) {
                let bits = u128::from(high) << 64 | u128::from(low);
                return Some(IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical());
            }
        }
        None
    }
}

/// What one shard counts of the objects of one configuration.
#[derive(Debug)]
pub struct Counters {
    frontends: Vec<Arc<FrontendCounters>>,
    servers: Vec<Arc<ServerCounters>>,
    affinities: Vec<Arc<AffinityCounters>>,
    queues: Vec<Arc<QueueCounters>>,
    backends: Vec<Arc<BackendCounters>>,
}

/// Counters of one frontend on one shard.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct FrontendCounters {
    /// Sessions begun.
    pub sessions: Counter,
    /// Sessions that ended by anything but both sides finishing, an order or an empty client.
    pub sessions_failed: Counter,
    /// Sessions whose client left without a byte having passed.
    pub sessions_empty: Counter,
    /// Sessions that an order ended: a drain, a maintenance or a stop.
    pub sessions_ended_by_order: Counter,
    /// Connections whose client had left before a full gate let it in; they are no sessions.
    pub left_at_gate: Counter,
    /// Sessions ended.
    pub sessions_ended: Counter,
    /// The same by close code.
    pub closes: CloseCounters,
    /// Sessions refused, since their client had as many as it may have.
    pub refused_too_many: Counter,
    /// Sessions refused, since their client's came too fast.
    pub refused_too_fast: Counter,
    /// Sessions of clients that there was no room to count.
    pub clients_unknown: Counter,
    /// The client that was refused last for what it took.
    pub last_refused: LastAddress,
    /// Connections that waited because `max_connections` of the frontend or the process was
    /// reached.
    pub waited_full: Counter,
    /// Connections that waited because the frontend's `rate` was used up.
    pub waited_rate: Counter,
    /// Sessions that a stop, or the end of `drain_timeout`, cut.
    pub cut: Counter,
    /// Connections refused because they seem to have come through this balancer before.
    pub loops_suspected: Counter,
    /// Bytes from clients.
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
}

/// Ends of sessions by close code.
#[derive(Debug)]
pub struct CloseCounters([Counter; Close::KINDS]);

impl Default for CloseCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl CloseCounters {
    /// Counts one.
    pub fn count(&self, close: Close) {
        self.0[close.index()].add(1);
    }

    /// Those that ended like this.
    pub fn get(&self, close: Close) -> u64 {
        self.0[close.index()].get()
    }
}

/// Counters of one server on one shard.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServerCounters {
    /// Sessions that this server accepted.
    pub sessions: Counter,
    /// Connects that failed.
    pub connects_failed: Counter,
    /// Connects that timed out, which also count as failed.
    pub connects_timed_out: Counter,
    /// Connects that this machine could not even begin, which is not held against the server.
    pub connects_impossible: Counter,
    /// Sessions that it got since the server before it took too long.
    pub races_won: Counter,
    /// Sessions that the server reset, or that failed on its side.
    pub sessions_failed: Counter,
    /// Sessions that the server reset before its first byte, or left unanswered until their time
    /// was over.
    pub sessions_failed_early: Counter,
    /// Sessions of which too much had to be sent to the server again; counted where asked for.
    pub sessions_lossy: Counter,
    /// Sessions whose first byte from the server came too late, or not at all although it was late;
    /// counted where asked for.
    pub sessions_late: Counter,
    /// Bytes to the server.
    pub bytes_in: Counter,
    /// Bytes from the server.
    pub bytes_out: Counter,
    /// Sessions that were ended because of what became of the server.
    pub ended: EndedCounters,
    /// Sessions that a stop, or the end of `drain_timeout`, cut.
    pub cut: Counter,
}

/// Sessions of one server that were ended by order, by how and why.
#[derive(Debug, Default)]
pub struct EndedCounters {
    total: Counter,
    drained: [Counter; Reason::ENDINGS],
    fenced: [Counter; Reason::ENDINGS],
}

impl EndedCounters {
    /// Counts one.
    pub fn count(&self, how: Ending, why: Reason) {
        self.total.add(1);
        if let Some(counter) = self.of(how).get(why as usize) {
            counter.add(1);
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.total.get()
    }

    /// Those that ended like this.
    pub fn get(&self, how: Ending, why: Reason) -> u64 {
        self.of(how).get(why as usize).map_or(0, Counter::get)
    }

    fn of(&self, how: Ending) -> &[Counter; Reason::ENDINGS] {
        match how {
            Ending::Drain => &self.drained,
            Ending::Fence => &self.fenced,
        }
    }
}

/// What one shard saw of the affinity table of one backend.
#[derive(Debug, Default)]
pub struct AffinityCounters {
    /// Sessions whose client was remembered and got its server again.
    pub hits: Counter,
    /// Choices for clients that were not, or whose server took no session.
    pub misses: Counter,
    /// Clients forgotten before their time, since the table was full.
    pub evictions: Counter,
}

/// What became of sessions on one shard that found no server with room.
#[derive(Debug, Default)]
pub struct QueueCounters {
    /// Sessions that waited.
    pub waited: Counter,
    /// Sessions whose time was over before a server had room.
    pub expired: Counter,
    /// Sessions that were refused, since too many waited.
    pub refused: Counter,
}

/// What one shard did for the sessions of one backend beside relaying them.
#[derive(Debug, Default)]
pub struct BackendCounters {
    /// Sessions that ended because no server was open for them, had room, or accepted.
    pub unserved: Counter,
    /// Times that a direction of a session waited, since its bandwidth was used up.
    pub bandwidth_waits: Counter,
    /// Sessions that were mirrored.
    pub mirrored: Counter,
    /// Bytes that the mirror's server took.
    pub mirror_bytes: Counter,
    /// Bytes that it was to have, and could not take in time.
    pub mirror_dropped: Counter,
    /// Sessions that it did not hear to the end.
    pub mirror_failed: Counter,
}

impl Counters {
    /// Counters at zero for the objects of `snapshot`.
    pub fn new(snapshot: &Snapshot) -> Self {
        Self::follow(snapshot, None)
    }

    /// Counters for the objects of `snapshot`: those of an older configuration for what was there
    /// already by name, and zeros for what was not.
    pub fn follow(snapshot: &Snapshot, older: Option<(&Self, &Snapshot)>) -> Self {
        let tags = snapshot.tags();
        let (older, before) = match older {
            Some((counters, snapshot)) => (Some(counters), snapshot.tags()),
            None => (None, Tags::default()),
        };
        let frontends = Places::new(&tags.frontends, &before.frontends);
        let backends = Places::new(&tags.backends, &before.backends);
        let servers = Places::new(&tags.servers, &before.servers);
        Self {
            frontends: kept(&frontends, older.map(|older| &older.frontends)),
            servers: kept(&servers, older.map(|older| &older.servers)),
            affinities: kept(&backends, older.map(|older| &older.affinities)),
            queues: kept(&backends, older.map(|older| &older.queues)),
            backends: kept(&backends, older.map(|older| &older.backends)),
        }
    }

    /// The counters of a frontend.
    pub fn frontend(&self, id: FrontendId) -> &FrontendCounters {
        &self.frontends[id.0 as usize]
    }

    /// The counters of a server.
    pub fn server(&self, id: ServerId) -> &ServerCounters {
        &self.servers[id.0 as usize]
    }

    /// The counters of a backend.
    pub fn backend(&self, id: BackendId) -> &BackendCounters {
        &self.backends[id.0 as usize]
    }

    /// The counters of a backend's queue.
    pub fn queue(&self, id: BackendId) -> &QueueCounters {
        &self.queues[id.0 as usize]
    }

    /// The counters of a backend's affinity table.
    pub fn affinity(&self, id: BackendId) -> &AffinityCounters {
        &self.affinities[id.0 as usize]
    }
}

/// The older counters of each object, or zeros for one that is new.
fn kept<T: Default>(places: &Places, older: Option<&Vec<Arc<T>>>) -> Vec<Arc<T>> {
    let of = |before: Option<usize>| older.zip(before).map(|(older, at)| Arc::clone(&older[at]));
    places.iter().map(|before| of(before).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_whole_or_not_at_all() {
        let last = LastAddress::default();
        assert_eq!(last.get(), None);
        let addresses: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1", "ffff:1::ffff"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        for address in &addresses {
            last.set(*address);
            assert_eq!(last.get(), Some(*address));
        }
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100_000).for_each(|round| last.set(addresses[round % 3])));
            for _ in 0..10_000 {
                assert!(last.get().is_none_or(|address| addresses.contains(&address)));
            }
        });
    }
}
