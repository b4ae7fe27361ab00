//! The load generator as seen from here: its servers, its runs, its marks, its result.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::listening;
use crate::plan::Workload;
use crate::relay::{LOOK, on_core, sibling};

/// What the load gets to open its sessions and to end, beyond the time that it measures.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program and what it understands.
#[derive(Clone, Debug)]
pub(crate) struct Loadgen {
    program: PathBuf,
    core: usize,
    /// Whether it can send by the clock.
    pub(crate) keeps_rates: bool,
    /// Whether it must be told to send the next request only when the last one was answered.
    has_closed: bool,
}

impl Loadgen {
    /// Finds it and asks it what it understands.
    pub(crate) fn find(core: usize) -> Result<Self, String> {
        let program = sibling("ringlane-loadgen")?;
        let output = Command::new(&program)
            .args(["tcp-rr", "--help"])
            .output()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let keeps_rates = help.contains("--rate");
        Ok(Self { program, core, keeps_rates, has_closed: help.contains("--closed") })
    }

    /// Begins a run; all its sessions are open when this returns.
    pub(crate) fn begin(
        &self,
        workload: Workload,
        address: &str,
        length: Duration,
        rate: Option<f64>,
    ) -> Result<Underway, String> {
        let mut command = on_core(self.core, &self.program);
        let (kind, options) = workload.arguments().split_first().ok_or("no kind of load")?;
        command.arg(kind).arg(address).args(options);
        command.args(["--for", &format!("{}ms", length.as_millis()), "--json", "--marks"]);
        let can_be_closed = matches!(kind, &"tcp-rr" | &"tcp-crr");
        match rate {
            Some(rate) => drop(command.args(["--rate", &format!("{rate:.0}")])),
            None if self.has_closed && can_be_closed => drop(command.arg("--closed")),
            None => {}
        }
        self.start(command, length)
    }

    /// Begins a mixed run against an address; its events are marked by [`Underway::event`].
    pub(crate) fn begin_mixed(
        &self,
        address: &str,
        options: &[String],
        length: Duration,
    ) -> Result<Underway, String> {
        let mut command = on_core(self.core, &self.program);
        command.args(["tcp-mixed", address, "--events", "--json", "--marks"]).args(options);
        command.args(["--for", &format!("{}ms", length.as_millis())]).stdin(Stdio::piped());
        self.start(command, length)
    }

    fn start(&self, mut command: Command, length: Duration) -> Result<Underway, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let stderr = BufReader::new(child.stderr.take().ok_or("the load has no stderr")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut underway = Underway { child, lines, said: String::new(), length };
        underway.wait_for_mark("ready", PATIENCE)?;
        Ok(underway)
    }

    /// Starts one of its servers.
    pub(crate) fn serve(&self, role: &str) -> Result<Server, String> {
        Server::start(&self.program, role, self.core)
    }
}

/// A run that has begun, ended with its value.
#[derive(Debug)]
pub(crate) struct Underway {
    child: Child,
    /// What it says on stderr.
    lines: Receiver<String>,
    /// What it has said so far, marks left out.
    said: String,
    length: Duration,
}

impl Underway {
    /// Waits until its time is over; its sessions are still open.
    pub(crate) fn measured(&mut self) -> Result<(), String> {
        self.wait_for_mark("measured", self.length + PATIENCE)
    }

    /// Ends its time now.
    pub(crate) fn interrupt(&self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), Signal::SIGINT)
            .map_err(|error| format!("cannot interrupt the load: {error}"))
    }

    /// Marks an event, and waits until the load knows.
    pub(crate) fn event(&mut self, label: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("the load has no stdin")?;
        writeln!(stdin, "{label}").map_err(|error| format!("cannot mark {label}: {error}"))?;
        self.wait_for_mark(&format!("event {label}"), PATIENCE)
    }

    /// What it found. An exit code of 3 says that it was the limit itself, and is no failure.
    pub(crate) fn finish(self) -> Result<(Value, bool), String> {
        let (result, load_limited, said) = self.finish_anyhow()?;
        if result["failed"] != 0 {
            return Err(format!("some of the load failed: {said}"));
        }
        Ok((result, load_limited))
    }

    /// What it found, whatever failed; whether it was the limit itself; and its other output.
    pub(crate) fn finish_anyhow(mut self) -> Result<(Value, bool, String), String> {
        // It closes stderr when it ends, so that nothing below waits for long.
        self.read_until(PATIENCE, |_| false)?;
        let mut text = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut text).map_err(|error| error.to_string())?;
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let said = std::mem::take(&mut self.said);
        let result: Value = serde_json::from_str(&text)
            .map_err(|error| format!("the load's result ({status}): {error}; it said {said}"))?;
        Ok((result, status.code() == Some(3), said))
    }

    fn wait_for_mark(&mut self, mark: &str, patience: Duration) -> Result<(), String> {
        if self.read_until(patience, |line| line == mark)? {
            return Ok(());
        }
        Err(format!("the load ended before `{mark}`; it said {}", self.said))
    }

    /// Reads what it says until a line of which `is_it` is true; `false` if it ends before.
    fn read_until(
        &mut self,
        patience: Duration,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<bool, String> {
        let deadline = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if is_it(line.trim_end()) => return Ok(true),
                Ok(line) => self.said.extend([line.as_str(), "\n"]),
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = patience.as_secs();
                    return Err(format!("the load hangs for {seconds} s; it said {}", self.said));
                }
            }
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // One that failed halfway must not disturb the next measurement.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of the load generator, ended with its value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
    /// Kept open, or the server's next word would end it.
    _said: BufReader<ChildStdout>,
}

impl Server {
    fn start(loadgen: &Path, role: &str, core: usize) -> Result<Self, String> {
        let cannot = |error| format!("cannot start `{} serve {role}`: {error}", loadgen.display());
        let mut child = on_core(core, loadgen)
            .args(["serve", role])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let mut said = BufReader::new(child.stdout.take().ok_or("the server has no stdout")?);
        let mut address = String::new();
        said.read_line(&mut address).map_err(cannot)?;
        let address = address.trim().to_owned();
        let server = Self { child, address, _said: said };
        server.wait_until_ready().map_err(|why| {
            format!("`{} serve {role}` on \"{}\": {why}", loadgen.display(), server.address)
        })?;
        Ok(server)
    }

    /// Waits until it is the process that listens at the address that it printed.
    fn wait_until_ready(&self) -> Result<(), String> {
        let address = self.address.parse().map_err(|error| format!("no address: {error}"))?;
        let deadline = Instant::now() + PATIENCE;
        while !listening::is_held_by(self.child.id(), address) {
            if Instant::now() > deadline {
                return Err("it does not listen".to_owned());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Its open descriptors: how many connections it has, and a few more. `None` if it has ended.
    pub(crate) fn descriptors(&self) -> Option<usize> {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).ok().map(Iterator::count)
    }

    /// An error if it has ended: nothing can be measured without it.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(format!("the server on {} ended ({status})", self.address)),
            _ => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
