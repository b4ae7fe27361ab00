//! The carrier of shards that carry nothing but TCP.

use ringlane_shard::MakeCarrier;

use crate::session::begin;
use crate::tcp::Tcp;

/// A carrier for shards that carry nothing but TCP, with so many pipes.
pub fn tcp_alone(pipes: usize) -> MakeCarrier {
    Box::new(move |_| {
        let tcp = Tcp::new(pipes);
        Box::new(move |session, connection| begin(&tcp, session, connection))
    })
}
