//! The checked configuration, apart from the snapshot that the shards get.
//!
//! Not here: reading it (`read`). The rest of the program uses these types as `config::…`.

pub(super) mod admin;
pub(super) mod check;
pub(super) mod global;
pub(super) mod logs;

pub use admin::{Admin, AdminSocketFile, Token, TokenRole};
pub use check::{
    Body, Check, Http, Kind, Login, Secret, Step, Tls, Trust, Watch, Way, credential_file,
};
pub use global::{Driver, Global, ShardCount};
pub use logs::{AccessLog, Log, LogDestination, LogField, LogFormat, LogLevel};
