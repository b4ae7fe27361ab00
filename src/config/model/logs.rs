//! The process log and the access log: levels, shapes, fields, destinations.
//!
//! Not here: writing them (`control::log`, `control::access_log`).

use std::path::PathBuf;

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
