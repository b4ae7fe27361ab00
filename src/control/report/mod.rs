//! What a running balancer shows: pages, metrics, log lines about sessions, the access log.
//!
//! Not here: the log itself (`log`), what is counted (`ringlane_core::counters`). Invariant: nothing in
//! it changes what sessions get, but for the orders that `admin` passes on to `servers`.

pub mod access_log;
pub mod admin;
pub(super) mod events;
pub mod metrics;
pub mod status;
