//! Log lines of the control side, on stderr, one each; journald or the terminal adds the time.
//!
//! Not here: the access log (`access_log`), the queue and its thread (`writer`). Invariants: once
//! [`start`] was called no caller ever waits for stderr: a line goes into a bounded queue, and one
//! that finds it full is lost and counted; what was lost is reported as soon as stderr takes lines
//! again; no line is longer than a pipe takes in one piece.

mod writer;

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use writer::Queue;

/// Bytes of the longest line, its end included: what a pipe takes whole or not at all (`PIPE_BUF`),
/// so that lines of several processes on one pipe never mix.
const LINE_MAX: usize = 4096;

/// Stands at the end of a line that was cut.
const CUT: &str = " [cut]";

/// How long a line waits for stderr where there is no thread that could wait, in milliseconds.
const PATIENCE_MS: u8 = 100;

/// How long [`flush`] waits for a stderr that takes nothing.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// The queue of the thread that writes, once it runs.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Starts the thread that writes to stderr. Without it (before a start, in a command that ends at
/// once) lines are written where they arise. Calling it again does nothing.
///
/// # Errors
/// When the system has no room for another thread.
pub(super) fn start() -> io::Result<()> {
    if QUEUE.get().is_some() {
        return Ok(());
    }
    let queue = Arc::new(Queue::default());
    writer::spawn(Arc::clone(&queue))?;
    // Two starts at once, as unit tests make them: the second thread sleeps for ever.
    let _ = QUEUE.set(queue);
    Ok(())
}

/// Writes one line to stderr, after the program's name.
pub fn say(line: fmt::Arguments<'_>) {
    announce(&format!("ringlane: {line}"));
}

/// Writes one line to stderr as it is.
pub(super) fn announce(line: &str) {
    let line = bounded(line);
    match QUEUE.get() {
        Some(queue) => queue.push(line),
        None => write_now(&line),
    }
}

/// Lines that stderr did not take since the start.
pub fn lost() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lost())
}

/// Waits until what was logged has been written, though not for long. For the end of the process.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_MAX);
    }
}

/// One line that ends, and is no longer than [`LINE_MAX`].
fn bounded(line: &str) -> String {
    let room = LINE_MAX - 1;
    if line.len() <= room {
        return format!("{line}\n");
    }
    let end = line.floor_char_boundary(room - CUT.len());
    format!("{}{CUT}\n", &line[..end])
}

/// Writes a line from here, or loses it when stderr takes nothing for a moment.
fn write_now(line: &str) {
    let stderr = io::stderr();
    let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut writable, PATIENCE_MS) == Ok(0) {
        return;
    }
    // One write per line, so that lines of several threads don't mix. When stderr is gone there is
    // nobody left to tell.
    let _ = stderr.lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_a_pipe_would_cut_it() {
        assert_eq!(bounded("short"), "short\n");
        let longest = "x".repeat(LINE_MAX - 1);
        assert_eq!(bounded(&longest), format!("{longest}\n"));
        // Two bytes per letter: the cut must not fall within one.
        for letter in ["x", "é", "€"] {
            let cut = bounded(&letter.repeat(LINE_MAX));
            assert!(cut.len() <= LINE_MAX && cut.len() > LINE_MAX - 4, "{}", cut.len());
            assert!(cut.ends_with(&format!("{letter}{CUT}\n")), "{cut}");
        }
    }
}
