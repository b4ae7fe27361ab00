//! Why a configuration is refused while another one is served, in sentences for operators.
//!
//! Not here: errors in a file and changes that no running process can make (`config`), refusals of
//! the system (`start`).

use std::fmt;

/// Why a reload was refused, as a whole; nothing has been touched.
#[derive(Clone, Debug)]
pub(in crate::control) struct ReloadRefusal {
    /// Whether the reason is the state of this process and not the new configuration.
    pub(in crate::control) is_conflict: bool,
    /// All reasons.
    pub(in crate::control) reasons: Vec<String>,
}

impl ReloadRefusal {
    /// The configuration can't be served here.
    pub(super) fn invalid(reasons: Vec<String>) -> Self {
        Self { is_conflict: false, reasons }
    }

    fn conflict(reason: String) -> Self {
        Self { is_conflict: true, reasons: vec![reason] }
    }

    /// Another generation is served than the request was made for.
    pub(super) fn other_generation(expected: u64, found: u64) -> Self {
        Self::conflict(format!(
            "generation {expected} was expected, but {found} is served: look at what has changed \
             since, then reload with --expect {found}"
        ))
    }

    /// Too many requests wait.
    pub(super) fn busy() -> Self {
        Self::conflict("too many reloads are waiting: try again when they are done".to_owned())
    }

    /// The process ends.
    pub(super) fn ending() -> Self {
        Self::conflict("the process is draining: nothing is reloaded any more".to_owned())
    }

    /// There is nothing to read again.
    pub(super) fn without_file() -> Self {
        Self::conflict("this process was started without a configuration file".to_owned())
    }

    /// The text is not kept any more.
    pub(super) fn no_such_text(generation: u64) -> Self {
        Self::conflict(format!(
            "the text of generation {generation} is not kept: `ringlane ctl history` lists those \
             that are"
        ))
    }
}

impl fmt::Display for ReloadRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}
