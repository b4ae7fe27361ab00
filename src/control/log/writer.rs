//! The bounded queue between those that log and the one thread that writes.
//!
//! Not here: what a line looks like (`format`), files and syslog sockets (`sink`). Invariants:
//! [`LineQueue::push`] holds the lock for a few instructions and never waits for the destination;
//! order of lines is kept; every line is written or counted as lost, and losses are reported in the
//! place where the lines would have been. The thread is never joined: a destination that takes
//! nothing must not keep the process from ending.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::format::LineStyle;
use crate::control::log::sink::Sink;
use crate::control::log::{Level, Notice};
use crate::control::thread;

/// Lines that wait for their destination at most: 4 MiB, if all are as long as they may be.
const LINES_MAX: usize = 1024;

/// Facility daemon of syslog; the severity is the line's.
const SYSLOG_FACILITY: u8 = 3 * 8;

/// One line, ready to be written.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(style: LineStyle, notice: &Notice, now: Timestamp) -> Self {
        Self { level: notice.level, text: style.line(notice, now) }
    }
}

/// Lines that have yet to be written.
#[derive(Debug)]
pub(super) struct LineQueue {
    style: LineStyle,
    /// The destination, for sentences.
    name: String,
    state: Mutex<QueueState>,
    /// There is a line, or the destination is to be reopened.
    filled: Condvar,
    /// Everything has been written or lost.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    lines: VecDeque<Line>,
    reopen: bool,
    /// The thread is at a line that is no longer in `lines`.
    writes: bool,
    /// Lines lost in all.
    lost: u64,
    /// Lost lines that no line has reported yet.
    unreported: u64,
    /// The destination failed at the last line.
    fails: bool,
}

impl LineQueue {
    /// An empty queue of lines in this style, for a destination of this name.
    pub(super) fn new(style: LineStyle, name: String) -> Self {
        let (filled, emptied) = (Condvar::new(), Condvar::new());
        Self { style, name, state: Mutex::default(), filled, emptied }
    }

    /// Appends a line, or loses it if there are [`LINES_MAX`].
    pub(super) fn push(&self, notice: &Notice) {
        let line = self.line(notice);
        let mut state = self.lock();
        if state.lines.len() >= LINES_MAX {
            state.lose();
            return;
        }
        state.lines.push_back(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Has the destination opened anew before the next line is written.
    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.filled.notify_one();
    }

    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Waits until all that was pushed before has been written or lost, but no longer than `most`;
    /// what is lost and not reported then, as a line for elsewhere.
    pub(super) fn flush(&self, most: Duration) -> Option<Notice> {
        let is_busy =
            |state: &mut QueueState| state.writes || state.reopen || !state.lines.is_empty();
        // Whether it was in time is irrelevant: the process ends.
        let state = self.emptied.wait_timeout_while(self.lock(), most, is_busy);
        let (state, _) = state.unwrap_or_else(PoisonError::into_inner);
        let lost = state.unreported + state.lines.len() as u64;
        (lost > 0).then(|| self.report(lost))
    }

    /// Writes the next line to `out`, followed by the number of lost lines, if there are any. If
    /// the destination has begun to fail, that is returned, for elsewhere.
    fn write_next(&self, out: &mut impl LineOutput) -> Option<Notice> {
        let mut state = self.lock();
        while state.lines.is_empty() && !state.reopen {
            state.writes = false;
            self.emptied.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writes = true;
        if std::mem::take(&mut state.reopen) {
            drop(state);
            let notice = out.reopen();
            let _ = out.write(&self.line(&notice));
            return None;
        }
        let line = state.lines.pop_front()?;
        // A full queue loses the newest lines; they are reported when the queue is empty again.
        let reported = if state.lines.is_empty() { state.unreported } else { 0 };
        drop(state);
        let written = out.write(&line);
        let report = written.is_ok()
            && reported > 0
            && out.write(&self.line(&self.report(reported))).is_ok();
        let mut state = self.lock();
        if report {
            state.unreported -= reported;
        }
        let failed_before = std::mem::replace(&mut state.fails, written.is_err());
        let error = written.err()?;
        state.lose();
        let text = format!("log: lines are lost: {error}");
        (!failed_before).then(|| Notice::new(Level::Error, "log_lines_lost", text))
    }

    fn line(&self, notice: &Notice) -> Line {
        Line::new(self.style, notice, Timestamp::now())
    }

    fn report(&self, lost: u64) -> Notice {
        let lines = if lost == 1 { "line" } else { "lines" };
        let text = format!("{lost} log {lines} lost: {} was full or failed", self.name);
        Notice::new(Level::Warning, "log_lines_lost", text).count(lost)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Nothing that panics is called with it held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn lose(&mut self) {
        self.lost += 1;
        self.unreported += 1;
    }
}

/// Stderr as a destination.
pub(super) fn stderr() -> io::Result<impl LineOutput + Send + 'static> {
    // A descriptor of our own: while stderr is blocked, nothing may wait for std's lock of it.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    Ok(Out { to: Stderr(stderr), torn: false })
}

/// Starts the thread. That the destination begins to fail is reported to `elsewhere`.
pub(super) fn spawn(
    queue: Arc<LineQueue>,
    mut out: impl LineOutput + Send + 'static,
    elsewhere: fn(&Notice),
) -> io::Result<()> {
    let run = move || {
        loop {
            if let Some(notice) = queue.write_next(&mut out) {
                elsewhere(&notice);
            }
        }
    };
    thread::spawn("log", run).map(drop)
}

/// Where lines go.
pub(super) trait LineOutput {
    /// Writes one line, or loses it.
    fn write(&mut self, line: &Line) -> io::Result<()>;

    /// Opens it anew; what to log about that.
    fn reopen(&mut self) -> Notice;
}

impl LineOutput for Sink {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let priority = SYSLOG_FACILITY | line.level.priority();
        self.write(priority, line.text.as_bytes()).map_err(|lost| lost.error)
    }

    fn reopen(&mut self) -> Notice {
        let (level, text) = match self.reopen() {
            Ok(Some(path)) => (Level::Info, format!("log: reopened {}", path.display())),
            Ok(None) => {
                (Level::Info, "log: nothing to reopen, the destination is not a file".to_owned())
            }
            Err(error) => {
                let text = format!("log: cannot reopen {error}; still writing to the old file");
                (Level::Error, text)
            }
        };
        Notice::new(level, "log_reopened", text)
    }
}

/// A writer, and whether its last line is incomplete.
struct Out<W> {
    to: W,
    torn: bool,
}

impl<W: Write> LineOutput for Out<W> {
    /// Writes one line. One that fails half-way is ended before the next.
    fn write(&mut self, line: &Line) -> io::Result<()> {
        if self.torn {
            self.append("\n")?;
            self.torn = false;
        }
        self.append(&line.text)
    }

