//! The program against its own servers: what it counts is what was done.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A running `serve`, ended with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringlane-loadgen"))
            .args(format!("serve {arguments}").split(' '))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn load(kind: &str, address: &str, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringlane-loadgen"))
        .args([kind, address, "--json"])
        .args(arguments.split(' '))
        .output()
        .unwrap()
}

/// A run that must succeed, and its result.
fn measured(kind: &str, address: &str, arguments: &str) -> Value {
    let output = load(kind, address, arguments);
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["failed"], 0, "{result}");
    result
}

#[test]
fn round_trips_are_counted_with_their_bytes_and_latencies() {
    let server = Server::start("echo --threads 2");
    let result =
        measured("tcp-rr", &server.address, "--sessions 5 --threads 2 --size 300 --for 300ms");
    let requests = result["requests"].as_u64().unwrap();
    assert!(requests >= 5, "{result}");
    assert_eq!(result["bytes"], requests * 600);
    assert_eq!(result["sessions"], 5);
    let quantile = |name: &str| result[name].as_f64().unwrap();
    assert!(quantile("p50") > 0.0 && quantile("p50") <= quantile("p99"), "{result}");
    assert!(quantile("p99.9") <= quantile("max") * 1.01, "{result}");
}

#[test]
fn streams_carry_every_byte_in_every_direction() {
    for (role, direction) in [("sink", "up"), ("source", "down"), ("echo", "both")] {
        let server = Server::start(role);
        let arguments = format!("--streams 3 --direction {direction} --bytes 10000001 --checksum");
        let result = measured("tcp-stream", &server.address, &arguments);
        let due = |way| if direction == way || direction == "both" { 10_000_001 } else { 0 };
        assert_eq!(result["bytes_sent"], due("up"), "{direction}: {result}");
        assert_eq!(result["bytes_received"], due("down"), "{direction}: {result}");
        assert_eq!(result["requests"], 3, "{direction}: {result}");
    }
}

#[test]
fn streams_end_when_the_time_is_over() {
    for (role, direction) in [("sink", "up"), ("source", "down"), ("echo", "both")] {
        let server = Server::start(role);
        let arguments = format!("--streams 2 --direction {direction} --for 200ms --checksum");
        let result = measured("tcp-stream", &server.address, &arguments);
        assert!(result["bytes"].as_u64().unwrap() > 0, "{direction}: {result}");
    }
}

#[test]
fn wrong_bytes_are_told() {
    // An echo takes the order for content and sends it back.
    let server = Server::start("echo");
    let arguments = "--direction down --bytes 16 --checksum";
    let output = load("tcp-stream", &server.address, arguments);
    assert!(!output.status.success());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["errors"]["corrupt"], 1, "{result}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrong bytes"), "{output:?}");
}

#[test]
fn short_connections_are_made_as_often_as_asked() {
    let server = Server::start("echo");
    let result = measured("tcp-crr", &server.address, "--concurrency 7 --count 500 --threads 2");
    assert_eq!(result["requests"], 500);
    assert_eq!(result["sessions"], 500);
}

#[test]
fn idle_sessions_answer_before_and_after_their_silence() {
    let server = Server::start("echo --threads 2");
    let arguments = "--sessions 300 --threads 2 --for 300ms --source 127.0.0.2,127.0.0.3";
    let result = measured("tcp-idle", &server.address, arguments);
    assert_eq!(result["sessions"], 300);
    assert_eq!(result["requests"], 600);
}

#[test]
fn a_server_that_is_away_is_counted_and_said() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = load("tcp-crr", &free, "--concurrency 2 --count 4");
    assert!(!output.status.success());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["errors"]["refused"], 4, "{result}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("4 failed") && said.contains(&free), "{said}");
}

#[test]
fn an_interrupted_run_prints_what_was_measured() {
    let server = Server::start("echo");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringlane-loadgen"))
        .args(["tcp-rr", &server.address, "--json", "--marks", "--for", "10m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut mark = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut mark).unwrap();
    assert_eq!(mark, "ready\n");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["sessions"], 1, "{result}");
}
