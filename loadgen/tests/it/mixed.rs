//! Mixed runs: every figure is 0 against a server that behaves, and another one is not 0 against
//! each server that does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use crate::program::{Server, load, measured, program, result, said};

/// A run that is under way, with its sessions open.
struct Underway {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Underway {
    fn start(address: &str, arguments: &str) -> Self {
        let mut command = program(&format!("tcp-mixed {address} --json --marks {arguments}"));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut underway = Self { child, stderr };
        underway.wait_for("ready");
        underway
    }

    fn wait_for(&mut self, mark: &str) {
        let mut line = String::new();
        while line.trim_end() != mark {
            line.clear();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended before `{mark}`");
        }
    }

    fn event(&mut self, label: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{label}").unwrap();
        self.wait_for(&format!("event {label}"));
    }

    fn finish(mut self) -> Value {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let Output { stdout, .. } = self.child.wait_with_output().unwrap();
        serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {rest}"))
    }
}

/// A server with a thread and a body for each connection.
fn serve(body: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let body = Arc::new(body);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let body = Arc::clone(&body);
            thread::spawn(move || body(stream));
        }
    });
    address
}

/// Returns so many messages of 64 bytes, as `change` leaves them.
fn echo(stream: &mut TcpStream, messages: u64, change: impl Fn(&mut [u8; 64])) {
    let mut message = [0; 64];
    for _ in 0..messages {
        let arrived = stream.read_exact(&mut message).is_ok();
        change(&mut message);
        if !arrived || stream.write_all(&message).is_err() {
            return;
        }
    }
}

/// Blocks for a time, or until the end of the test process.
fn pause(time: Duration) {
    let (_silent, silence) = mpsc::channel::<()>();
    let _ = silence.recv_timeout(time);
}