    fn reopen(&mut self) -> Notice {
        Notice::new(
            Level::Info,
            "log_reopened",
            "log: nothing to reopen, the destination is not a file".to_owned(),
        )
    }
}

impl<W: Write> Out<W> {
    fn append(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Stderr, which may be non-blocking, since it is shared with the parent process.
struct Stderr(File);

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut writable = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut writable, PollTimeout::NONE)?;
                }
                outcome => return outcome,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::control::log::format::Frame;

    /// A queue whose lines are the bare messages.
    fn queue() -> LineQueue {
        let style = LineStyle { format: LogFormat::Text, frame: Frame::Syslog };
        LineQueue::new(style, "stderr".to_owned())
    }

    fn notice(text: &str) -> Notice {
        Notice::new(Level::Info, "", text.to_owned())
    }

    /// Takes so many bytes, then fails as a full disk does.
    struct Disk {
        room: usize,
        held: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.held.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn disk(room: usize) -> Out<Disk> {
        Out { to: Disk { room, held: Vec::new() }, torn: false }
    }

    fn held(out: &Out<Disk>) -> Vec<&str> {
        str::from_utf8(&out.to.held).unwrap().lines().collect()
    }

    #[test]
    fn a_full_queue_loses_the_last_lines_and_reports_how_many() {
        let (queue, mut out) = (queue(), disk(usize::MAX));
        (0..LINES_MAX + 7).for_each(|number| queue.push(&notice(&number.to_string())));
        assert_eq!(queue.lost(), 7);
        (0..LINES_MAX).for_each(|_| drop(queue.write_next(&mut out)));
        queue.push(&notice("again"));
        assert_eq!(queue.write_next(&mut out), None);
        let lines = held(&out);
        let last = LINES_MAX - 1;
        assert_eq!((lines[0], lines[last]), ("0", last.to_string().as_str()));
        assert_eq!(lines[LINES_MAX..], ["7 log lines lost: stderr was full or failed", "again"]);
    }

    #[test]
    fn what_a_full_disk_refuses_is_reported_when_it_has_room_again() {
        let (queue, mut out) = (queue(), disk(10));
        for line in ["one", "two", "three", "four"] {
            queue.push(&notice(line));
            drop(queue.write_next(&mut out));
        }
        assert_eq!(queue.lost(), 2, "one torn, one not begun");
        out.to.room = usize::MAX;
        queue.push(&notice("five"));
        assert_eq!(queue.write_next(&mut out), None);
        let report = "2 log lines lost: stderr was full or failed";
        assert_eq!(held(&out), ["one", "two", "th", "five", report]);
    }

    #[test]
    fn a_destination_that_begins_to_fail_is_reported_elsewhere_once() {
        let (queue, mut out) = (queue(), disk(0));
        let next = |out: &mut Out<Disk>| {
            queue.push(&notice("one"));
            queue.write_next(out)
        };
        let first = next(&mut out).unwrap();
        assert!(first.message.starts_with("log: lines are lost: "), "{first:?}");
        assert_eq!((first.level, next(&mut out)), (Level::Error, None));
        out.to.room = usize::MAX;
        assert_eq!(next(&mut out), None);
        out.to.room = 0;
        assert!(next(&mut out).is_some(), "it fails again");
    }

    #[test]
    fn an_empty_queue_is_flushed_at_once_and_a_stuck_one_not_for_ever() {
        let queue = queue();
        assert_eq!(queue.flush(Duration::from_secs(3600)), None);
        queue.push(&notice("never written"));
        let lost = queue.flush(Duration::from_millis(1)).unwrap();
        assert_eq!(lost.message, "1 log line lost: stderr was full or failed");
        assert_eq!(queue.lock().lines.len(), 1);
    }
}
