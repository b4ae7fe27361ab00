//! Clients that leave before they are served: their places are free at once, and no server is
//! blamed.
//!
//! A client leaves by a reset, or by ending its stream without a byte. One that ends its stream
//! after bytes has only sent all of its request, and is served.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, read_to_end, reset, session};
use crate::harness::echo::Echo;
use crate::harness::server::{BlackHole, Nobody, Server};
use crate::harness::wait_until;

/// The request for TLS of PostgreSQL's clients.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A cancel of PostgreSQL's clients.
const CANCEL: [u8; 16] = [0, 0, 0, 16, 4, 210, 22, 46, 1, 2, 3, 4, 5, 6, 7, 8];

/// Every way to leave.
const WAYS: [fn(TcpStream); 3] = [drop, reset, |mut client| {
    // Bytes don't hold a client that resets its connection.
    client.write_all(b"a request").unwrap();
    reset(client);
}];

/// Clients come, wait and leave, one after the other; each session ends at once with this code.
#[track_caller]
fn leave_in_every_way(ringlane: &Ringlane, code: &str, waits: impl Fn() -> bool) {
    let before = ringlane.frontend("sessions_ended");
    for (way, ended) in WAYS.into_iter().zip(before + 1..) {
        let client = connect(ringlane.address());
        wait_until("the session to wait", &waits);
        way(client);
        wait_until("the session to end", || ringlane.frontend("sessions_ended") == ended);
    }
    let log = ringlane.log(usize::try_from(before).unwrap() + WAYS.len());
    let codes: Vec<_> = log.iter().rev().take(WAYS.len()).map(|record| &record["close"]).collect();
    assert!(codes.iter().all(|logged| **logged == code), "{codes:?}");
}

/// Nothing is held against the servers.
#[track_caller]
fn expect_no_blame(ringlane: &Ringlane) {
    for field in ["connects_failed", "connects_timed_out", "sessions_failed", "sessions_live"] {
        assert!(ringlane.servers(field).iter().all(|count| *count == 0), "{field}");
    }
}

/// A client that has sent all of its request.
fn one_shot(address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut client = connect(address);
    client.write_all(request).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client
}

#[test]
fn who_leaves_the_queue_gives_its_place_back_and_a_whole_request_is_served() {
    let echo = Echo::start();
    let mut setup = Setup::to(&[]).backend("queue = { size = 1, timeout = \"10m\" }");
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 1", echo.address));
    let ringlane = setup.start();
    let queued =
        || ringlane.status()["backends"][0]["queue"]["sessions_live"].as_u64().unwrap() == 1;
    let inside = session(ringlane.address());
    leave_in_every_way(&ringlane, "CQ", queued);
    let mut client = one_shot(ringlane.address(), b"all that I have to say");
    wait_until("the request to wait", queued);
    drop(inside);
    assert_eq!(read_to_end(&mut client), b"all that I have to say");
    ringlane.wait_until_idle();
    expect_no_blame(&ringlane);
    ringlane.end();
}

#[test]
fn who_leaves_while_its_server_does_not_answer_is_not_held_against_the_server() {
    let (hole, other) = (BlackHole::new(), BlackHole::new());
    for race in ["", "race_after = \"20ms\""] {
        let setup = Setup::to(&[hole.address, other.address]).backend(race);
        let ringlane = setup.frontend("timeout = { connect = \"10m\" }").start();
        let attempts = if race.is_empty() { 1 } else { 2 };
        let tries = || ringlane.servers("sessions_live").iter().sum::<u64>() == attempts;
        leave_in_every_way(&ringlane, "CC", tries);
        expect_no_blame(&ringlane);
        ringlane.end();
    }
}

#[test]
fn a_whole_request_waits_for_a_server_as_long_as_any() {
    let hole = BlackHole::new();
    let setup = Setup::to(&[hole.address]).frontend("timeout = { connect = \"500ms\" }");
    let ringlane = setup.start();
    let mut client = one_shot(ringlane.address(), b"all that I have to say");
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(ringlane.log(1)[0]["close"], "sC");
    ringlane.end();
}

#[test]
fn who_leaves_before_the_servers_are_tried_again_is_not_tried_again() {
    let nobody = Nobody::new();
    let setup = Setup::to(&[nobody.address]).frontend("timeout = { connect = \"10m\" }");
    let ringlane = setup.start();
    let failed = || ringlane.servers("connects_failed")[0];
    let before = ringlane.frontend("sessions_ended");
    for (way, ended) in WAYS.into_iter().zip(before + 1..) {
        let client = connect(ringlane.address());
        wait_until("the connect to fail", || failed() == ended);
        way(client);
        wait_until("the session to end", || ringlane.frontend("sessions_ended") == ended);
        assert_eq!(failed(), ended, "one attempt each");
    }
    let log = ringlane.log(WAYS.len());
    assert!(log.iter().all(|record| record["close"] == "CC"), "{log:?}");
    ringlane.end();
}

