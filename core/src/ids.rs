//! Numbers of configured objects: places in the vectors of one snapshot.
//!
//! The servers of a backend have consecutive numbers. Invariant: an id means nothing in another
//! snapshot than its own.

/// Index of a frontend in `Snapshot::frontends`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FrontendId(pub u32);

/// Index of a backend in `Snapshot::backends`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BackendId(pub u32);

/// Index of a server in `Snapshot::servers`, which counts through all backends.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerId(pub u32);
