//! Destinations of the access log and of the process's log: stderr, a file, a syslog socket.
//!
//! Not here: the content of lines, when a loss is reported (`report::access_log`, `log`).
//! Invariants: a failed write never leaves half a line in front of a whole one; what the process
//! writes to stderr never lands within a line; a syslog daemon that accepts nothing is waited for
//! once, for [`SYSLOG_WAIT`], and then not until it accepts something again.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::config::LogDestination;

/// Bytes that a pipe takes whole or not at all (POSIX, `PIPE_BUF`; Linux).
const PIPE_BUF: usize = 4096;
/// How long a full syslog socket may hold up the thread.
const SYSLOG_WAIT: Duration = Duration::from_millis(100);
/// Log files are for the owner and for the group that reads logs.
const FILE_MODE: u32 = 0o640;

/// An open destination.
#[derive(Debug)]
pub(in crate::control) enum Sink {
    Stderr(Stream),
    File(Stream, PathBuf),
    Syslog(Syslog),
}

/// Records that a destination refused, and why.
#[derive(Debug)]
pub(in crate::control) struct Lost {
    pub(in crate::control) records: u64,
    pub(in crate::control) error: io::Error,
}

/// Access-log records that their destination has refused since the start.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct RecordsLost(Arc<AtomicU64>);

impl RecordsLost {
    /// The count now.
    pub(in crate::control) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::control) fn add(&self, records: u64) {
        self.0.fetch_add(records, Ordering::Relaxed);
    }
}

impl Sink {
    pub(in crate::control) fn open(destination: &LogDestination) -> io::Result<Self> {
        match destination {
            // A descriptor of our own: a stalled terminal must not hold the lock of std's stderr.
            LogDestination::Stderr => {
                let own = io::stderr().as_fd().try_clone_to_owned()?;
                Ok(Self::Stderr(Stream::new(own.into())))
            }
            LogDestination::File(path) => {
                Ok(Self::File(Stream::new(open_file(path)?), path.clone()))
            }
            LogDestination::Syslog(path) => Syslog::open(path).map(Self::Syslog),
        }
    }

    /// Opens a file anew, by its name; other destinations have nothing to open.
    pub(in crate::control) fn reopen(&mut self) -> io::Result<Option<&Path>> {
        let Self::File(stream, path) = self else { return Ok(None) };
        *stream = Stream::new(open_file(path)?);
        Ok(Some(path))
    }

    /// Writes whole lines; `priority` is what a syslog daemon files them under.
    pub(in crate::control) fn write(&mut self, priority: u8, lines: &[u8]) -> Result<(), Lost> {
        match self {
            Self::Stderr(stream) => stream.write_pieces(lines).map_err(|lost| lost.at("stderr")),
            Self::File(stream, path) => {
                stream.write(lines).map_err(|lost| lost.at(&path.display().to_string()))
            }
            Self::Syslog(syslog) => {
                let outcome = syslog.write(priority, lines);
                outcome.map_err(|lost| lost.at(&syslog.path.display().to_string()))
            }
        }
    }
}

impl Lost {
    fn at(self, name: &str) -> Self {
        Self { error: named(name, &self.error), ..self }
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// Opens for appending. Non-blocking means nothing to a file; a fifo without reader is refused.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(|error| named(&path.display().to_string(), &error))
}

/// Something that bytes are appended to.
#[derive(Debug)]
pub(in crate::control) struct Stream {
    file: File,
    /// The last write stopped within a line.
    torn: bool,
}

impl Stream {
    pub(in crate::control) fn new(file: File) -> Self {
        Self { file, torn: false }
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        if self.torn && !lines.is_empty() {
            let ended = self.append(b"\n").1;
            ended.map_err(|error| Lost { records: count(lines), error })?;
            self.torn = false;
        }
        let (written, outcome) = self.append(lines);
        outcome.map_err(|error| {
            self.torn = written > 0 && lines[written - 1] != b'\n';
            Lost { records: count(&lines[written..]), error }
        })
    }

    /// As `write`, for a destination that others write to as well: in pieces that a pipe takes
    /// whole, so that nothing lands within a line.
    fn write_pieces(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let mut rest = lines;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece(rest));
            self.write(piece)
                .map_err(|lost| Lost { records: lost.records + count(after), ..lost })?;
            rest = after;
        }
        Ok(())
    }

    /// Writes as much as possible; returns how much that was.
    fn append(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

/// How many bytes of some lines a pipe takes whole: lines that fit, or a longer one by itself.
fn piece(lines: &[u8]) -> usize {
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1);
    let first = || lines.iter().position(|byte| *byte == b'\n').map(|first| first + 1);
    end(&lines[..lines.len().min(PIPE_BUF)]).or_else(first).unwrap_or(lines.len())
}

/// How many lines end in `bytes`.
fn count(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// A local syslog daemon's datagram socket.
#[derive(Debug)]
pub(in crate::control) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    /// The daemon took nothing last time, so it isn't waited for.
    stalled: bool,
    message: Vec<u8>,
}

impl Syslog {
    fn open(path: &Path) -> io::Result<Self> {
        let socket = connect(path).map_err(|error| named(&path.display().to_string(), &error))?;
        Ok(Self { socket, path: path.to_owned(), stalled: false, message: Vec::new() })
    }

    /// Sends one datagram per line. When the daemon is gone, the rest is lost at once.
    fn write(&mut self, priority: u8, lines: &[u8]) -> Result<(), Lost> {
        let mut lost: Option<Lost> = None;
        let mut rest = lines;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            if let Err(error) = self.send(priority, &line[..end]) {
                let gone = is_gone(&error);
                let before = lost.map_or(0, |lost| lost.records);
                let records = before + if gone { count(rest) } else { 1 };
                lost = Some(Lost { records, error });
                if gone {
                    break;
                }
            }
            rest = after;
        }
        lost.map_or(Ok(()), Err)
    }

    fn send(&mut self, priority: u8, line: &[u8]) -> io::Result<()> {
        self.message.clear();
        write!(self.message, "<{priority}>ringlane[{}]: ", process::id())?;
        self.message.extend_from_slice(line);
        let outcome = match self.socket.send(&self.message) {
            // The daemon may have been restarted: a new socket has the same name.
            Err(error) if is_gone(&error) => {
                self.socket = connect(&self.path)?;
                self.stalled = false;
                self.socket.send(&self.message)
            }
            outcome => outcome,
        };
        let stalled = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        if stalled != self.stalled {
            self.socket.set_nonblocking(stalled)?;
            self.stalled = stalled;
        }
        outcome.map(drop)
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(SYSLOG_WAIT))?;
    Ok(socket)
}

/// Whether nothing listens at the other end of the socket any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
            | ErrorKind::NotFound
            | ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines_that_a_pipe_takes_at_once() {
        let lines = |lengths: &[usize]| -> Vec<u8> {
            lengths.iter().flat_map(|n| [vec![b'x'; n - 1], vec![b'\n']].concat()).collect()
        };
        for (lengths, expected) in [
            (&[100, 200][..], 300),
            (&[4000, 96, 1], 4096),
            (&[4000, 97], 4000),
            (&[5000, 10], 5000),
        ] {
            assert_eq!(piece(&lines(lengths)), expected, "{lengths:?}");
        }
    }
}
