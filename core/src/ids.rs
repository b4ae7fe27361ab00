//! Numbers of configured objects: places in the vectors of one snapshot, and tags beyond it.
//!
//! The servers of a backend have consecutive numbers. Invariants: an id means nothing in another
//! snapshot than its own; what outlives a snapshot goes by its [`Tag`], which is its name as a
//! number.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

/// Index of a frontend in `Snapshot::frontends`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FrontendId(pub u32);

/// Index of a backend in `Snapshot::backends`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BackendId(pub u32);

/// Index of a server in `Snapshot::servers`, which counts through all backends.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerId(pub u32);

/// What an object is recognised by in every snapshot: a hash of its names. With 64 bits, two names
/// of one file do not collide in practice.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag(u64);

impl Tag {
    /// The tag of an object with this name inside of others: a server's is made of two names.
    pub fn of(names: &[&str]) -> Self {
        // No name holds a zero byte.
        Self(xxh3_64(names.join("\0").as_bytes()))
    }
}

/// Where the objects of one snapshot were in an older one.
#[derive(Debug)]
pub struct Places(Vec<Option<usize>>);

impl Places {
    /// Of objects with these tags in the newer and the older snapshot.
    pub fn new(newer: &[Tag], older: &[Tag]) -> Self {
        let before: HashMap<Tag, usize> = older.iter().copied().zip(0..).collect();
        Self(newer.iter().map(|tag| before.get(tag).copied()).collect())
    }

    /// For each object of the newer snapshot its place in the older one, if it was there.
    pub fn iter(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.0.iter().copied()
    }
}
