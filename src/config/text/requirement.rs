//! What must exist on the host for a configuration to work, recorded by the readers.
//!
//! Not here: looking whether it does (`machine`).

use std::path::PathBuf;

/// Something that must be on the host.
#[derive(Clone, Debug)]
pub(in crate::config) enum Requirement {
    /// A file with a password, which not everybody should read.
    Password(PathBuf),
    /// A variable of the environment with a password.
    Variable(String),
    /// A password in the configuration file itself, which not everybody should read then.
    OwnSecret,
    /// A file that is read later.
    File(PathBuf),
    /// A program that is run.
    Program(PathBuf),
    /// The folder of a socket that is made.
    SocketFolder(PathBuf),
    /// The folder of a file that is written.
    LogFolder(PathBuf),
    /// A socket of another program.
    Socket(PathBuf),
}
