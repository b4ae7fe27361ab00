//! A log line before it is written: its level, its sentence, and the fields that programs look for.
//!
//! Not here: how lines look and where they go (`log`). Invariant: the sentence names the object and
//! is whole without the fields; they only repeat parts of it under documented names
//! (docs/operations.md).

pub use crate::config::LogLevel as Level;

/// One line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Notice {
    /// How much it matters.
    pub level: Level,
    /// The kind of line; empty for one that has no documented kind.
    pub event: &'static str,
    /// The frontend that it is about.
    pub frontend: Option<String>,
    /// The backend that it is about.
    pub backend: Option<String>,
    /// The server that it is about, without its backend's name.
    pub server: Option<String>,
    /// How many sessions, connections or records it is about.
    pub count: Option<u64>,
    /// The sentence.
    pub message: String,
}

impl Notice {
    /// A line without fields.
    pub fn new(level: Level, event: &'static str, message: String) -> Self {
        Self { level, event, message, ..Self::default() }
    }

    /// It is about this frontend.
    pub fn frontend(self, name: &str) -> Self {
        Self { frontend: Some(name.to_owned()), ..self }
    }

    /// It is about this backend.
    pub fn backend(self, name: &str) -> Self {
        Self { backend: Some(name.to_owned()), ..self }
    }

    /// It is about this server.
    pub fn server(self, name: &str) -> Self {
        Self { server: Some(name.to_owned()), ..self }
    }

    /// Adds a count.
    pub fn count(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }
}
