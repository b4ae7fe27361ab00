//! What a start takes from the system, each with a sentence for the case that the system refuses.
//!
//! Not here: the order of the steps (`run::supervisor`). Invariant: all of it is requested before
//! the first session is accepted.

pub(super) mod cores;
pub(super) mod descriptors;
pub(super) mod privileges;
pub(super) mod probe;
pub(super) mod problem;
pub(super) mod socket_files;
pub(super) mod sockets;
mod start_error;

pub use descriptors::TooFewDescriptors;
pub use privileges::PrivilegesError;
pub use probe::ConnectError;
pub use sockets::{BindError, Listening};
pub use start_error::StartError;
pub(super) use start_error::explain;
