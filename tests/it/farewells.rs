//! What PostgreSQL clients in clear text read when their session ends, or none begins, and why; and
//! that an operator's order is no failure.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::connect;
use crate::harness::server::{BlackHole, Nobody, Server};
use crate::harness::wait_until;

const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0it\0\0";

/// The request for TLS, which clients send first by default.
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// What a server answers to a startup message where no password is needed.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// A server that lets everybody in and runs no queries.
fn welcoming() -> Server {
    Server::each(|mut stream| {
        let mut startup = [0; STARTUP.len()];
        if stream.read_exact(&mut startup).is_ok() && stream.write_all(WELCOME).is_ok() {
            while let Ok(1..) = stream.read(&mut [0; 64]) {}
        }
    })
}

fn logged_in(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    client.write_all(STARTUP).unwrap();
    let mut welcome = [0; WELCOME.len()];
    client.read_exact(&mut welcome).unwrap();
    assert_eq!(welcome, WELCOME);
    client
}

/// The last words of a session: those that came before its end or reset.
fn last_words(mut client: TcpStream) -> String {
    let (mut words, mut bytes) = (Vec::new(), [0; 512]);
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        words.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8_lossy(&words).into_owned()
}

#[track_caller]
fn expect_words(words: &str, code: &str, text: &str) {
    assert!(words.starts_with('E'), "{words:?}");
    assert!(words.contains(&format!("C{code}\0")) && words.contains(text), "{words:?}");
}

fn start(backend: &str, servers: &[SocketAddr]) -> Ringlane {
    let setup = Setup::to(servers).frontend("protocol = \"postgres\"");
    setup.frontend("timeout = { connect = \"300ms\" }").backend(backend).start()
}

#[test]
fn who_is_ended_by_an_order_reads_which_and_nothing_has_failed() {
    let server = welcoming();
    let mut ringlane = start("on_drain = \"drain\"", &[server.address]);
    for (order, text, nth) in
        [("drain", "drained by an operator", 1), ("maint", "into maintenance by an operator", 2)]
    {
        ringlane.order("back/s1", "ready");
        let client = logged_in(ringlane.address());
        ringlane.order("back/s1", order);
        expect_words(&last_words(client), "57P01", text);
        wait_until("the session to end", || ringlane.frontend("sessions_ended") == nth);
        let counts = ["sessions_failed", "sessions_ended_by_order"];
        assert_eq!(counts.map(|field| ringlane.frontend(field)), [0, nth]);
    }
    ringlane.order("back/s1", "ready");
    let client = logged_in(ringlane.address());
    ringlane.signal(Signal::SIGTERM);
    ringlane.wait_for_word("draining");
    ringlane.signal(Signal::SIGTERM);
    expect_words(&last_words(client), "57P01", "the load balancer is stopping");
    assert!(ringlane.ended().success());
    let log = ringlane.log(3);
    assert!(log.iter().all(|record| record["close"] == "KD"), "{log:?}");
}

#[test]
fn who_finds_no_server_reads_why() {
    let (nobody, hole) = (Nobody::new(), BlackHole::new());
    for (address, text) in [
        (nobody.address, "no server accepts connections at the moment"),
        (hole.address, "no server answered in time"),
    ] {
        let ringlane = start("", &[address]);
        // Before TLS is agreed on, too.
        for first in [STARTUP, SSL_REQUEST] {
            let mut client = connect(ringlane.address());
            client.write_all(first).unwrap();
            expect_words(&last_words(client), "57P03", text);
        }
        ringlane.order("back/s1", "maint");
        let mut client = connect(ringlane.address());
        client.write_all(STARTUP).unwrap();
        expect_words(&last_words(client), "57P03", "no server is available at the moment");
        ringlane.end();
    }
}

#[test]
fn who_waits_in_vain_reads_why() {
    let server = welcoming();
    let mut setup = Setup::to(&[]).frontend("protocol = \"postgres\"");
    setup = setup.backend("queue = { size = 1, timeout = \"5s\" }");
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 1", server.address));
    let ringlane = setup.start();
    let inside = logged_in(ringlane.address());
    let mut waits = connect(ringlane.address());
    waits.write_all(STARTUP).unwrap();
    let queue = || ringlane.status()["backends"][0]["queue"]["sessions_live"] == 1;
    wait_until("the client to wait", queue);
    let mut refused = connect(ringlane.address());
    refused.write_all(STARTUP).unwrap();
    expect_words(&last_words(refused), "57P03", "too many clients wait already");
    expect_words(&last_words(waits), "57P03", "no server had room for another connection in time");
    drop(inside);
    ringlane.wait_until_idle();
    let mut codes: Vec<_> =
        ringlane.log(3).iter().map(|record| record["close"].to_string()).collect();
    codes.sort_unstable();
    assert_eq!(codes[1..], ["\"PQ\"", "\"sQ\""]);
    ringlane.end();
}
