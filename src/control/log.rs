//! The process's own log: one line per event, to stderr, a file or a syslog socket.
//!
//! Not here: the access log (`report::access_log`), the look of a line (`format`), the queue and
//! its thread (`writer`). Invariants: after [`start`] no caller ever waits for the destination: a
//! line goes into a bounded queue; when the queue is full the line is lost and counted, and the
//! loss is reported as soon as lines are accepted again. What the person or program that started
//! the process must see (that it is ready, why it could not start) is also written to stderr.

pub(crate) mod escape;
mod format;
pub mod notice;
pub(super) mod recent;
pub(super) mod sink;
mod writer;

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, poll};

use crate::config::{Log, LogDestination, LogFormat};
use format::{Frame, LineStyle};
pub use notice::{Level, Notice};
use sink::Sink;
use writer::{Line, LineQueue};

/// How long a line waits for stderr where there is no thread that could wait, in milliseconds.
const PATIENCE_MS: u8 = 100;

/// How long [`flush`] waits for a destination that takes nothing.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// The running log, once there is one.
static LOG: OnceLock<RunningLog> = OnceLock::new();

/// What is configured, and the queue of the thread that writes.
struct RunningLog {
    level: Level,
    /// Whether lines go to stderr anyway.
    is_stderr: bool,
    queue: Arc<LineQueue>,
}

/// Opens the destination and starts the thread that writes. Without it (before a start, in a
/// command that ends at once) each line is written to stderr by the thread that logs it. Calling it
/// again does nothing.
///
/// # Errors
/// When the destination can't be opened, or the thread can't be started.
pub(super) fn start(configured: &Log) -> Result<(), NotStarted> {
    if LOG.get().is_some() {
        return Ok(());
    }
    let is_stderr = configured.destination == LogDestination::Stderr;
    let (frame, name) = match &configured.destination {
        LogDestination::Stderr => (stderr_frame(), "stderr".to_owned()),
        LogDestination::File(path) => (Frame::Plain, path.display().to_string()),
        LogDestination::Syslog(path) => (Frame::Syslog, path.display().to_string()),
    };
    let style = LineStyle { format: configured.format, frame };
    let queue = Arc::new(LineQueue::new(style, name));
    let own = Arc::clone(&queue);
    let started = if is_stderr {
        // Nothing is left to report that to.
        writer::spawn(own, writer::stderr().map_err(NotStarted::Destination)?, |_| ())
    } else {
        let sink = Sink::open(&configured.destination).map_err(NotStarted::Destination)?;
        writer::spawn(own, sink, write_now)
    };
    started.map_err(NotStarted::Thread)?;
    // Two starts at once, as unit tests make them: the second thread sleeps for ever.
    let _ = LOG.set(RunningLog { level: configured.level, is_stderr, queue });
    Ok(())
}

/// Why a log, or the access log, could not be started.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// Its destination can't be opened.
    Destination(io::Error),
    /// There is no room for another thread.
    Thread(io::Error),
}

/// Logs an error without further fields.
pub fn error(line: fmt::Arguments<'_>) {
    write(&Notice::new(Level::Error, "", line.to_string()));
}

/// Logs a warning without further fields.
pub fn warning(line: fmt::Arguments<'_>) {
    write(&Notice::new(Level::Warning, "", line.to_string()));
}

/// Logs information without further fields.
pub fn info(line: fmt::Arguments<'_>) {
    write(&Notice::new(Level::Info, "", line.to_string()));
}

/// Whether lines of this level are written; for lines that are expensive to make.
pub(super) fn is_wanted(level: Level) -> bool {
    LOG.get().is_some_and(|log| level <= log.level)
}

/// Logs a line.
pub fn write(notice: &Notice) {
    recent::record(notice);
    match LOG.get() {
        Some(log) if notice.level <= log.level => log.queue.push(notice),
        Some(_) => {}
        None => write_now(notice),
    }
}

/// Logs a line that must be seen where the process was started, whatever the level and destination.
pub fn announce(notice: &Notice) {
    recent::record(notice);
    let Some(log) = LOG.get() else { return write_now(notice) };
    log.queue.push(notice);
    if !log.is_stderr {
        write_now(notice);
    }
}

/// Opens a log file anew before the next line, for log rotation; whether there is one.
pub(super) fn reopen() -> bool {
    let Some(log) = LOG.get() else { return false };
    if !log.is_stderr {
        log.queue.reopen();
    }
    !log.is_stderr
}

/// Lines that the destination did not take since the start.
pub fn lost() -> u64 {
    LOG.get().map_or(0, |log| log.queue.lost())
}

/// Waits until what was logged has been written, though not for long. For the end of the process.
pub fn flush() {
    let Some(log) = LOG.get() else { return };
    if let Some(lost) = log.queue.flush(FLUSH_MAX)
        && !log.is_stderr
    {
        write_now(&lost);
    }
}

/// What precedes lines on stderr: journald adds the time and takes the level from a prefix.
fn stderr_frame() -> Frame {
    let own = || File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok();
    let stream = env::var("JOURNAL_STREAM").ok();
    let is_journal = stream
        .zip(own())
        .is_some_and(|(stream, own)| is_journal_stream(&stream, own.dev(), own.ino()));
    if is_journal { Frame::Journal } else { Frame::Plain }
}

/// Whether `JOURNAL_STREAM` (systemd.exec) is about this file: device and inode, in decimal.
/// Processes started by a service inherit the variable, even with another stderr.
fn is_journal_stream(variable: &str, device: u64, inode: u64) -> bool {
    variable
        .split_once(':')
        .is_some_and(|(left, right)| left.parse() == Ok(device) && right.parse() == Ok(inode))
}

/// Writes a line to stderr from here, or loses it when stderr takes nothing for a moment.
fn write_now(notice: &Notice) {
    let style = LineStyle { format: LogFormat::Text, frame: stderr_frame() };
    let Line { text, .. } = Line::new(style, notice, Timestamp::now());
    let stderr = io::stderr();
    let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut writable, PATIENCE_MS) == Ok(0) {
        return;
    }
    // One write per line, so that lines of several threads don't mix. When stderr is gone there is
    // nothing left to report to.
    let _ = stderr.lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(is_journal_stream("8:1234", 8, 1234));
        for other in ["", "8", "8:", ":1234", "8:1235", "9:1234", "8:1234:1", "8 :1234"] {
            assert!(!is_journal_stream(other, 8, 1234), "{other}");
        }
    }
}