fn mixed(address: &str, arguments: &str) -> Value {
    result(&load("tcp-mixed", address, arguments))["mixed"].take()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn a_server_that_behaves_loses_nothing() {
    let server = Server::start("echo --threads 2");
    let arguments = "--sessions 100 --every 50ms --streams 4 --stream-rate 4m --rate 100 \
                     --threads 2 --for 1s";
    let result = measured("tcp-mixed", &server.address, arguments);
    let mixed = &result["mixed"];
    assert_eq!((&result["loop"], &result["lost"]), (&"open".into(), &Value::Array(vec![])));
    for (held, opened, messages) in [("sessions", 100, 2000), ("streams", 4, 1024)] {
        let held = &mixed[held];
        assert_eq!(held["opened"], opened, "{result}");
        for zero in ["lost", "unanswered", "held_back"] {
            assert_eq!(held[zero], 0, "{result}");
        }
        // The schedule of each thread begins with the run; nothing of it is left out.
        assert!(number(&held["messages"]).abs_diff(messages) <= 2, "{result}");
        assert_eq!(held["gap"]["all"]["count"], opened, "{result}");
        assert_eq!(held["gap"]["outside"]["count"], opened, "{result}");
        assert!(held["gap"]["windows"].is_null() && held["gap"]["all"]["max"] != 0.0, "{result}");
    }
    let connections = &mixed["connections"];
    assert_eq!((&connections["due"], &connections["answered"]), (&100.into(), &100.into()));
    assert!(connections["failed"].as_object().unwrap().values().all(|n| n == 0), "{result}");
    let size = number(&result["bytes_sent"]);
    assert_eq!(size, number(&result["bytes_received"]), "{result}");
    let streams = number(&mixed["streams"]["messages"]) * 16_384;
    assert_eq!(size, (number(&mixed["sessions"]["messages"]) + 100) * 64 + streams, "{result}");
}

#[test]
fn a_stall_is_the_gap_of_its_event() {
    let stalls = Arc::new(AtomicBool::new(false));
    let stall = Arc::clone(&stalls);
    let address = serve(move |mut stream| {
        echo(&mut stream, u64::MAX, |_| {
            if stall.swap(false, Ordering::SeqCst) {
                // PAUSE: the stall is the subject.
                pause(Duration::from_millis(400));
            }
        });
    });
    let line = "--sessions 4 --every 20ms --streams 0 --rate 20 --events --window 60s --for 1500ms";
    let mut underway = Underway::start(&address, line);
    underway.event("calm");
    underway.event("stall");
    stalls.store(true, Ordering::SeqCst);
    let result = underway.finish();
    let mixed = &result["mixed"];
    let longest = |value: &Value| value["max"].as_f64().unwrap_or(0.0);
    // A session or a new connection, whichever sent next, waited.
    let gap = longest(&mixed["sessions"]["gap"]["labels"]["stall"]);
    let wait = longest(&mixed["connections"]["wait"]["labels"]["stall"]);
    assert!(gap.max(wait) >= 399_000.0, "{result}");
    let event = &mixed["events"][1];
    assert_eq!((&event["label"], &event["lost"]), (&"stall".into(), &0.into()), "{result}");
    let (gap, wait) = (event["gap_max"].as_f64().unwrap(), event["wait_max"].as_f64().unwrap());
    assert!(gap.max(wait) >= 399_000.0, "{result}");
    assert_eq!(mixed["sessions"]["lost"], 0, "{result}");
}

#[test]
fn resets_are_counted_and_belong_to_the_event() {
    let resets = Arc::new(AtomicBool::new(false));
    let reset = Arc::clone(&resets);
    let address = serve(move |mut stream| {
        while !reset.load(Ordering::SeqCst) {
            echo(&mut stream, 1, |_| {});
        }
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let line = "--sessions 5 --every 20ms --streams 0 --rate 50 --events --window 60s --for 1500ms";
    let mut underway = Underway::start(&address, line);
    underway.event("reset");
    resets.store(true, Ordering::SeqCst);
    let result = underway.finish();
    let mixed = &result["mixed"];
    assert_eq!(mixed["sessions"]["lost"], 5, "{result}");
    assert!(number(&mixed["sessions"]["lost_by"]["reset"]) > 0, "{result}");
    assert!(number(&mixed["connections"]["failed"]["reset"]) > 0, "{result}");
    assert_eq!(mixed["events"][0]["lost"], 5, "{result}");
    assert!(number(&mixed["events"][0]["failed"]) > 0, "{result}");
    assert_eq!(result["lost"].as_array().unwrap().len(), 5, "{result}");
}

#[test]
fn a_server_that_goes_away_loses_its_sessions_and_refuses() {
    let server = Server::start("echo");
    let line = "--sessions 5 --every 20ms --streams 2 --rate 50 --for 1s";
    let underway = Underway::start(&server.address, line);
    drop(server);
    let result = underway.finish();
    let mixed = &result["mixed"];
    for (held, opened) in [("sessions", 5), ("streams", 2)] {
        assert_eq!(mixed[held]["lost"], opened, "{result}");
        let by = mixed[held]["lost_by"].as_object().unwrap();
        assert_eq!(by.values().map(number).sum::<u64>(), opened, "{result}");
    }
    assert!(number(&mixed["connections"]["failed"]["refused"]) > 0, "{result}");
}

#[test]
fn a_session_that_is_closed_is_lost() {
    let address = serve(|mut stream| echo(&mut stream, 3, |_| {}));
    let output = load("tcp-mixed", &address, "--sessions 5 --every 20ms --streams 0 --for 600ms");
    let mixed = result(&output)["mixed"].take();
    assert_eq!(mixed["sessions"]["lost"], 5, "{mixed}");
    assert_eq!(mixed["sessions"]["messages"], 15, "{mixed}");
    assert_eq!(mixed["connections"]["answered"], mixed["connections"]["due"], "{mixed}");
    assert!(said(&output).contains(" cut, message 3"), "{output:?}");
    // 3: the machine was busy, and the generator noticed it.
    assert!(matches!(output.status.code(), Some(1 | 3)), "{output:?}");
}

#[test]
fn wrong_bytes_are_counted() {
    let address = serve(|mut stream| echo(&mut stream, u64::MAX, |message| message[40] ^= 1));
    let mixed = mixed(&address, "--sessions 3 --every 20ms --streams 2 --rate 20 --for 500ms");
    assert_eq!(mixed["sessions"]["lost_by"]["corrupt"], 3, "{mixed}");
    assert_eq!(mixed["streams"]["lost_by"]["corrupt"], 2, "{mixed}");
    assert!(number(&mixed["connections"]["failed"]["corrupt"]) > 0, "{mixed}");
}

#[test]
fn connections_without_an_answer_are_told_apart() {
    let address = serve(|mut stream| {
        let _ = stream.read_exact(&mut [0; 64]);
    });
    let mixed = mixed(&address, "--sessions 0 --streams 0 --rate 50 --for 300ms");
    assert_eq!(mixed["connections"]["failed"]["closed_early"], 15, "{mixed}");
}

#[test]
fn what_waits_at_the_end_and_what_was_held_back_is_counted() {
    // Nobody accepts: the kernel does, and nothing is ever read or answered.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let line = "--sessions 2 --every 50ms --streams 1 --stream-rate 1g --rate 10k --timeout 100ms \
                --for 500ms";
    let mixed = mixed(&address, line);
    assert_eq!(mixed["sessions"]["unanswered"], 2, "{mixed}");
    assert_eq!(mixed["streams"]["unanswered"], 1, "{mixed}");
    assert!(number(&mixed["streams"]["held_back"]) > 0, "{mixed}");
    assert!(number(&mixed["connections"]["failed"]["timeout"]) > 0, "{mixed}");
    assert!(number(&mixed["connections"]["held_back"]) > 0, "{mixed}");
    // They were ended 5 s after the run, which is no part of it.
    let gaps = &mixed["sessions"]["gap"]["all"];
    assert_eq!(gaps["count"], 2, "{mixed}");
    assert!((1.0..5_000_000.0).contains(&gaps["max"].as_f64().unwrap()), "{mixed}");
}
