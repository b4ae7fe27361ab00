//! The configuration file: TOML text in, a checked [`Snapshot`] out, or a report of all that is wrong.
//!
//! What this is not: it binds nothing and keeps nothing; a limit that depends on the host is derived
//! by `control`, which also looks names up. The way through the modules: `syntax` (what the TOML parser
//! complains about) → `global`, `frontend`, `backend` (one reader per table, on `table`) → `loops`,
//! `warnings` and, for a file, `machine` → `lower` (references, duplicates, ids). `text::schema` knows every
//! key, `synonyms` those of other balancers, `report` shows what went wrong.
//!
//! Invariant: a reader that can't use a value records a diagnostic and goes on with a placeholder,
//! so that one run finds every error; a [`Config`] leaves this module only when no diagnostic was
//! recorded, so no placeholder ever does. Next: `lower`.

mod loops;
mod lower;
mod machine;
mod read;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod warnings;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringlane_core::settings::Snapshot;
use toml::de::DeTable;

pub use read::check::{Body, Check, Http, Kind, Login, Secret, Step, Tls, Trust, Watch, Way};
pub use read::names::{Lookup, Name, Resolver};
pub use text::report::Report;

use read::{backend, frontend, global, names};
use text::report::{Diagnostic, Sink};
use text::schema::Place;
use text::table::Table;
use text::{foreign, syntax};

/// Bytes in the largest configuration file that is read.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A configuration that can be run.
#[derive(Debug)]
pub struct Config {
    /// What concerns the process as a whole.
    pub global: Global,
    /// What the shards serve, with generation 1.
    pub snapshot: Snapshot,
    /// How the servers of each backend are watched, at the backend's id.
    pub watches: Vec<Watch>,
    /// The servers that are given by name.
    pub lookups: Vec<Lookup>,
    /// What is allowed and most likely a mistake.
    pub warnings: Report,
}

/// The `[global]` table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Global {
    /// How many shards run.
    pub shards: Shards,
    /// What carries their operations out.
    pub driver: Driver,
    /// Whether each shard is pinned to a core.
    pub pin: bool,
    /// Where the admin interface listens.
    pub admin: Admin,
    /// The user to become once all sockets are bound.
    pub user: Option<String>,
    /// The group to become once all sockets are bound.
    pub group: Option<String>,
    /// Sessions at once in the whole process. `None`: as many as the descriptor limit allows, and
    /// `Snapshot::max_connections` is `u32::MAX` until the supervisor has derived it.
    pub max_connections: Option<u32>,
    /// How long listeners go on accepting while `/healthz` says that the process is about to end.
    pub shutdown_delay: Duration,
    /// How long a drain waits for sessions to end by themselves.
    pub drain_timeout: Duration,
    /// How and where the process itself logs.
    pub log: Log,
    /// Where finished sessions are written to, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Who is asked for the addresses of servers that are given by name.
    pub resolver: Resolver,
}

/// How many shards run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Shards {
    /// One per core that this process may use.
    #[default]
    Auto,
    /// This many.
    Count(usize),
}

/// What carries the shards' operations out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Driver {
    /// io_uring where it works, otherwise epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// Where the admin interface listens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Admin {
    /// On a unix socket.
    pub socket: Option<PathBuf>,
    /// On a TCP address.
    pub http: Option<SocketAddr>,
}

/// How and where the process itself logs: starts, changes, limits, losses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Log {
    /// Lines that matter less are not written.
    pub level: LogLevel,
    /// The shape of a line.
    pub format: LogFormat,
    /// Where lines go.
    pub destination: LogDestination,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    /// Clients are refused, or the balancer itself is damaged: somebody must act now.
    Error,
    /// A limit, a failure or a loss that will hurt if it goes on.
    Warning,
    /// Something changed that an operator wants to find in the log later.
    #[default]
    Info,
    /// Details for looking into a problem.
    Debug,
}

impl LogLevel {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Its severity in syslog and the journal.
    pub const fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// How and where finished sessions are written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// The shape of a line.
    pub format: LogFormat,
    /// Where lines go.
    pub destination: LogDestination,
    /// Whether sessions whose client left without a byte get a line.
    pub log_empty: bool,
    /// The fields of a line, in their order.
    pub fields: Vec<LogField>,
}

/// A field of an access-log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogField {
    /// When the session was accepted.
    Time,
    /// The client's address and port.
    Client,
    /// Where it came in.
    Frontend,
    /// The backend that its route led to.
    Backend,
    /// The server that served it.
    Server,
    /// Bytes from the client.
    BytesIn,
    /// Bytes to the client.
    BytesOut,
    /// From accept to the server's answer.
    ConnectUs,
    /// From accept to the end.
    DurationUs,
    /// Connects that failed before one succeeded.
    Retries,
    /// The close code.
    Close,
    /// The shard that served it.
    Shard,
    /// The number that the server was told.
    UniqueId,
    /// What lies behind the close code.
    Reason,
    /// Time in the backend's queue.
    QueueUs,
    /// Servers whose connects failed.
    Tried,
    /// The server name of TLS.
    Sni,
    /// The user that logged in.
    User,
    /// The database that was opened.
    Database,
}

