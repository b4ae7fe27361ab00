//! What the TCP sessions of one shard share.

use std::rc::Rc;

use crate::mirror::Mirrors;
use crate::pipes::Pipes;

/// The carrier of TCP sessions on one shard.
#[derive(Debug)]
pub struct Tcp {
    pub(crate) pipes: Pipes,
    pub(crate) mirrors: Rc<Mirrors>,
}

impl Tcp {
    /// A carrier with at most `pipes` pipes for splicing.
    pub fn new(pipes: usize) -> Rc<Self> {
        Rc::new(Self { pipes: Pipes::new(pipes), mirrors: Rc::default() })
    }
}
