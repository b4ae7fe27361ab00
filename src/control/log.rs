//! What the control side says on stderr: one plain line each; journald or the terminal adds the time.
//!
//! Not here: the access log (`access_log`). A line that can't be written is lost, never a panic.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, poll};

/// How long a line waits for a stderr that takes nothing before it is lost, in milliseconds. A pipe
/// that nobody reads must not keep the control thread from its signals.
const PATIENCE_MS: u8 = 100;

/// Says one line on stderr, after the program's name.
pub fn say(line: fmt::Arguments<'_>) {
    announce(&format!("ringlane: {line}"));
}

/// Says one line on stderr as it is.
pub(super) fn announce(line: &str) {
    let stderr = io::stderr();
    let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut writable, PATIENCE_MS) == Ok(0) {
        return;
    }
    // One write per line, so that lines of several threads don't mix. When stderr is gone there is
    // nobody left to tell.
    let _ = stderr.lock().write_all(format!("{line}\n").as_bytes());
}
