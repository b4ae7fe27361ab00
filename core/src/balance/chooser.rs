//! Tiers around a policy: which servers of a backend it may pick from at all.
//!
//! In this order: servers that are usable, then backup servers that are usable, then, since
//! refusing everybody helps nobody, servers that failed lately. A server that this session has
//! tried already, one that is full, and one that is not open for it, is left out. Told what it must
//! know by a [`View`]; knows no shard and no clock. A tier with servers ends the search, so that
//! each server is looked at once at most while all is well.

use super::{Balance, Candidate, Member, Turns};
use crate::prng::Prng;
use crate::settings::{BalanceKind, Server};

/// What is true of one server at the moment of choosing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View {
    /// Sessions it has now.
    pub sessions: u32,
    /// Its share, relative to the others, now; 0 takes nothing.
    pub weight: u32,
    /// Bytes per second that it carries, as measured last.
    pub rate: u64,
    /// Sessions it had then.
    pub measured: u32,
    /// Whether it may take this session at all.
    pub open: bool,
    /// Whether it answered the last time, as far as anyone knows.
    pub usable: bool,
    /// Whether this session has failed to reach it.
    pub tried: bool,
    /// Whether it counts as backup for now, though the configuration does not say so.
    pub backup: bool,
}

impl View {
    /// Whether the session may go there, though perhaps as a last resort.
    pub(super) fn is_open(&self, member: &Member) -> bool {
        self.open && !self.tried && self.weight > 0 && self.sessions < member.max_connections
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

/// Whether servers of it are usable, whether they are backup; best first.
const TIERS: [(bool, bool); 4] = [(true, false), (true, true), (false, false), (false, true)];

impl Chooser {
    /// A chooser among `servers`, in their order.
    pub fn new(kind: BalanceKind, servers: &[Server]) -> Self {
        let members: Vec<Member> = servers.iter().map(Member::new).collect();
        Self {
            balance: Balance::new(kind, &members),
            scratch: Vec::with_capacity(members.len()),
            members,
        }
    }

    /// The index of a server for a session with this `key`; `None` when none may take it. `turns`
    /// are those of the backend's servers, for sessions that want the same role.
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
                (of_tier && view.is_open(member)).then(|| view.candidate(index))
            };
            let candidates = self.members.iter().enumerate().filter_map(candidate);
            self.balance.pick(candidates, (&self.members, turns, &mut self.scratch), key, prng)
        })
    }
}
