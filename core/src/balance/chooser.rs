//! Tiers around a policy: from which servers of a backend it may pick.
//!
//! In this order: usable servers, usable backup servers, then, since a refusal would not be better,
//! servers whose last connect failed. Servers that this session has already tried, that are full,
//! or that are not open for it are left out. The state of a server is passed in as a [`View`]; no
//! shard and no clock is used. The first tier with servers ends the search, so in normal operation
//! each server is examined at most once.

use super::{Balance, Candidate, HashTable, Member, Turns};
use crate::prng::Prng;
use crate::settings::{BalanceKind, Server};

/// The state of one server at the moment of choosing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View {
    /// Live sessions.
    pub sessions: u32,
    /// Sessions at once that it may have now.
    pub max: u32,
    /// Its current weight; with 0 it gets no sessions.
    pub weight: u32,
    /// Bytes per second at the last measurement.
    pub rate: u64,
    /// Live sessions at that time.
    pub measured: u32,
    /// Whether it is eligible for this session.
    pub open: bool,
    /// Whether the last connect to it succeeded, or none was tried yet.
    pub usable: bool,
    /// Whether this session has failed to reach it.
    pub tried: bool,
    /// Whether it is a backup for now, by its DNS answer, without being configured as one.
    pub backup: bool,
}

impl View {
    /// Whether the session may go there, possibly as a last resort.
    pub(super) fn is_open(&self) -> bool {
        self.open && !self.tried && self.weight > 0 && self.sessions < self.max
    }

    pub(super) fn candidate(&self, index: usize) -> Candidate {
        Candidate {
            // Counted by `Snapshot` in 32 bits.
            index: index as u32,
            weight: self.weight,
            sessions: self.sessions,
            measured: self.measured,
            rate: self.rate,
        }
    }
}

/// The choice of a server in one backend.
#[derive(Debug)]
pub struct Chooser {
    balance: Balance,
    members: Vec<Member>,
    /// The candidates of one tier, for policies that must see all of them first.
    scratch: Vec<Candidate>,
}

/// Whether the servers of a tier are usable, and whether they are backups; best tier first.
const TIERS: [(bool, bool); 4] = [(true, false), (true, true), (false, false), (false, true)];

impl Chooser {
    /// A chooser among `servers`, in their order.
    pub fn new(kind: BalanceKind, servers: &[Server]) -> Self {
        Self::sharing(kind, servers, HashTable::new(kind, servers))
    }

    /// The same with a table that was built for these servers.
    pub fn sharing(kind: BalanceKind, servers: &[Server], table: HashTable) -> Self {
        let members: Vec<Member> = servers.iter().map(Member::new).collect();
        Self {
            balance: Balance::new(kind, table),
            scratch: Vec::with_capacity(members.len()),
            members,
        }
    }

    /// The index of a server for a session with this `key`; `None` if there is none. `turns` are
    /// the turns of the backend's servers for sessions that want the same role.
    pub fn choose(
        &mut self,
        view: impl Fn(usize) -> View,
        turns: &Turns,
        key: u64,
        prng: &mut Prng,
    ) -> Option<usize> {
        if let Some(index) = self.balance.shortcut(&self.members, &view, key, prng) {
            return Some(index);
        }
        TIERS.into_iter().find_map(|(usable, backup)| {
            let candidate = |(index, member): (usize, &Member)| {
                if member.backup && !backup {
                    return None;
                }
                let view = view(index);
                let of_tier = view.usable == usable && (member.backup || view.backup) == backup;
                (of_tier && view.is_open()).then(|| view.candidate(index))
            };
            let candidates = self.members.iter().enumerate().filter_map(candidate);
            self.balance.pick(candidates, &self.members, turns, &mut self.scratch, key, prng)
        })
    }
}