impl LogField {
    /// All of them, in the order of a line that nothing is configured for.
    pub const ALL: [Self; 19] = [
        Self::Time,
        Self::Client,
        Self::Frontend,
        Self::Backend,
        Self::Server,
        Self::BytesIn,
        Self::BytesOut,
        Self::ConnectUs,
        Self::DurationUs,
        Self::Retries,
        Self::Close,
        Self::Shard,
        Self::UniqueId,
        Self::Reason,
        Self::QueueUs,
        Self::Tried,
        Self::Sni,
        Self::User,
        Self::Database,
    ];

    /// Its name, in lines and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Client => "client",
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Server => "server",
            Self::BytesIn => "bytes_in",
            Self::BytesOut => "bytes_out",
            Self::ConnectUs => "connect_us",
            Self::DurationUs => "duration_us",
            Self::Retries => "retries",
            Self::Close => "close",
            Self::Shard => "shard",
            Self::UniqueId => "unique_id",
            Self::Reason => "reason",
            Self::QueueUs => "queue_us",
            Self::Tried => "tried",
            Self::Sni => "sni",
            Self::User => "user",
            Self::Database => "database",
        }
    }

    /// Whether it is known from the client's first message alone.
    pub(crate) const fn is_of_the_first_message(self) -> bool {
        matches!(self, Self::Sni | Self::User | Self::Database)
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// `key=value` words in the access log, a sentence otherwise.
    #[default]
    Text,
}

/// Where log lines go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LogDestination {
    /// The standard error stream.
    #[default]
    Stderr,
    /// Appended to this file.
    File(PathBuf),
    /// Sent to this syslog datagram socket, such as `/dev/log`.
    Syslog(PathBuf),
}

/// Reads and checks the configuration file at `path`.
///
/// # Errors
/// Everything that is wrong with it, or why it can't be read.
pub fn load(path: &Path) -> Result<Config, Report> {
    let name = path.display().to_string();
    match read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => read_text(&name, &text, Some(path)),
            Err(error) => Err(not_text(&name, &error)),
        },
        Err(error) => {
            let title = format!("can't read the configuration file {name}: {error}");
            let hint = "--config names a TOML file that this user may read";
            Err(Report::single(&name, "", Diagnostic::whole(title).hint(hint)))
        }
    }
}

/// Checks a configuration given as the bytes of its file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_bytes(name: &str, bytes: Vec<u8>) -> Result<Config, Report> {
    match String::from_utf8(bytes) {
        Ok(text) => parse(name, &text),
        Err(error) => Err(not_text(name, &error)),
    }
}

/// Checks a configuration given as text; `name` is what the report calls it. Nothing of the host is
/// looked at.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(name: &str, text: &str) -> Result<Config, Report> {
    read_text(name, text, None)
}

/// Checks a configuration; that of a file also against the host.
fn read_text(name: &str, text: &str, file: Option<&Path>) -> Result<Config, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let sink = Sink::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if let Some(mistaken) = foreign::recognise(name, text).filter(|_| !errors.is_empty()) {
        return Err(Report::single(name, text, mistaken));
    }
    syntax::read(&sink, text, &errors);
    let root = Table::root(&sink, document.get_ref());
    let mut claims = lower::Claims::default();
    let own = file.map(|_| loops::own_addresses()).unwrap_or_default();
    let global = global::read(root.table("global", Place::Global), &mut claims);
    let frontends = root.tables("frontend", Place::Frontend);
    if root.lacks("frontend") {
        let title = "there is no frontend, so there is nothing to serve";
        let hint = "add a [[frontend]] with name, bind and backend";
        sink.add(Diagnostic::at(text.len()..text.len(), title).hint(hint).absence());
    }
    let mut frontends: Vec<_> = frontends.into_iter().map(frontend::read).collect();
    let backends = root.tables("backend", Place::Backend);
    if backends.is_empty() && !root.lacks("backend") {
        // What should be backends was reported; that none of them is there follows from it.
        frontends.iter_mut().for_each(|frontend| frontend.backend = None);
    }
    let mut slots_left = names::SLOTS_ALL_MAX;
    let mut backends: Vec<_> =
        backends.into_iter().map(|table| backend::read(table, &mut slots_left)).collect();
    loops::refuse(&root, &frontends, &backends, &own);
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

/// The bytes of a file, unless they are too many.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", FILE_MAX >> 20)));
    }
    Ok(bytes)
}

/// The report for a file that is not UTF-8, with the first bad byte shown.
fn not_text(name: &str, error: &std::string::FromUtf8Error) -> Report {
    let text = String::from_utf8_lossy(error.as_bytes());
    let at = error.utf8_error().valid_up_to();
    let bad = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
    let diagnostic = Diagnostic::at(bad, "the configuration file is not UTF-8 text")
        .label("the first byte that is not")
        .hint("save the file as UTF-8; a TOML file can be nothing else");
    Report::single(name, &text, diagnostic)
}
