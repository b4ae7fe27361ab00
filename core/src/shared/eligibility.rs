//! Which sessions a server is open for, and its weight, in one word that shards read at any time.
//!
//! Written by the control thread alone. Next: `server`, which holds the word.

use crate::settings::RoleWanted;

/// Weights of the configuration are multiplied by this, so that a part of a small one is a number.
pub const WEIGHT_SCALE: u32 = 256;

/// Set for a server that takes only the clients which it has.
const DRAINS: u64 = 1 << 3;

/// Set for a server that takes sessions only while no other does.
const BACKUP: u64 = 1 << 4;

/// What one server may take, as 64 bits: the weight above, a bit for each role below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Eligibility(u64);

impl Eligibility {
    /// Takes nothing.
    pub const CLOSED: Self = Self(0);

    /// Open for any session, for those that want a primary, for those that want a replica.
    pub fn new([any, primary, replica]: [bool; 3], weight: u32) -> Self {
        let bits = u64::from(any) | u64::from(primary) << 1 | u64::from(replica) << 2;
        Self(u64::from(weight) << 32 | bits)
    }

    /// The same for clients alone that are remembered to belong there (`balance::affinity`).
    #[must_use]
    pub fn draining(self) -> Self {
        Self(self.0 | DRAINS)
    }

    /// The same but for sessions that want a primary.
    #[must_use]
    pub fn closed_for_primary(self) -> Self {
        Self(self.0 & !(1 << 1))
    }

    /// The same for sessions alone that no other server takes.
    #[must_use]
    pub fn as_backup(self) -> Self {
        Self(self.0 | BACKUP)
    }

    /// Whether it is to take sessions only while no other server does.
    pub fn is_backup(self) -> bool {
        self.0 & BACKUP != 0
    }

    /// The same for sessions that want this: for one that wants a replica rather than the primary,
    /// the primary is a backup.
    pub fn is_backup_for(self, role: RoleWanted) -> bool {
        self.is_backup()
            || (role == RoleWanted::ReplicaOrPrimary && !self.keeps_for(RoleWanted::Replica))
    }

    /// From the word that [`Self::to_bits`] made.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As a word.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Whether sessions that want this may be sent there.
    pub fn is_open_for(self, role: RoleWanted) -> bool {
        let stands_in = role == RoleWanted::ReplicaOrPrimary && self.keeps_for(RoleWanted::Primary);
        self.0 & DRAINS == 0 && (self.keeps_for(role) || stands_in)
    }

    /// Whether sessions that want this may be sent there if their client belongs there. A primary
    /// that stands in for its replicas keeps no client from them.
    pub fn keeps_for(self, role: RoleWanted) -> bool {
        let bit = match role {
            RoleWanted::Any => 0,
            RoleWanted::Primary => 1,
            RoleWanted::Replica | RoleWanted::ReplicaOrPrimary => 2,
        };
        self.0 >> bit & 1 == 1
    }

    /// Its share of sessions now, in units of 1 / [`WEIGHT_SCALE`] of the configured weights.
    pub fn weight(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
