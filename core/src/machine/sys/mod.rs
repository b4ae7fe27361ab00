//! The one room with `unsafe` and raw system calls: rings, buffers, pipes, socket options.
//!
//! Everything here is safe to call from outside. Read `driver` for the argument why memory lent to
//! the kernel is never freed early, `buffers` for where received bytes live, `setup` for what is
//! asked of the host at start.

#![allow(unsafe_code, reason = "this is the room for it")]

mod buffers;
mod driver;
mod epoll;
mod kernel;
mod mapping;
mod options;
mod pipe;
mod rooms;
mod setup;
#[expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a simulated world is shared by the threads of a test, and may print its trace"
)]
pub mod sim;
mod socket;
mod uring;

pub use buffers::Buffer;
pub(crate) use driver::{Driver, Label, Look, Outcome, Owner};
pub(crate) use kernel::Wait;
pub use kernel::{Interest, Presence};
pub use options::{
    ConnectOptions, Refused, SocketSetting, has_port_ranges, is_refusal, set_transparent,
};
pub use pipe::Pipe;
pub use rooms::Brief;
pub(crate) use rooms::Rooms;
pub use setup::{DriverKind, SetupError, probe};
pub use socket::{
    ListenOptions, Socket, listen, local_address, peer_address, presence, probe_connect,
    reset_on_close, socket_towards,
};
pub(crate) use socket::{
    accept_now, is_readable, leave_pacing_on_a_short_path, segments, send_few, set_listen_options,
    shutdown_write, since_last_bytes, unacknowledged,
};
