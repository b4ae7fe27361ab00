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
    /// A password file, which must not be world-readable.
    Password(PathBuf),
    /// An environment variable with a password.
    Variable(String),
    /// The name of a systemd credential with a password.
    Credential(String),
    /// A password in the configuration file, which must then not be world-readable.
    OwnSecret,
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
