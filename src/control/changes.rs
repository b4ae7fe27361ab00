//! What operators changed at run time, over the configuration: states, weights, limits, pauses.
//!
//! Changes are kept by the names of their objects, so that they can be listed, put back, and
//! applied again after a reload. Not here: how they take effect (`report::admin::apply`), states
//! of servers (`servers`). Invariants: there is at most one entry per object and key; a value that
//! is that of the file leaves no entry; an entry ends with the process at the latest.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use ringlane_health::Admin;
use serde_json::{Value, json};

/// An object that has changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::control) enum Subject {
    Frontend { frontend: String },
    Server { backend: String, server: String },
}

/// A value of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) enum Setting {
    /// `state` of a server.
    State(Admin),
    /// `weight` of a server.
    Weight(u32),
    /// `max_connections`; `u32::MAX`: as without the key.
    MaxConnections(u32),
    /// Whether a frontend is paused.
    Paused(bool),
}

/// One change.
#[derive(Clone, Debug)]
pub(in crate::control) struct Override {
    pub(in crate::control) id: u64,
    pub(in crate::control) subject: Subject,
    /// The value in the configuration.
    pub(in crate::control) from: Setting,
    pub(in crate::control) to: Setting,
    /// What ordered it.
    pub(in crate::control) by: String,
    pub(in crate::control) at: SystemTime,
}

/// All changes.
#[derive(Debug, Default)]
pub(in crate::control) struct Overlay(Mutex<Overrides>);

/// Changes by the names of their objects.
#[derive(Debug, Default)]
pub(in crate::control) struct Overrides {
    last_id: u64,
    frontends: BTreeMap<String, Vec<Override>>,
    servers: BTreeMap<String, BTreeMap<String, Vec<Override>>>,
}

impl Setting {
    /// The key in requests and in the configuration.
    pub(in crate::control) const fn key(self) -> &'static str {
        match self {
            Self::State(_) => "state",
            Self::Weight(_) => "weight",
            Self::MaxConnections(_) => "max_connections",
            Self::Paused(_) => "paused",
        }
    }

    /// As in requests.
    pub(in crate::control) fn to_json(self) -> Value {
        match self {
            Self::State(admin) => json!(admin.name()),
            Self::Weight(weight) => json!(weight),
            Self::MaxConnections(u32::MAX) => Value::Null,
            Self::MaxConnections(max) => json!(max),
            Self::Paused(paused) => json!(paused),
        }
    }
}

impl Subject {
    /// As log lines name it.
    pub(in crate::control) fn called(&self) -> String {
        match self {
            Self::Frontend { frontend } => format!("frontend {frontend}"),
            Self::Server { backend, server } => format!("server {backend}/{server}"),
        }
    }
}

impl Overlay {
    /// Whether a frontend has changes.
    pub(in crate::control) fn has_frontend(&self, frontend: &str) -> bool {
        self.lock().frontends.contains_key(frontend)
    }

    /// Whether a server has changes.
    pub(in crate::control) fn has_server(&self, backend: &str, server: &str) -> bool {
        self.lock().servers.get(backend).is_some_and(|servers| servers.contains_key(server))
    }

    /// The entries, for an order: it takes effect while they are locked.
    pub(in crate::control) fn lock(&self) -> MutexGuard<'_, Overrides> {
        // What is inside is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Overrides {
    fn of(&self, subject: &Subject) -> &[Override] {
        let changes = match subject {
            Subject::Frontend { frontend } => self.frontends.get(frontend),
            Subject::Server { backend, server } => {
                self.servers.get(backend).and_then(|servers| servers.get(server))
            }
        };
        changes.map_or(&[], Vec::as_slice)
    }

    /// The value of the same key as `like` that an object has now.
    pub(in crate::control) fn value(&self, subject: &Subject, like: Setting) -> Option<Setting> {
        let changes = self.of(subject).iter();
        changes.map(|change| change.to).find(|to| to.key() == like.key())
    }

    /// Records a value, unless it is that of the file and nothing else may have set another.
    pub(in crate::control) fn set(
        &mut self,
        subject: &Subject,
        [from, to]: [Setting; 2],
        is_fixed: bool,
        by: &str,
    ) {
        let mut changes = self.of(subject).to_vec();
        changes.retain(|change| change.to.key() != to.key());
        if from != to || !is_fixed {
            self.last_id += 1;
            changes.push(Override {
                id: self.last_id,
                subject: subject.clone(),
                from,
                to,
                by: by.to_owned(),
                at: SystemTime::now(),
            });
        }
        match subject {
            Subject::Frontend { frontend } => put(&mut self.frontends, frontend, changes),
            Subject::Server { backend, server } => {
                let servers = self.servers.entry(backend.clone()).or_default();
                put(servers, server, changes);
                if servers.is_empty() {
                    self.servers.remove(backend);
                }
            }
        }
    }

    /// All changes, the oldest first.
    pub(in crate::control) fn list(&self) -> Vec<Override> {
        let of_servers = self.servers.values().flat_map(BTreeMap::values);
        let mut all: Vec<Override> =
            self.frontends.values().chain(of_servers).flatten().cloned().collect();
        all.sort_by_key(|change| change.id);
        all
    }
}

/// Keeps no empty lists.
fn put(map: &mut BTreeMap<String, Vec<Override>>, name: &str, changes: Vec<Override>) {
    if changes.is_empty() {
        map.remove(name);
    } else {
        map.insert(name.to_owned(), changes);
    }
}

/// RFC 3339, in UTC.
pub(in crate::control) fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}
