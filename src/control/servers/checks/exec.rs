//! `kind = "exec"`: runs a program; exit code 0 is success, everything else a failure.
//!
//! The program gets `RINGLANE_SERVER` (backend/server) and `RINGLANE_ADDRESS`. Its first line of
//! output is the reason; output beyond [`OUTPUT_MAX`] is read and dropped. The end of the program
//! ends the check, even if a child still holds its output open. Invariant: neither the program
//! nor a child in its process group outlives the check. A child that has left the group
//! (`setsid`) does.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use ringlane_health::Seen;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{ChildStdout, Command};
use tokio::time::sleep;

use super::destination::Destination;
use super::printable;

/// Bytes of its output that are looked at.
const OUTPUT_MAX: usize = 4096;

/// Bytes that are read at once.
const READ_MAX: usize = 16 * 1024;

/// The pause after each read beyond [`OUTPUT_MAX`], so that a program that floods us costs little.
const FLOOD_PAUSE: Duration = Duration::from_millis(1);

/// The process group of a program, killed on drop.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails when all of them have ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

pub(super) async fn check(
    command: &[String],
    name: &str,
    destination: &Destination,
) -> Result<Seen, String> {
    let [program, arguments @ ..] = command else {
        return Err("no program is configured".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("RINGLANE_SERVER", name)
        .env("RINGLANE_ADDRESS", destination.address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run {program}: {}", destination.text_of_fork(&error)))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let _group = Group(group.map(Pid::from_raw));
    let mut output = Output::of(child.stdout.take());
    let status = tokio::select! {
        biased;
        status = child.wait() => status,
        never = output.read() => match never {},
    };
    output.read_rest();
    let status = status.map_err(|error| format!("{program}: {}", destination.text(&error)))?;
    let line = printable(&output.bytes);
    if status.success() {
        return Ok(Seen { detail: (!line.is_empty()).then_some(line), ..Seen::default() });
    }
    let line = if line.is_empty() { String::new() } else { format!(": {line}") };
    Err(format!("{program} failed with {status}{line}"))
}

/// What a program prints.
struct Output {
    pipe: Option<Receiver>,
    /// The first of it.
    bytes: Vec<u8>,
}

impl Output {
    fn of(stdout: Option<ChildStdout>) -> Self {
        // Output that can't be read is no error; the exit code decides.
        let pipe =
            stdout.and_then(|stdout| Receiver::from_owned_fd(stdout.into_owned_fd().ok()?).ok());
        Self { pipe, bytes: Vec::new() }
    }

    /// Reads for as long as it is polled: the end of the output is not the end of the program.
    async fn read(&mut self) -> std::convert::Infallible {
        while let Some(pipe) = &self.pipe {
            if pipe.readable().await.is_err() || !self.take() {
                self.pipe = None;
            }
            if self.bytes.len() >= OUTPUT_MAX {
                sleep(FLOOD_PAUSE).await;
            }
        }
        std::future::pending().await
    }

    /// Reads what the program had printed when it ended.
    fn read_rest(&mut self) {
        while self.bytes.len() < OUTPUT_MAX {
            let before = self.bytes.len();
            if !self.take() || self.bytes.len() == before {
                return;
            }
        }
    }

    /// Reads what is there; `false` at the end.
    fn take(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut buffer = [0; READ_MAX];
        match pipe.try_read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                let room = OUTPUT_MAX.saturating_sub(self.bytes.len());
                self.bytes.extend_from_slice(&buffer[..read.min(room)]);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
