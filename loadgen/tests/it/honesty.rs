//! Servers that stall, reset, or are not there: the figures and the words must say so.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::program::{load, measured, result, said};

/// A server of one connection after the other, with a body of its own.
fn serve(body: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(body));
    address
}

#[test]
fn a_stall_shows_in_the_corrected_tail_and_not_in_the_measured_one() {
    let address = serve(|mut stream| {
        // Nobody ever says anything: a wait that always lasts its whole time.
        let (_silent, silence) = mpsc::channel::<()>();
        let mut message = [0; 128];
        let mut answered = 0;
        while stream.read_exact(&mut message).is_ok() {
            if answered == 200 {
                let _ = silence.recv_timeout(Duration::from_millis(200));
            }
            answered += 1;
            if stream.write_all(&message).is_err() {
                return;
            }
        }
    });
    let result = measured("tcp-rr", &address, "--sessions 1 --rate 1000 --for 2s");
    let slower = |which: &str| result["latency"][which]["slower_than"]["100ms"].as_u64().unwrap();
    // About 100 of the 200 arrivals of the stall waited for longer than half of it. One request saw
    // it; a busy machine may add a few of its own.
    assert!(slower("intended") >= 80, "{result}");
    assert!((1..=10).contains(&slower("measured")), "{result}");
    assert!(result["latency"]["intended"]["p99.9"].as_f64().unwrap() > 100_000.0, "{result}");
    assert!(result["schedule"]["late"].as_u64().unwrap() >= 150, "{result}");
    assert_eq!(result["latency"]["intended"]["count"], 2000, "{result}");
}

#[test]
fn a_server_that_never_answers_leaves_the_schedule_unkept() {
    let address = serve(|stream| {
        let mut all = Vec::new();
        let _ = (&stream).read_to_end(&mut all);
    });
    let output = load("tcp-rr", &address, "--sessions 1 --rate 100 --for 300ms");
    let result = result(&output);
    assert_eq!(result["requests"], 0, "{result}");
    assert_eq!(result["errors"]["unfinished"], 1, "{result}");
    assert_eq!(result["schedule"]["never_sent"], 29, "{result}");
    assert_eq!(result["latency"]["intended"]["count"], 29, "{result}");
}

#[test]
fn a_server_that_resets_is_counted_and_tried_again() {
    let address = serve(|mut stream| {
        // Unread bytes turn the close into a reset.
        let _ = stream.read_exact(&mut [0; 1]);
    });
    let output = load("tcp-rr", &address, "--sessions 2 --for 400ms");
    let result = result(&output);
    assert!(!output.status.success(), "{output:?}");
    let errors = result["errors"].as_object().unwrap();
    let cut: u64 =
        ["reset", "closed_early"].iter().filter_map(|name| errors.get(*name)?.as_u64()).sum();
    assert!(cut >= 3, "{result}");
    assert!(result["sessions"].as_u64().unwrap() > 2, "{result}");
    assert!(said(&output).contains(&address), "{output:?}");
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_no_panic() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (kind, more) in [
        ("tcp-rr", ""),
        ("tcp-rr", "--sessions-lost"),
        ("tcp-rr", "--rate 10"),
        ("tcp-stream", ""),
        ("tcp-idle", "--sessions 2"),
        ("pgsql", ""),
        ("redis", ""),
    ] {
        let output = load(kind, &free, &format!("--for 200ms {more}"));
        assert_eq!(output.status.code(), Some(1), "{kind}: {output:?}");
        let said = said(&output);
        assert!(said.contains(&free) && said.contains("refused"), "{kind}: {said}");
        assert!(!said.contains("panicked"), "{kind}: {said}");
    }
    let output = load("udp-rr", &free, "--for 200ms --rate 50 --timeout 50ms");
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(result(&output)["requests"], 0, "{output:?}");
}

#[test]
fn a_server_that_speaks_something_else_is_told_apart() {
    let address = serve(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-other\r\n and more of it \r\n");
        let _ = stream.read(&mut [0; 64]);
    });
    for kind in ["pgsql", "redis"] {
        let output = load(kind, &address, "--for 200ms");
        assert!(!output.status.success(), "{kind}: {output:?}");
        assert!(said(&output).contains("not an answer of"), "{kind}: {output:?}");
    }
}
