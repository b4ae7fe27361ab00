//! Files of unix sockets: makes room for them, and removes those that this process has made.
//!
//! Not here: listening. Invariant: a file that is removed is our own or stale.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::problem::{Problem, errno};

/// Socket files of ours, removed when this is dropped.
#[derive(Debug, Default)]
pub(in crate::control) struct SocketFiles(Vec<SocketFile>);

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFiles {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where they are.
    pub(in crate::control) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| file.path.as_path())
    }

    /// Remembers a file that this process has just made.
    pub(in crate::control) fn add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        self.0.push(SocketFile { path: path.to_owned(), device, inode });
        Ok(())
    }

    /// Takes those of a new configuration, and removes the files that are no longer listened at.
    pub(in crate::control) fn follow(&mut self, newer: Self, paths: &HashSet<&Path>) {
        self.0.extend(newer.0);
        self.0.retain(|file| paths.contains(file.path.as_path()));
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // While we drained, a new process may have put its own socket there.
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours {
            // Without write access to the directory (privileges were given up) it stays, and the
            // next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes room for a socket file: creates its directory if only that is missing, and removes a stale
/// file.
pub(in crate::control) fn prepare_path(path: &Path) -> Result<(), Problem> {
    if let Some(folder) = path.parent()
        && !folder.exists()
        && let Err(error) = fs::create_dir(folder)
    {
        return Err(Problem::Folder(folder.to_owned(), error));
    }
    clear_stale(path)
}

/// Removes a socket file that nothing listens at any more.
fn clear_stale(path: &Path) -> Result<(), Problem> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Problem::from_bind(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(Problem::NotASocket),
        Ok(_) => {}
    }
    match try_connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(Problem::Stale)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A listener whose queue is full, or a socket of another type.
        Err(error) if matches!(errno(&error), Errno::EAGAIN | Errno::EPROTOTYPE) => {
            Err(Problem::InUse)
        }
        Err(error) => Err(Problem::from_bind(error)),
        Ok(()) => Err(Problem::InUse),
    }
}

/// Connects without waiting for a slot in the listener's queue.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}
