//! The readers: one per table of the file; each turns keys into settings.
//!
//! A reader takes keys from a `text::table::Table`, reports what it can't use, and goes on with a
//! placeholder. Not here: references between tables (`lower`), and checks of the file as a whole
//! (`loops`, `warnings`). Next: `frontend`.

pub(crate) mod admin;
pub(super) mod backend;
pub(super) mod check;
pub(super) mod claims;
pub(super) mod forwarding;
pub(super) mod frontend;
pub(super) mod global;
pub(super) mod names;
pub(super) mod route;
pub(super) mod secret;
pub(super) mod sockets;
