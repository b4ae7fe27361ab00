//! The load generator as seen from here: its servers, its runs, its marks, its result.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::plan::Workload;
use crate::relay::{on_core, sibling};

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
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let said = BufReader::new(child.stderr.take().ok_or("the load has no stderr")?);
        let mut underway = Underway { child, said };
        underway.wait_for_mark("ready")?;
        Ok(underway)
    }

    /// Starts one of its servers.
    pub(crate) fn serve(&self, role: &str) -> Result<Server, String> {
        Server::start(&self.program, role, self.core)
    }
}

/// A run that has begun.
#[derive(Debug)]
pub(crate) struct Underway {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Underway {
    /// Waits until its time is over; its sessions are still open.
    pub(crate) fn measured(&mut self) -> Result<(), String> {
        self.wait_for_mark("measured")
    }

    /// What it found. An exit code of 3 says that it was the limit itself, and is no failure.
    pub(crate) fn finish(mut self) -> Result<(Value, bool), String> {
        let mut rest = String::new();
        let _ = self.said.read_to_string(&mut rest);
        let output = self.child.wait_with_output().map_err(|error| error.to_string())?;
        let result: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("the load's result: {error}; it said {rest}"))?;
        if result["failed"] != 0 {
            return Err(format!("some of the load failed: {rest}"));
        }
        Ok((result, output.status.code() == Some(3)))
    }

    fn wait_for_mark(&mut self, mark: &str) -> Result<(), String> {
        let mut all = String::new();
        loop {
            let begin = all.len();
            match self.said.read_line(&mut all) {
                Ok(0) | Err(_) => {
                    return Err(format!("the load ended before `{mark}`; it said {all}"));
                }
                Ok(_) if all[begin..].trim_end() == mark => return Ok(()),
                Ok(_) => {}
            }
        }
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
        if address.is_empty() {
            return Err(format!(
                "`{} serve {role}` does not say where it listens",
                loadgen.display()
            ));
        }
        Ok(Self { child, address, _said: said })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