#[test]
fn who_leaves_at_a_full_gate_never_becomes_a_session() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let server = Server::each(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut bytes = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            let _ = stream.write_all(&bytes[..n]);
        }
    });
    let ringlane = Setup::to(&[server.address]).frontend("max_connections = 1").start();
    let inside = session(ringlane.address());
    for _ in 0..5 {
        WAYS.into_iter().for_each(|way| way(connect(ringlane.address())));
    }
    let mut client = one_shot(ringlane.address(), b"all that I have to say");
    drop(inside);
    assert_eq!(read_to_end(&mut client), b"all that I have to say");
    drop(session(ringlane.address()));
    ringlane.wait_until_idle();
    wait_until("the leavers to be counted", || ringlane.frontend("left_at_gate") == 15);
    assert_eq!((ringlane.frontend("sessions"), seen.load(Ordering::SeqCst)), (3, 3));
    ringlane.end();
}

#[test]
fn who_leaves_while_a_server_is_asked_for_tls_or_told_of_a_cancel_is_let_go() {
    // Takes everything and never says a word.
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let mute = Server::each(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        while let Ok(1..) = stream.read(&mut [0; 64]) {}
    });
    let setup = Setup::to(&[mute.address]).frontend("protocol = \"postgres\"");
    let ringlane = setup.frontend("timeout = { connect = \"10m\" }").start();
    let ended = |number: u64| {
        wait_until("the session to end", || ringlane.frontend("sessions_ended") == number);
    };
    let served = |request: &[u8], number: usize| {
        let mut client = connect(ringlane.address());
        client.write_all(request).unwrap();
        wait_until("the server to be reached", || taken.load(Ordering::SeqCst) == number);
        client
    };
    drop(served(&SSL_REQUEST, 1));
    ended(1);
    reset(served(&SSL_REQUEST, 2));
    ended(2);
    reset(served(&CANCEL, 3));
    ended(3);
    let log = ringlane.log(3);
    assert!(log.iter().all(|record| record["close"] == "CR"), "{log:?}");
    // Who ends its stream has still asked for the cancel.
    let client = served(&CANCEL, 4);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ringlane.frontend("sessions_ended"), 3);
    reset(client);
    ended(4);
    expect_no_blame(&ringlane);
    ringlane.end();
}

#[test]
fn a_client_that_is_silent_until_its_time_is_over_is_no_failure() {
    let echo = Echo::start();
    for lines in [
        "protocol = \"tls\"\ntimeout = { greeting = \"100ms\" }",
        "accept_proxy = { trusted = [\"127.0.0.0/8\"], timeout = \"100ms\" }",
    ] {
        let ringlane = Setup::to(&[echo.address]).frontend(lines).start();
        let _silent = connect(ringlane.address());
        let record = &ringlane.log(1)[0];
        assert_eq!((&record["close"], &record["reason"]), (&"cR".into(), &"empty".into()));
        let counts = ["sessions_empty", "sessions_failed"].map(|field| ringlane.frontend(field));
        assert_eq!(counts, [1, 0], "{lines}");
        ringlane.end();
    }
}

#[test]
fn who_says_nothing_is_no_failure_and_may_be_left_out_of_the_log() {
    let echo = Echo::start();
    let log = |setup: &Setup| format!("file:{}", setup.path("log").display());
    for lines in [
        "protocol = \"tls\"",
        "protocol = \"postgres\"",
        "protocol = \"tls\"\naccept_proxy = { trusted = [\"127.0.0.0/8\"] }",
        "accept_proxy = { trusted = [\"127.0.0.0/8\"] }",
        "",
    ] {
        let setup = Setup::to(&[echo.address]).frontend(lines);
        let to = log(&setup);
        let setup = setup.global(&format!("access_log = {{ to = {to:?}, log_empty = false }}"));
        let path = setup.path("log");
        let ringlane = setup.start();
        for way in [drop, reset, drop, reset] {
            way(connect(ringlane.address()));
        }
        wait_until("the sessions to end", || ringlane.frontend("sessions_ended") == 4);
        let counts = ["sessions_empty", "sessions_failed"].map(|field| ringlane.frontend(field));
        assert_eq!(counts, [4, 0], "{lines}");
        expect_no_blame(&ringlane);
        // Half a greeting, or bytes that are none.
        let mut client = connect(ringlane.address());
        client.write_all(&[22, 3]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        while let Ok(1..) = client.read(&mut [0; 64]) {}
        ringlane.wait_until_idle();
        assert_eq!(ringlane.frontend("sessions_failed"), u64::from(!lines.is_empty()), "{lines}");
        // Lines are written in the order of ends, so those of the others would be there.
        let lines_now = || std::fs::read_to_string(&path).unwrap().lines().count();
        wait_until("the line of the one that spoke", || lines_now() > 0);
        assert_eq!(lines_now(), 1, "{lines}");
        ringlane.end();
    }
}
