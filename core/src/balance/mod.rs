//! Which server a session goes to: policies without I/O, clock or shards.
//!
//! One algorithm per file; [`Chooser`] puts tiers (backup servers, servers that failed) around
//! them. A policy gets the [`Candidate`]s of one tier, any of which it may pick, in the order of
//! the configuration; policies that don't need all of them try a [`shortcut`](Balance::shortcut)
//! first. Not here: the state of servers, which is passed in as a [`View`]. Invariants: a policy
//! picks a candidate whenever there is one, and nothing else; equal inputs, turns and seeds give
//! equal picks; shards build no table ([`HashTable`]); state that fairness depends on is in
//! [`Turns`], which all shards share. Next: `chooser`, then `turns` and `affinity`.

pub mod affinity;
mod chooser;
mod key;
mod least_bandwidth;
mod least_conn;
mod maglev;
mod random_two;
mod ring_hash;
mod round_robin;
mod source;
mod turns;

pub use chooser::{Chooser, View};
pub use key::{Known, key, key_of, subscriber};
pub use least_bandwidth::Meter;
pub use turns::Turns;

use least_bandwidth::LeastBandwidth;
use least_conn::LeastConn;
use maglev::Maglev;
use random_two::RandomTwo;
use ring_hash::RingHash;
use round_robin::RoundRobin;

use std::sync::Arc;

use crate::ids::{BackendId, Places};
use crate::prng::Prng;
use crate::settings::{BalanceKind, LoadBound, Server, Snapshot};
use crate::shared::WEIGHT_SCALE;

use xxhash_rust::xxh3::xxh3_64;

/// The fixed properties of a server.
#[derive(Debug)]
struct Member {
    /// Hash of its name, which identifies it in any order of servers.
    identity: u64,
    /// Its full weight.
    weight: u32,
    backup: bool,
}

/// A server that a policy may pick.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Candidate {
    /// Its index in the order of the configuration.
    index: u32,
    /// Its current weight; never 0.
    weight: u32,
    /// Live sessions.
    sessions: u32,
    /// Live sessions when its rate was measured.
    measured: u32,
    /// Bytes per second.
    rate: u64,
}

/// The table of a policy by hash, which shards share: with a thousand servers it takes a tenth of a
/// second to build.
#[derive(Clone, Debug)]
pub struct HashTable(BuiltTable);

#[derive(Clone, Debug)]
enum BuiltTable {
    /// Of a policy that has none.
    None,
    Maglev(Maglev),
    Ring(RingHash),
}

impl HashTable {
    /// The table of a policy for these servers.
    pub fn new(kind: BalanceKind, servers: &[Server]) -> Self {
        let members = || servers.iter().map(Member::new).collect::<Vec<_>>();
        match kind {
            BalanceKind::Maglev(_) => Self(BuiltTable::Maglev(Maglev::new(&members()))),
            BalanceKind::RingHash(_) => Self(BuiltTable::Ring(RingHash::new(&members()))),
            _ => Self(BuiltTable::None),
        }
    }

    /// The tables of all backends: those of an older configuration for what has not changed.
    pub fn of_all(snapshot: &Snapshot, older: Option<(&[Self], &Snapshot)>) -> Arc<[Self]> {
        let before = older.map(|(_, snapshot)| snapshot.tags().backends).unwrap_or_default();
        let places = Places::new(&snapshot.tags().backends, &before);
        let ids = (0..).map(BackendId).zip(&snapshot.backends).zip(places.iter());
        ids.map(|((id, backend), at)| {
            let servers = snapshot.servers_of(id);
            let kept = older.zip(at).filter(|((_, older), at)| {
                older.backends[*at].balance == backend.balance
                    && chosen_alike(older.servers_of(BackendId(*at as u32)), servers)
            });
            kept.map_or_else(
                || Self::new(backend.balance, servers),
                |((tables, _), at)| tables[at].clone(),
            )
        })
        .collect()
    }
}

/// Whether a chooser of some servers may choose among others.
pub fn chosen_alike(some: &[Server], others: &[Server]) -> bool {
    let same = |(one, other): (&Server, &Server)| {
        (&one.name, one.weight, one.backup) == (&other.name, other.weight, other.backup)
    };
    some.len() == others.len() && some.iter().zip(others).all(same)
}

/// A policy and its state.
#[derive(Debug)]
enum Balance {
    RoundRobin(RoundRobin),
    LeastConn(LeastConn),
    RandomTwo(RandomTwo),
    Source,
    Maglev(Maglev, Option<LoadBound>),
    RingHash(RingHash, Option<LoadBound>),
    LeastBandwidth(LeastBandwidth),
    First,
}

impl Balance {
    /// Creates the policy; one by hash goes by this table.
    fn new(kind: BalanceKind, table: HashTable) -> Self {
        match kind {
            BalanceKind::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            BalanceKind::LeastConn => Self::LeastConn(LeastConn::default()),
            BalanceKind::RandomTwo => Self::RandomTwo(RandomTwo::default()),
            BalanceKind::Source => Self::Source,
            BalanceKind::Maglev(bound) | BalanceKind::RingHash(bound) => match table.0 {
                BuiltTable::Maglev(table) => Self::Maglev(table, bound),
                BuiltTable::Ring(ring) => Self::RingHash(ring, bound),
                // As if no server were found in the table.
                BuiltTable::None => Self::Source,
            },
            BalanceKind::LeastBandwidth => Self::LeastBandwidth(LeastBandwidth::default()),
            BalanceKind::First => Self::First,
        }
    }

