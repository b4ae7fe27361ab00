//! A second server hears what clients say, and nobody else notices.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc::{self, Receiver};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, read_to_end, reset, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::redis::{self, Redis};
use crate::harness::server::{BlackHole, Nobody, Server};
use crate::harness::{wait_for, wait_until};

/// A server that tells what each session said, to its end; nothing for one that was reset. It
/// answers all the time.
fn recorder() -> (Server, Receiver<Option<Vec<u8>>>) {
    let (tell, told) = mpsc::channel();
    let server = Server::each(move |mut stream| {
        let mut heard = Vec::new();
        let mut part = [0; 4096];
        let ended = loop {
            match stream.read(&mut part) {
                Ok(0) => break true,
                Ok(read) => heard.extend_from_slice(&part[..read]),
                Err(_) => break false,
            }
            let _ = stream.write_all(b"yes, yes");
        };
        let _ = tell.send(ended.then_some(heard));
    });
    (server, told)
}

fn start(echo: &Echo, server: SocketAddr, keys: &str) -> Ringlane {
    Setup::to(&[echo.address])
        .backend(&format!("mirror = {{ server = \"{server}\" {keys} }}"))
        .start()
}

/// The counters of the mirror: sessions, failed ones, bytes sent and dropped.
fn counters(ringlane: &Ringlane) -> [u64; 4] {
    let metrics: HashMap<String, f64> = ringlane.metrics();
    ["sessions", "failed", "sent_bytes", "dropped_bytes"]
        .map(|name| metrics[&format!("ringlane_mirror_{name}_total{{backend=\"back\"}}")] as u64)
}

/// Says so many bytes to the echo and gets them back, to the end.
fn converse(address: SocketAddr, bytes: &[u8]) {
    let mut client = connect(address);
    for part in bytes.chunks(65_536) {
        round_trip(&mut client, part);
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), b"");
}

#[test]
fn a_mirror_hears_every_byte_and_its_answers_go_nowhere() {
    let (echo, (shadow, heard)) = (Echo::start(), recorder());
    let ringlane = start(&echo, shadow.address, "");
    let said: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    converse(ringlane.address(), &said);
    assert_eq!(heard.recv().unwrap(), Some(said));
    wait_until("the copy to be counted", || counters(&ringlane) == [1, 0, 1_000_000, 0]);
    ringlane.wait_until_idle();
    ringlane.end();
}

#[test]
fn a_mirror_hears_greetings_and_who_the_client_is() {
    let (echo, (shadow, heard)) = (Echo::start(), recorder());
    let mut setup = Setup::to(&[])
        .frontend("protocol = \"tls\"")
        .backend(&format!("mirror = {{ server = \"{}\" }}\nsend_proxy = \"v1\"", shadow.address));
    setup.server(&format!("address = \"{}\"", echo.address));
    let ringlane = setup.start();
    let hello = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03\
        01234567890123456789012345678901\x00\x00\x02\x13\x01\x01\x00";
    let mut client = connect(ringlane.address());
    client.write_all(hello).unwrap();
    client.write_all(b"and more").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // The echo gives back what it was told, its PROXY header included.
    let answer = read_to_end(&mut client);
    assert!(answer.starts_with(b"PROXY TCP4 127.0.0.1 ") && answer.ends_with(b"and more"));
    assert_eq!(heard.recv().unwrap(), Some(answer));
    ringlane.end();
}

#[test]
fn a_mirror_that_is_slow_gone_or_silent_harms_nobody() {
    let echo = Echo::start();
    // It takes connections and never reads.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (nobody, hole) = (Nobody::new(), BlackHole::new());
    let said = vec![7; 16 * 1024 * 1024];
    for server in [deaf.local_addr().unwrap(), nobody.address, hole.address] {
        let ringlane = start(&echo, server, "");
        converse(ringlane.address(), &said);
        let [sent, dropped] = wait_for("the copy to be given up", || {
            let [sessions, failed, sent, dropped] = counters(&ringlane);
            (sessions == 1 && failed == 1).then_some([sent, dropped])
        });
        assert_eq!(sent + dropped, said.len() as u64, "{sent} sent, {dropped} dropped");
        assert!(dropped > 0);
        assert_eq!(ringlane.log(1)[0]["close"], "--");
        ringlane.end();
    }
}

#[test]
fn a_mirror_that_resets_is_let_go() {
    let echo = Echo::start();
    let rude = Server::each(reset);
    let ringlane = start(&echo, rude.address, "");
    let mut client = session(ringlane.address());
    wait_until("the copy to be given up", || counters(&ringlane)[1] == 1);
    round_trip(&mut client, b"still here");
    drop(client);
    ringlane.wait_until_idle();
    let [_, _, sent, dropped] = counters(&ringlane);
    assert_eq!(sent + dropped, 15);
    ringlane.end();
}

#[test]
fn a_mirror_may_end_a_session_of_which_it_has_heard_all() {
    let echo = Echo::start();
    let (tell, told) = mpsc::channel();
    let polite = Server::each(move |mut stream| {
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // The other side has ended, too.
        assert_eq!(stream.read(&mut heard).unwrap(), 0);
        tell.send(()).unwrap();
    });
    let ringlane = start(&echo, polite.address, "");
    let mut client = session(ringlane.address());
    told.recv().unwrap();
    assert_eq!(counters(&ringlane), [1, 0, 5, 0]);
    round_trip(&mut client, b"more");
    drop(client);
    ringlane.wait_until_idle();
    assert_eq!(counters(&ringlane), [1, 1, 5, 4], "it did not hear this");
    ringlane.end();
}

#[test]
fn a_share_of_sessions_is_heard() {
    let (echo, (shadow, _heard)) = (Echo::start(), recorder());
    let ringlane = start(&echo, shadow.address, ", share = 0.5");
    (0..200).for_each(|_| converse(ringlane.address(), b"hello"));
    let [sessions, failed, ..] = counters(&ringlane);
    // Seven deviations wide on either side.
    assert!((50..=150).contains(&sessions), "{sessions} of 200");
    assert_eq!(failed, 0);
    ringlane.end();
}

#[test]
fn a_second_redis_gets_what_the_first_gets() {
    let (first, second) = (Redis::start(&[]), Redis::start(&[]));
    let ringlane = Setup::to(&[first.address])
        .frontend("protocol = \"redis\"")
        .backend(&format!("mirror = {{ server = \"{}\" }}", second.address))
        .start();
    assert_eq!(redis::ask(ringlane.address(), &["SET", "key", "value"]), "OK");
    assert_eq!(first.ask(&["GET", "key"]), "value");
    wait_until("the copy", || second.ask(&["GET", "key"]) == "value");
    ringlane.end();
}
