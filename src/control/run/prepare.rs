//! All of a reload that can be refused: reading, checking, and what is taken from the system.
//!
//! It runs on a thread of its own, since files may not answer and large ones take time. Not here:
//! what follows (`reload`). Invariant: everything that is refused is named at once, and what was
//! taken from the system is given back then.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringlane_core::balance::HashTable;
use tokio::sync::oneshot;

use super::live;
use super::refusals::ReloadRefusal;
use super::requests::Reloaded;
use crate::config::{self, Config, Difference, Global, Objects, Sources};
use crate::control::report::access_log;
use crate::control::running::Running;
use crate::control::servers::names;
use crate::control::start::sockets::{self, Listeners};
use crate::control::start::{descriptors, probe};
use crate::control::thread;

/// Where the text of the new configuration comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file and what it includes.
    File(PathBuf),
    /// A text in place of a file.
    Text(PathBuf, String),
    /// The texts of an earlier configuration.
    Again(Arc<Sources>),
}

/// The configuration that is served, as a reload finds it.
#[derive(Debug)]
pub(super) struct ServedNow {
    pub(super) global: Arc<Global>,
    pub(super) objects: Arc<Objects>,
    pub(super) running: Running,
}

/// A configuration that can be served.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) config: Config,
    /// Nothing where it was only asked what would happen.
    pub(super) listeners: Option<Listeners>,
    /// The tables of backends that are balanced by hash.
    pub(super) tables: Arc<[HashTable]>,
    /// The access log, if it is another one than before.
    pub(super) access_log: Option<access_log::Opened>,
    /// What has changed, one line each.
    changes: Vec<String>,
}

impl Prepared {
    /// What is answered to a request that came while `from` was served.
    pub(super) fn outcome(&self, from: u64) -> Reloaded {
        Reloaded {
            from,
            generation: self.config.snapshot.generation,
            changes: self.changes.clone(),
            warnings: self.config.warnings.lines().collect(),
        }
    }
}

/// Prepares a configuration beside the control thread.
pub(super) async fn prepare(
    source: Source,
    before: ServedNow,
    plan: bool,
) -> Result<Prepared, ReloadRefusal> {
    let (done, prepared) = oneshot::channel();
    let thread = thread::spawn("reload", move || {
        // Fails if the process ends meanwhile.
        let _ = done.send(prepare_here(source, &before, plan));
    });
    if let Err(error) = thread {
        return Err(ReloadRefusal::invalid(vec![format!("cannot start a thread: {error}")]));
    }
    prepared.await.unwrap_or_else(|_| Err(ReloadRefusal::ending()))
}

fn prepare_here(source: Source, before: &ServedNow, plan: bool) -> Result<Prepared, ReloadRefusal> {
    let ServedNow { global, objects, running } = before;
    let loaded = match source {
        Source::File(path) => config::load(&path),
        Source::Text(path, text) => config::load_text(&path, &text),
        Source::Again(sources) => config::load_again(&sources),
    };
    let mut config = loaded.map_err(|report| ReloadRefusal::invalid(report.lines().collect()))?;
    let shards = running.traffic.shards();
    let differences = config::diff(objects, &config.objects);
    let refused = differences.iter().filter(|one| one.is_refused());
    let mut reasons: Vec<String> = refused.map(Difference::to_string).collect();
    config.snapshot.generation = running.traffic.snapshot.generation + 1;
    let sockets = sockets::count(&config.snapshot, shards) + names::sockets(config.lookups.len());
    match descriptors::make_room(config.global.max_connections, shards, sockets) {
        Ok(room) => config.snapshot.max_connections = room.max_connections,
        Err(error) => reasons.push(error.to_string()),
    }
    if let Err(error) = probe::check(&mut config.snapshot) {
        reasons.push(error.to_string());
    }
    let access_log = match open_log(global, &config.global) {
        Ok(opened) => opened,
        Err(reason) => {
            reasons.push(reason);
            None
        }
    };
    if !reasons.is_empty() {
        return Err(ReloadRefusal::invalid(reasons));
    }
    let kept = Some((&*running.listening, &*running.traffic.snapshot));
    let bound = match plan {
        true => sockets::look(&config.snapshot, kept, Duration::ZERO).map(|()| None),
        false => sockets::bind(&config.snapshot, shards, kept).map(Some),
    };
    let listeners = bound.map_err(|error| ReloadRefusal::invalid(vec![error.to_string()]))?;
    let changes = live::changes(&differences, running);
    let older = Some((&*running.tables, &*running.traffic.snapshot));
    let tables = HashTable::of_all(&config.snapshot, older);
    Ok(Prepared { config, listeners, tables, access_log, changes })
}

/// Opens the access log, if another one is configured than before.
fn open_log(before: &Global, now: &Global) -> Result<Option<access_log::Opened>, String> {
    match &now.access_log {
        Some(configured) if before.access_log.as_ref() != Some(configured) => {
            access_log::open(configured).map(Some).map_err(|error| error.to_string())
        }
        _ => Ok(None),
    }
}
