//! The configuration file: TOML text in, a checked [`Snapshot`] out, or a report of all errors.
//!
//! Not here: binding and resolving; limits that depend on the host are derived by `control`. The
//! order of the modules: `text` (TOML, tables, keys, reports) and `value` (addresses, durations, …)
//! are the tools; `read` has one reader per table; then `loops`, `warnings` and, for a file on
//! disk, `machine` look at the whole; `lower` resolves references and gives out ids. `model` has
//! the types that the rest of the program sees.
//!
//! Invariant: a reader that can't use a value records a diagnostic and goes on with a placeholder,
//! so one run finds every error. A [`Config`] is returned only if no diagnostic is an error, so no
//! placeholder leaves this module. No module here imports one above it: `value`, `text`, `read`,
//! then the rest. Next: `read`, `lower`.

mod loops;
mod lower;
mod machine;
mod model;
mod read;
mod routes;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod warnings;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ringlane_core::settings::Snapshot;
use toml::de::DeTable;

pub use model::{
    AccessLog, Admin, Body, Check, Driver, Global, Http, Kind, Log, LogDestination, LogField,
    LogFormat, LogLevel, Login, Secret, ShardCount, Step, Tls, Trust, Watch, Way,
};
pub use text::report::Report;
pub(crate) use value::duration::parse as parse_duration;
pub use value::lookup::{Lookup, Name, Resolver};

use read::claims::BoundAddresses;
use read::{backend, frontend, global};
use text::report::{Diagnostic, Diagnostics};
use text::schema::Section;
use text::table::Table;
use text::{foreign, syntax};
use value::lookup;

/// Bytes in the largest configuration file that is read.
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
}

/// Reads and checks the configuration file at `path`.
///
/// # Errors
/// All errors in it, or why it can't be read.
pub fn load(path: &Path) -> Result<Config, Report> {
    let name = path.display().to_string();
    match read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => read_text(&name, &text, Some(path)),
            Err(error) => Err(not_text(&name, &error)),
        },
        Err(error) => {
            let title = format!("can't read the configuration file {name}: {error}");
            let hint = "--config must name a TOML file that this user may read";
            Err(Report::single(&name, "", Diagnostic::whole(title).hint(hint)))
        }
    }
}

/// Checks a configuration given as the bytes of its file.
///
/// # Errors
/// All errors in it.
pub fn parse_bytes(name: &str, bytes: Vec<u8>) -> Result<Config, Report> {
    match String::from_utf8(bytes) {
        Ok(text) => parse(name, &text),
        Err(error) => Err(not_text(name, &error)),
    }
}

/// Checks a configuration given as text; `name` stands for the file in the report. The host is not
/// checked.
///
/// # Errors
/// All errors in it.
pub fn parse(name: &str, text: &str) -> Result<Config, Report> {
    read_text(name, text, None)
}

/// Checks a configuration; if it is from a file, also against the host.
fn read_text(name: &str, text: &str, file: Option<&Path>) -> Result<Config, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let sink = Diagnostics::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if let Some(mistaken) = foreign::recognise(name, text, errors.is_empty()) {
        return Err(Report::single(name, text, mistaken));
    }
    syntax::read(&sink, text, &errors);
    let root = Table::root(&sink, document.get_ref());
    let mut claims = BoundAddresses::default();
    let own = file.map(|_| loops::own_addresses());
    let global = global::read(root.table("global", Section::Global), &mut claims);
    let frontends = root.tables("frontend", Section::Frontend);
    if root.lacks("frontend") {
        let title = "no frontend is configured, so there is nothing to serve";
        let hint = "add a [[frontend]] with name, bind and backend";
        sink.add(Diagnostic::at(text.len()..text.len(), title).hint(hint).absence());
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
    root.refuse_unknown_keys();
    sink.suspect(|| warnings::look(&root, &global, &frontends, &backends));
    if let Some(file) = file {
        machine::look(&sink, sink.take_wanted(), file);
    }
    let watches = backends.iter_mut().map(|backend| std::mem::take(&mut backend.watch)).collect();
    let (snapshot, lookups) = lower::snapshot(&sink, &global, frontends, backends, &mut claims);
    let warnings = sink.finish(name, text)?;
    Ok(Config { global, snapshot, watches, lookups, warnings })
}

/// The bytes of a file, up to the limit.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("the file is larger than {} MiB", FILE_MAX >> 20)));
    }
    Ok(bytes)
}

/// The report for a file that is not UTF-8, with the first bad byte shown.
fn not_text(name: &str, error: &std::string::FromUtf8Error) -> Report {
    let text = String::from_utf8_lossy(error.as_bytes());
    let at = error.utf8_error().valid_up_to();
    let bad = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
    let diagnostic = Diagnostic::at(bad, "the configuration file is not UTF-8 text")
        .label("the first invalid byte")
        .hint("save the file as UTF-8, the only encoding of TOML");
    Report::single(name, &text, diagnostic)
}
