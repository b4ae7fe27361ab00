//! The words that several shards write, and the control thread: gauges, limits, queues, mailboxes.
//!
//! All are atomics read for decisions; accounts are in `counters`, with one writer each. Invariant:
//! nothing here blocks. Next: `gauges`, which holds all but the mailboxes.

pub mod clients;
mod eligibility;
mod gate;
mod gauges;
mod hops;
mod mailbox;
mod pace;
mod queue;
mod server;

pub use eligibility::{Eligibility, WEIGHT_SCALE};
pub use gate::Gate;
pub use gauges::Gauges;
pub use hops::Hops;
pub use mailbox::{Arrival, Mailbox, Message};
pub use pace::Pace;
pub use queue::{LINES, Queue, Ticket};
pub use server::{RETRY_FAILED_MS, ServerGauge};
