//! The one room with `unsafe` and raw system calls: rings, buffers, pipes, socket options.
//!
//! Everything here is safe to call from outside. Read `driver` for the argument why memory lent to
//! the kernel is never freed early, `buffers` for where received bytes live, `setup` for what is
//! asked of the host at start.

#![allow(unsafe_code, reason = "this is the room for it")]

mod buffers;
mod driver;
mod pipe;
mod ring;
mod setup;
mod socket;

pub use buffers::Buffer;
pub use driver::Interest;
pub(crate) use driver::{Driver, Look, Outcome};
pub use pipe::Pipe;
pub(crate) use ring::Wait;
pub use setup::{SetupError, probe};
pub use socket::{ListenOptions, listen};
pub(crate) use socket::{
    accept_now, leave_pacing_on_a_short_path, peer_address, reset_on_close, shutdown_write, towards,
};
