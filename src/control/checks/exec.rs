//! `kind = "exec"`: run a program; 0 is good, everything else is not.
//!
//! It gets `RINGLANE_SERVER` (backend/server) and `RINGLANE_ADDRESS`. The first line that it prints
//! says why. Invariant: whatever happens to the check, the program and its children do not outlive it.

use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use ringlane_core::health::Seen;
use ringlane_core::snapshot::Address;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::{plain, printable};

/// Bytes of its output that are looked at.
const OUTPUT_MAX: u64 = 4096;

/// The process group of a program, killed on drop.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails when all of them have gone.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

pub(super) async fn check(
    command: &[String],
    name: &str,
    address: &Address,
) -> Result<Seen, String> {
    let [program, arguments @ ..] = command else { return Err("no program is named".to_owned()) };
    let mut child = Command::new(program)
        .args(arguments)
        .env("RINGLANE_SERVER", name)
        .env("RINGLANE_ADDRESS", address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run {program}: {}", plain(&error)))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let _group = Group(group.map(Pid::from_raw));
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // What can't be read says nothing; the exit code counts.
        let _ = stdout.take(OUTPUT_MAX).read_to_end(&mut output).await;
    }
    let status = child.wait().await.map_err(|error| format!("{program}: {}", plain(&error)))?;
    let said = printable(&output);
    if status.success() {
        return Ok(Seen { detail: (!said.is_empty()).then_some(said), ..Seen::default() });
    }
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Err(format!("{program} ended with {status}{said}"))
}
