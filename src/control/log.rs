//! What the control side says on stderr: one plain line each; journald or the terminal adds the time.
//!
//! Not here: the access log (`access_log`). A line that can't be written is lost, never a panic.

use std::fmt;
use std::io::{self, Write};

/// Says one line on stderr, after the program's name.
pub fn say(line: fmt::Arguments<'_>) {
    announce(&format!("ringlane: {line}"));
}

/// Says one line on stderr as it is.
pub(super) fn announce(line: &str) {
    // One write per line, so that lines of several threads don't mix. When stderr is gone there is
    // nobody left to tell.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
