//! What must exist on the host for a configuration to work. The readers record it.
//!
//! Not here: checking the host (`machine`).

use std::ops::Range;
use std::path::PathBuf;

/// A requirement and the object in the file that has it.
#[derive(Clone, Debug)]
pub(in crate::config) struct Need {
    /// Its place in the file.
    pub(in crate::config) span: Range<usize>,
    /// The name of the object, for sentences.
    pub(in crate::config) owner: String,
    pub(in crate::config) requirement: Requirement,
}

/// Something that must exist on the host.
#[derive(Clone, Debug)]
pub(in crate::config) enum Requirement {
    /// A file with a secret, which must not be world-readable.
    Secret(Purpose, PathBuf),
    /// An environment variable with a secret.
    Variable(Purpose, String),
    /// The name of a systemd credential with a secret.
    Credential(Purpose, String),
    /// A secret in the configuration file, which must then not be world-readable.
    OwnSecret(Purpose),
    /// A file that is read later.
    File(PathBuf),
    /// A program that is run.
    Program(PathBuf),
    /// The directory of a socket that is created.
    SocketFolder(PathBuf),
    /// The directory of a log file.
    LogFolder(PathBuf),
    /// A socket of another program.
    Socket(PathBuf),
}

/// What a secret is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) enum Purpose {
    /// The login of a check.
    Password,
    /// A token of the admin API.
    Token,
}

impl Purpose {
    /// What it is called.
    pub(in crate::config) const fn called(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Token => "secret",
        }
    }

    /// What happens without it.
    pub(in crate::config) const fn effect(self) -> &'static str {
        match self {
            Self::Password => "until then, the check fails",
            Self::Token => "until then, the balancer does not start",
        }
    }

    /// An example of a file with it.
    pub(in crate::config) const fn file(self) -> &'static str {
        match self {
            Self::Password => "/etc/ringlane/check.pass",
            Self::Token => "/etc/ringlane/admin.token",
        }
    }
}
