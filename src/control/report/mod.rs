//! What a running balancer reports: pages, metrics, log lines about sessions, the access log.
//!
//! Not here: the log itself (`log`), the counters (`ringlane_core::counters`). Invariant: nothing
//! in it affects sessions, except the orders that `admin` passes on to `servers`.

pub mod access_log;
pub mod admin;
pub(super) mod events;
pub(super) mod feed;
pub mod metrics;
pub mod status;
