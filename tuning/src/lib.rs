//! The host's mirror: reads the machine, compares it with what a relay wants, explains.
//!
//! Not here: changing anything. Nothing in this crate writes; the operator installs
//! `files/90-ringlane.conf` and `files/ringlane.service`, or does not. Invariant: [`plan`] is pure,
//! so that a recorded host can be judged anywhere. Next: `facts` (what is read), `plan` (what is
//! wanted), `explain` (how it is said).

#![forbid(unsafe_code)]

mod explain;
mod facts;
mod plan;
mod sysctl;
#[cfg(test)]
mod tests;

pub use explain::explain;
pub use facts::Facts;
pub use plan::{Change, How, plan, sessions};

/// Looks at this host and says what to change: the text of `ringlane tune`. Changes nothing.
pub fn report() -> String {
    let facts = Facts::look();
    explain(&facts, &plan(&facts))
}
