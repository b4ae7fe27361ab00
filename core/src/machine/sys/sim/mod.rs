//! A simulated world: a network in memory on a virtual clock, driven by one seed.
//!
//! The same shard runs in it that runs on io_uring and epoll; only the kernel is made up. Real
//! here: driver, executor, buffers and everything above. Simulated: sockets, pipes, time, and
//! whatever a kernel may do at its pleasure (short reads and writes, late news, cancellations that
//! fail). No threads, no real sockets, no clock: equal seeds give equal worlds, to the last event.
//!
//! Invariants: nothing happens but inside [`Net::advance_to`], a shard's turn, or a call of an
//! outside actor; bytes of a direction arrive in order; a lent buffer is read piece by piece as its
//! send goes on, never at submission, so that one that is given back too early is caught. Read
//! `net` for clock and events, `tcp` for connections, `port` for what a shard sees of it.

mod held;
mod net;
mod outside;
mod port;
mod queue;
mod tcp;

pub(super) use held::{SimPipe, SimSocket};
pub use net::{Net, Weather};
pub use outside::{Connecting, Facts, SocketId, Wake};
pub use port::Place;
pub(super) use port::Port;
