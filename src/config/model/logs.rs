//! The process log and the access log: levels, shapes, fields, destinations.
//!
//! Not here: writing them (`control::log`, `control::report::access_log`).

use std::path::PathBuf;

/// Settings of the process log: starts, changes of state, limits, losses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Log {
    /// Lines below this level are not written.
    pub level: LogLevel,
    /// The format of a line.
    pub format: LogFormat,
    /// Where lines go.
    pub destination: LogDestination,
}

/// The severity of a line.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    /// Clients are refused, or the balancer itself is damaged: needs attention at once.
    Error,
    /// A limit, a failure or a loss that will cause damage if it continues.
    Warning,
    /// A change that an operator wants to find in the log later.
    #[default]
    Info,
    /// Details for debugging.
    Debug,
}

impl LogLevel {
    /// Its name in the configuration and in lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Its severity number in syslog and the journal.
    pub const fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// Settings of the access log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// The format of a line.
    pub format: LogFormat,
    /// Where lines go.
    pub destination: LogDestination,
    /// Whether sessions whose client sent no byte get a line.
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
    /// The frontend that accepted it.
    Frontend,
    /// The backend that its route selected.
    Backend,
    /// The server that served it.
    Server,
    /// Bytes from the client.
    BytesIn,
    /// Bytes to the client.
    BytesOut,
    /// Time from accept until the server was connected.
    ConnectUs,
    /// Time from accept to the end.
    DurationUs,
    /// Failed connects before one succeeded.
    Retries,
    /// The close code.
    Close,
    /// The shard that served it.
    Shard,
    /// The number that the server got in its PROXY header.
    UniqueId,
    /// The cause in words.
    Reason,
    /// Time in the backend's queue.
    QueueUs,
    /// Servers whose connects failed.
    Tried,
    /// The server name that the TLS client requested.
    Sni,
    /// The user that logged in.
    User,
    /// The database that was opened.
    Database,
}

impl LogField {
    /// All fields, in the default order of a line.
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

    /// Its name in lines and in the configuration.
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

    /// Whether only the first message of the client has it.
    pub(crate) const fn is_of_the_first_message(self) -> bool {
        matches!(self, Self::Sni | Self::User | Self::Database)
    }
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// `key=value` pairs in the access log, a sentence in the process log.
    #[default]
    Text,
}

/// Where log lines go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LogDestination {
    /// The standard error stream.
    #[default]
    Stderr,
    /// Append to this file.
    File(PathBuf),
    /// Send to this syslog datagram socket, such as `/dev/log`.
    Syslog(PathBuf),
}