    /// A pick that examines only a few servers, for policies where the result is the same as with
    /// all of them. After `None`, [`Self::pick`] decides. `weight` is the current weight of a
    /// server of the best tier, 0 for all others.
    fn shortcut(
        &mut self,
        members: &[Member],
        view: impl Fn(usize) -> View,
        key: u64,
        prng: &mut Prng,
    ) -> Option<usize> {
        let weight = |index: usize, view: &View| {
            let member = &members[index];
            let first_tier = view.usable && !member.backup && !view.backup;
            if first_tier && view.is_open() { view.weight } else { 0 }
        };
        let accepts = |index: usize| {
            let weight = weight(index, &view(index));
            takes_its_share(&members[index], weight, key)
        };
        match self {
            Self::Maglev(table, None) => table.walk(key, accepts),
            Self::RingHash(ring, None) => ring.walk(key, accepts),
            Self::RandomTwo(state) => state.shortcut(members.len(), prng, |index| {
                let view = view(index);
                let weight = weight(index, &view);
                (weight > 0).then(|| view.candidate(index))
            }),
            _ => None,
        }
    }

    /// The index of the server picked from the candidates of one tier. Hash policies use `key`;
    /// policies that need all candidates before they pick collect them in `scratch`.
    fn pick(
        &mut self,
        mut candidates: impl Iterator<Item = Candidate>,
        members: &[Member],
        turns: &Turns,
        scratch: &mut Vec<Candidate>,
        key: u64,
        prng: &mut Prng,
    ) -> Option<usize> {
        let picked = match self {
            Self::RoundRobin(state) => state.pick(gathered(scratch, candidates), turns),
            Self::LeastConn(state) => state.pick(gathered(scratch, candidates), turns),
            Self::RandomTwo(state) => state.pick(gathered(scratch, candidates), prng),
            Self::LeastBandwidth(state) => state.pick(gathered(scratch, candidates), turns),
            Self::First => candidates.next(),
            Self::Maglev(table, Some(bound)) => {
                let bounded = Bounded::new(*bound, gathered(scratch, candidates), members);
                return bounded.pick(key, |accepts| table.walk(key, accepts));
            }
            Self::RingHash(ring, Some(bound)) => {
                let bounded = Bounded::new(*bound, gathered(scratch, candidates), members);
                return bounded.pick(key, |accepts| ring.walk(key, accepts));
            }
            // The walk through the table found none: the first tier has hardly any server left.
            Self::Source | Self::Maglev(..) | Self::RingHash(..) => {
                source::pick(candidates, members, key)
            }
        };
        picked.map(|candidate| candidate.index as usize)
    }
}

fn gathered(
    scratch: &mut Vec<Candidate>,
    candidates: impl Iterator<Item = Candidate>,
) -> &[Candidate] {
    scratch.clear();
    scratch.extend(candidates);
    scratch
}

/// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2018): a server whose
/// load exceeds the average for its weight by a given factor is skipped.
struct Bounded<'a> {
    candidates: &'a [Candidate],
    members: &'a [Member],
    /// Maximum of sessions per unit of weight.
    limit: f64,
}

impl<'a> Bounded<'a> {
    fn new(bound: LoadBound, candidates: &'a [Candidate], members: &'a [Member]) -> Self {
        let sum = |read: fn(&Candidate) -> u32| -> f64 {
            candidates.iter().map(|candidate| f64::from(read(candidate))).sum()
        };
        // Includes the session that is about to begin.
        let sessions = sum(|candidate| candidate.sessions) + 1.0;
        Self { candidates, members, limit: bound.factor() * sessions / sum(|c| c.weight) }
    }

    /// The first server with room on the walk through the table; if the walk finds none, the server
    /// with room that has the highest score for the key. One always has room, since not all servers
    /// can exceed the average.
    fn pick(
        &self,
        key: u64,
        walk: impl FnOnce(&mut dyn FnMut(usize) -> bool) -> Option<usize>,
    ) -> Option<usize> {
        let has_room =
            |c: &&Candidate| f64::from(c.sessions) < (self.limit * f64::from(c.weight)).ceil();
        let mut accepts = |index: usize| {
            let place = self.candidates.binary_search_by_key(&index, |c| c.index as usize);
            let candidate = place.ok().map(|place| &self.candidates[place]).filter(has_room);
            candidate.is_some_and(|c| takes_its_share(&self.members[index], c.weight, key))
        };
        walk(&mut accepts).or_else(|| {
            let candidates = self.candidates.iter().filter(has_room).copied();
            source::pick(candidates, self.members, key).map(|candidate| candidate.index as usize)
        })
    }
}

impl Candidate {
    /// Whether this server has fewer sessions per weight than `other`. Two idle servers are equal,
    /// whatever their weights.
    fn is_less_loaded_than(&self, other: &Self) -> bool {
        let load = |a: &Self, b: &Self| u64::from(a.sessions) * u64::from(b.weight);
        load(self, other) < load(other, self)
    }
}

impl Member {
    fn new(server: &Server) -> Self {
        Self {
            identity: identity(&server.name),
            weight: server.weight.saturating_mul(WEIGHT_SCALE),
            backup: server.backup,
        }
    }
}

/// Identifies a server in any order of servers and in every generation.
pub fn identity(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Whether a server in a table accepts this key at its current weight. Tables are built for the
/// configured weights; a server with less weight for now (while it warms up) passes on a share of
/// its keys. A weight above the configured one counts as the configured one.
fn takes_its_share(member: &Member, weight: u32, key: u64) -> bool {
    if weight >= member.weight {
        return weight > 0;
    }
    let draw = mix(key.rotate_left(32) ^ member.identity) >> 32;
    draw * u64::from(member.weight) < u64::from(weight) << 32
}

/// Spreads 64 bits over 64 bits, one to one (SplitMix64's finish, Stafford's variant 13).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `bound` from a hash, without the cost of a division.
const fn below(hash: u64, bound: usize) -> usize {
    ((hash as u128 * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
