//! Tiers around a policy: which servers of a backend it may pick from at all.
//!
//! In this order: servers that are usable, then backup servers that are usable, then, since
//! refusing everybody helps nobody, servers that failed lately. A server that this session has
//! tried already, and one that is not open for it, is left out. Told what it must know by a [`View`]; knows no shard and no clock.

use super::{Balance, Candidate};
use crate::prng::Prng;
use crate::snapshot::{BalanceKind, Server};

use xxhash_rust::xxh3::xxh3_64;

/// What is true of one server at the moment of choosing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View {
    /// Sessions it has now.
    pub sessions: u32,
    /// Its share, relative to the others, now; 0 takes nothing.
    pub weight: u32,
    /// Whether it may take this session at all.
    pub open: bool,
    /// Whether it answered the last time, as far as anyone knows.
    pub usable: bool,
    /// Whether this session has failed to reach it.
    pub tried: bool,
}

/// The choice of a server in one backend.
#[derive(Debug)]
pub struct Chooser {
    balance: Balance,
    candidates: Vec<Candidate>,
    backup: Vec<bool>,
}

impl Chooser {
    /// A chooser among `servers`, in their order.
    pub fn new(kind: BalanceKind, servers: &[Server]) -> Self {
        let candidate = |server: &Server| Candidate {
            weight: 0,
            sessions: 0,
            identity: xxh3_64(server.name.as_bytes()),
            usable: false,
        };
        Self {
            balance: Balance::new(kind),
            candidates: servers.iter().map(candidate).collect(),
            backup: servers.iter().map(|server| server.backup).collect(),
        }
    }

    /// The index of a server for a session with this `key`; `None` when all have been tried.
    pub fn choose(
        &mut self,
        view: impl Fn(usize) -> View,
        key: u64,
        prng: &mut Prng,
    ) -> Option<usize> {
        let tiers = [(true, false), (true, true), (false, false), (false, true)];
        tiers.into_iter().find_map(|(must_be_usable, backup)| {
            let mut any = false;
            for (index, candidate) in self.candidates.iter_mut().enumerate() {
                let view = view(index);
                (candidate.sessions, candidate.weight) = (view.sessions, view.weight);
                candidate.usable = view.open
                    && !view.tried
                    && self.backup[index] == backup
                    && (view.usable || !must_be_usable);
                any |= candidate.usable;
            }
            // A policy keeps state: it must not be asked about an empty tier.
            if any { self.balance.pick(&self.candidates, key, prng) } else { None }
        })
    }
}
