//! Ring hashing: servers own points on a ring, and a key belongs to the next point.
//!
//! Karger et al. 1997, with many points per server as in ketama (Jones 2007), but with a hash of
//! our own: keys are not placed as by memcached clients. The ring is built once, for the configured
//! servers and weights; a server that is not eligible is skipped, so only its own keys move, each
//! to the owner of the next point. Less even than Maglev hashing, but when a server is removed from
//! the configuration, no key of another server moves. Invariant: a server's points depend on its
//! name and its weight relative to the average, not on the order of servers.

use std::sync::Arc;

use super::{Member, mix};

/// Points of a server of average weight, as in ketama.
const POINTS_PER_SERVER: f64 = 160.0;

/// Maximum of points on a ring. At the bound, servers get fewer points and shares become less even.
const POINTS_MAX: f64 = 1_000_000.0;

/// Servers examined for one key.
const LOOKS: usize = 16;

/// The points, sorted by position on the ring.
#[derive(Clone, Debug)]
pub(super) struct RingHash {
    points: Arc<[(u64, u32)]>,
}

impl RingHash {
    /// The ring of the servers that are not backups.
    pub(super) fn new(members: &[Member]) -> Self {
        let takers = || members.iter().enumerate().filter(|(_, m)| !m.backup && m.weight > 0);
        let count = takers().count() as f64;
        let total: f64 = takers().map(|(_, member)| f64::from(member.weight)).sum();
        let average = (POINTS_MAX / count).min(POINTS_PER_SERVER);
        let mut points = Vec::new();
        for (index, member) in takers() {
            // At least one: every server with a weight is on the ring.
            let own = (average * count * f64::from(member.weight) / total).round().max(1.0) as u64;
            let place = |point: u64| mix(member.identity ^ mix(point));
            points.extend((0..own).map(|point| (place(point), index as u32)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The first server in the sequence of `key` that `accepts` accepts.
    pub(super) fn walk(&self, key: u64, mut accepts: impl FnMut(usize) -> bool) -> Option<usize> {
        let hash = mix(key);
        let start = self.points.partition_point(|(place, _)| *place < hash);
        let mut previous = None;
        let mut looks = 0;
        for &(_, index) in self.points[start..].iter().chain(&self.points[..start]) {
            // Adjacent points of the same server are examined once.
            if previous.replace(index) == Some(index) {
                continue;
            }
            if accepts(index as usize) {
                return Some(index as usize);
            }
            looks += 1;
            if looks == LOOKS {
                break;
            }
        }
        None
    }
}
