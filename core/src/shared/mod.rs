//! The words that several shards write, and the control thread: gauges, limits, queues.
//!
//! All are atomics read for decisions; accounts are in `counters`, with one writer each. Invariant:
//! nothing here blocks. Next: `gauges`.

pub mod clients;
mod common;
mod eligibility;
mod gate;
mod gauges;
mod hops;
mod pace;
mod queue;
mod server;

pub use common::Common;
pub use eligibility::{Eligibility, WEIGHT_SCALE};
pub use gate::Gate;
pub use gauges::Gauges;
pub use hops::Hops;
pub use pace::Pace;
pub use queue::{LINES, Queue, Ticket};
pub use server::{RETRY_FAILED_MS, ServerGauge};
