//! The configuration file: TOML text in, a checked [`Snapshot`] out, or a report of all errors.
//!
//! Not here: binding and resolving; limits that depend on the host are derived by `control`. The
//! order of the modules: `text` (TOML, tables, keys, reports) and `value` (addresses, durations, …)
//! are the tools; `read` has one reader per table; then `loops`, `warnings` and, for a file on
//! disk, `machine` look at the whole; `lower` resolves references and gives out ids. `model` has
//! the types that the rest of the program sees. `include` reads the files and `merge` joins them.
//!
//! Invariant: a reader that can't use a value records a diagnostic and goes on with a placeholder,
//! so one run finds every error. A [`Config`] is returned only if no diagnostic is an error, so no
//! placeholder leaves this module. No module here imports one above it: `value`, `text`, `read`,
//! then the rest. Next: `read`, `lower`.

mod defaults;
mod diff;
mod difference;
mod edit;
mod include;
mod loops;
mod lower;
mod machine;
mod merge;
mod model;
mod objects;
mod read;
mod routes;
mod show;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod warnings;

use std::env;
use std::path::Path;
use std::sync::Arc;

use ringlane_core::settings::Snapshot;

pub use diff::diff;
pub use difference::{Alteration, Difference, describe};
pub use edit::Edit;
pub use model::{
    AccessLog, Admin, AdminSocketFile, Body, Check, Driver, Global, Http, Kind, Log,
    LogDestination, LogField, LogFormat, LogLevel, Login, Secret, ShardCount, Step, Tls, Token,
    TokenRole, Trust, Watch, Way, credential_file,
};
pub use objects::{ObjectKind, Objects};
pub(crate) use read::admin::usable as usable_token;
pub use text::effect::Effect;
pub use text::report::Report;
pub use text::sources::Sources;
pub(crate) use text::synonyms::nearest as nearest_name;
pub(crate) use value::duration::parse as parse_duration;
pub use value::lookup::{Lookup, Name, Resolver};

use include::Input;
use read::claims::BoundAddresses;
use read::{backend, frontend, global};
use text::report::{Diagnostic, Diagnostics};
use text::schema::Section;
use text::table::Table;
use text::variables::Environment;
use value::lookup;

/// Bytes in the largest file that is read.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A configuration that can be run.
#[derive(Debug)]
pub struct Config {
    /// Settings of the process as a whole.
    pub global: Global,
    /// The snapshot for the shards, with generation 1.
    pub snapshot: Snapshot,
    /// How the servers of each backend are checked, indexed by backend id.
    pub watches: Vec<Watch>,
    /// The servers that are given by DNS name.
    pub lookups: Vec<Lookup>,
    /// Warnings about likely mistakes.
    pub warnings: Report,
    /// The files that it was read from.
    pub sources: Arc<Sources>,
    /// Its objects as they are written.
    pub objects: Objects,
}

impl Config {
    /// The effective configuration as TOML: with defaults, passwords masked.
    pub fn to_toml(&self) -> String {
        show::toml(&self.objects)
    }

    /// The effective configuration as JSON, in the same way.
    pub fn to_json(&self) -> serde_json::Value {
        show::json(&self.objects)
    }
}

/// Reads and checks the configuration file at `path`, with all files that it includes. Has no
/// effect on the process, so it may be called at any time; it reads files, which may block.
///
/// # Errors
/// All errors in it, or why it can't be read.
pub fn load(path: &Path) -> Result<Config, Report> {
    check(Input::File(path), &|name| env::var_os(name))
}

/// Checks a text as if it were the content of the file at `path`: what it includes is read from
/// disk, relative to that file.
///
/// # Errors
/// All errors in it.
pub fn load_text(path: &Path, text: &str) -> Result<Config, Report> {
    check(Input::InPlaceOf(path, text), &|name| env::var_os(name))
}

/// Checks the texts of an earlier configuration again, whatever is on disk now.
///
/// # Errors
/// All errors in it: variables may have other values, and the host may have changed.
pub fn load_again(sources: &Sources) -> Result<Config, Report> {
    check(Input::Again(sources), &|name| env::var_os(name))
}

/// The same with changes that are in no file.
///
/// # Errors
/// All errors in it, and changes of objects that it lacks.
pub fn load_edited(sources: &Sources, edits: &[Edit]) -> Result<Config, Report> {
    check_edited(Input::Again(sources), &|name| env::var_os(name), edits)
}

/// Checks a configuration given as the bytes of its file.
///
/// # Errors
/// All errors in it.
pub fn parse_bytes(name: &str, bytes: Vec<u8>) -> Result<Config, Report> {
    parse(name, &include::text_of(name, bytes)?)
}

/// Checks a configuration given as text; `name` stands for the file in the report. The host is not
/// checked, and the text can't include files.
///
/// # Errors
/// All errors in it.
pub fn parse(name: &str, text: &str) -> Result<Config, Report> {
    check(Input::Text(name, text), &|name| env::var_os(name))
}

fn check(input: Input<'_>, environment: Environment<'_>) -> Result<Config, Report> {
    check_edited(input, environment, &[])
}

/// Checks a configuration; if it is from files, also against the host.
fn check_edited(
    input: Input<'_>,
    environment: Environment<'_>,
    edits: &[Edit],
) -> Result<Config, Report> {
    let sink = Diagnostics::default();
    let gathered = include::gather(&sink, input, environment)?;
    let sources = Arc::new(gathered.sources);
    // In each file by itself, since two may have the same one.
    gathered.roots.iter().for_each(|root| Table::root(&sink, root).refuse_unknown_keys());
    let mut entries = merge::roots(&sink, gathered.roots);
    edit::apply(&sink, &mut entries, edits);
    let root = Table::root(&sink, &entries);
    let mut claims = BoundAddresses::default();
    let own = sources.main_path().map(|_| loops::own_addresses());
    let global = global::read(root.table("global", Section::Global), &mut claims);
    let frontends = root.tables("frontend", Section::Frontend);
    if root.lacks("frontend") {
        let title = "no frontend is configured, so there is nothing to serve";
        let hint = "add a [[frontend]] with name, bind and backend";
        let end = sources.main_end();
        sink.add(Diagnostic::at(end..end, title).hint(hint).absence());
    }
    let mut frontends: Vec<_> = frontends.into_iter().map(frontend::read).collect();
    let backends = root.tables("backend", Section::Backend);
    if backends.is_empty() && !root.lacks("backend") {
        // The invalid `backend` was reported, so references to it are not.
        frontends.iter_mut().for_each(|frontend| frontend.backend = None);
    }
    let mut slots_left = lookup::SLOTS_ALL_MAX;
    let mut backends: Vec<_> =
        backends.into_iter().map(|table| backend::read(table, &mut slots_left)).collect();
    loops::refuse(&root, &frontends, &backends, own.as_deref());
    sink.suspect(|| warnings::look(&root, &global, &frontends, &backends));
    if sources.main_path().is_some() {
        machine::look(&sink, sink.take_wanted(), &sources);
    }
    let watches = backends.iter_mut().map(|backend| std::mem::take(&mut backend.watch)).collect();
    let (snapshot, lookups) = lower::snapshot(&sink, &global, frontends, backends, &mut claims);
    let warnings = sink.finish(Arc::clone(&sources))?;
    let objects = Objects::of(&entries);
    Ok(Config { global, snapshot, watches, lookups, warnings, sources, objects })
}
