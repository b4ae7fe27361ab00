//! Which carrier a session gets: the only match on a frontend's mode.
//!
//! A carrier is built on its shard's thread, once; each accepted session is handed to it.

use ringlane_core::settings::Mode;
use ringlane_l4::Tcp;
use ringlane_shard::MakeCarrier;

/// What carries the sessions of a shard, with so many pipes for splicing.
pub fn all(pipes: usize) -> MakeCarrier {
    Box::new(move || {
        let tcp = Tcp::new(pipes);
        Box::new(move |session, connection| match session.frontend().mode {
            Mode::Tcp => ringlane_l4::begin(&tcp, session, connection),
        })
    })
}
