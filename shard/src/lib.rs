//! What every carrier of sessions needs on a shard, from accept to a connected server and the end.
//!
//! Accept, limits, the PROXY header, the choice of a server, waiting for one, connecting, counting,
//! and ends by order. A carrier (`ringlane-l4` for TCP) gets each accepted [`Session`] and asks for
//! a [`Seat`] at a server with a [`Seeker`]. Not here: bytes of any protocol but the PROXY header,
//! configuration, checks. Read `run` first, then `session` and `connect`.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests make up times and print figures"
    )
)]

mod accept;
mod addresses;
mod choose;
mod clients;
mod connect;
mod dial;
mod ends;
mod generation;
mod hops;
mod mailbox;
mod place;
pub mod proxy;
mod published;
mod queue;
mod race;
mod run;
mod seat;
mod session;
mod shard;
mod shutdowns;
mod trail;
mod wait_queues;
mod waiting;

pub use dial::dial;
pub use ends::{LEFT, REFUSED};
pub use generation::Generation;
pub use mailbox::{Arrival, Mailbox, Message};
pub use place::Carrier;
pub use published::{Installation, ListenerId, Published};
pub use run::{MakeCarrier, Setup, Thread, run, start};
pub use seat::Seat;
pub use session::{ByteCounts, Session};
pub use shard::Shard;
pub use shutdowns::Disposition;
pub use trail::{Seeker, Trail};
pub use waiting::{Left, Waiting};
