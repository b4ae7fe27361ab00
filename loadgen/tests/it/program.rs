//! Running the program, and what every test wants of its result.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The exit code of a run that the generator itself limited, as may happen on a busy machine: what
/// was counted is right all the same.
const INVALID: i32 = 3;

/// The program with these arguments.
pub(crate) fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane-loadgen"));
    command.args(arguments.split_whitespace());
    command
}

/// A process that is ended with the test.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `serve`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) address: String,
}

impl Server {
    /// That listens.
    pub(crate) fn start(arguments: &str) -> Self {
        let mut child =
            program(&format!("serve {arguments}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { running: Running(child), address: address.trim().to_owned() }
    }
}

/// A run to its end.
pub(crate) fn load(kind: &str, address: &str, arguments: &str) -> Output {
    program(&format!("{kind} {address} --json {arguments}")).output().unwrap()
}

/// Its result.
pub(crate) fn result(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A run in which nothing may fail, and its result.
pub(crate) fn measured(kind: &str, address: &str, arguments: &str) -> Value {
    let output = load(kind, address, arguments);
    let result = result(&output);
    assert!(output.status.success() || output.status.code() == Some(INVALID), "{output:?}");
    assert_eq!(result["valid"] == false, output.status.code() == Some(INVALID), "{output:?}");
    assert_eq!(result["failed"], 0, "{output:?}");
    result
}

/// What went to stderr.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
