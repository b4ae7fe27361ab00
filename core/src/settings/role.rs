//! The role that a frontend wants its servers to have.

/// Which members of a backend a frontend's sessions go to.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum RoleWanted {
    /// All of them.
    #[default]
    Any,
    /// The one that takes writes.
    Primary,
    /// Those that follow it.
    Replica,
    /// Those that follow it, and it itself while none of them takes the session.
    ReplicaOrPrimary,
}

impl RoleWanted {
    /// All of them.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Any, Self::Primary, Self::Replica, Self::ReplicaOrPrimary];

    /// How many there are.
    pub const COUNT: usize = 4;

    /// Its place among them.
    pub const fn index(self) -> usize {
        match self {
            Self::Any => 0,
            Self::Primary => 1,
            Self::Replica => 2,
            Self::ReplicaOrPrimary => 3,
        }
    }
}
