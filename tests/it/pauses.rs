//! The whole process stands still (a signal, a suspend, a machine that is moved): what arrived
//! meanwhile is no silence.

use std::io::{Read, Write};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::balancer::Setup;
use crate::harness::client::{connect, read_to_end, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::server::Server;
use crate::harness::{heavy, pause, wait_until};

/// Sessions that speak during the pause.
const SESSIONS: usize = 60;

/// Longer than `timeout.idle` of these stories.
const PAUSE: Duration = Duration::from_secs(10);

#[test]
fn sessions_whose_bytes_wait_in_their_sockets_survive_a_pause() {
    let _alone = heavy();
    let spoken = Arc::new(Barrier::new(SESSIONS / 2 + 1));
    let speaks = Arc::clone(&spoken);
    // Half of the sessions speak from here, half from the other side.
    let server = Server::each(move |mut stream| {
        let mut kind = [0];
        if stream.read_exact(&mut kind).is_err() {
            return;
        }
        stream.write_all(&kind).unwrap();
        if kind == *b"s" {
            speaks.wait();
            stream.write_all(b"from the server").unwrap();
        }
        let mut buffer = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    });
    let ringlane = Setup::to(&[server.address]).frontend(r#"timeout = { idle = "5s" }"#).start();
    let mut clients: Vec<_> = (0..SESSIONS).map(|_| connect(ringlane.address())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        round_trip(client, if number % 2 == 0 { b"c" } else { b"s" });
    }
    let mut silent = connect(ringlane.address());
    round_trip(&mut silent, b"-");
    ringlane.signal(Signal::SIGSTOP);
    wait_until("the balancer to stand still", || ringlane.process().is_stopped());
    for client in clients.iter_mut().step_by(2) {
        client.write_all(b"from the client").unwrap();
    }
    spoken.wait();
    // PAUSE: the stop must outlast `timeout.idle`.
    pause(PAUSE);
    ringlane.signal(Signal::SIGCONT);
    for (number, client) in clients.iter_mut().enumerate() {
        let mut heard = [0; 15];
        client.read_exact(&mut heard).unwrap();
        let expected = if number % 2 == 0 { b"from the client" } else { b"from the server" };
        assert_eq!(&heard, expected);
        round_trip(client, b"and on it goes");
    }
    // Who had nothing to say has been silent for too long.
    assert_eq!(read_to_end(&mut silent), b"");
    assert_eq!(ringlane.log(1)[0]["close"].as_str().unwrap().as_bytes()[1], b'D');
    drop(clients);
    ringlane.wait_until_idle();
    let ended = ringlane.log(SESSIONS + 1);
    let failed = ended.iter().filter(|record| record["close"] != "--").count();
    assert_eq!(failed, 1, "{ended:#?}");
    ringlane.end();
}

#[test]
fn a_greeting_that_waits_in_its_socket_survives_a_pause() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend(r#"accept_proxy = { trusted = ["127.0.0.0/8"], timeout = "2s" }"#)
        .start();
    let mut clients: Vec<_> = (0..20).map(|_| connect(ringlane.address())).collect();
    wait_until("the sessions to begin", || ringlane.live() == 20);
    ringlane.signal(Signal::SIGSTOP);
    wait_until("the balancer to stand still", || ringlane.process().is_stopped());
    for client in &mut clients {
        client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\nhello").unwrap();
    }
    // PAUSE: the stop must outlast the timeout of a first message.
    pause(PAUSE);
    ringlane.signal(Signal::SIGCONT);
    for client in &mut clients {
        let mut hello = [0; 5];
        client.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");
    }
    drop(clients);
    ringlane.wait_until_idle();
    ringlane.end();
}

/// The place became free during the pause, which was longer than the queue's timeout.
#[test]
fn a_session_in_a_queue_gets_the_place_that_became_free_in_a_pause() {
    let _alone = heavy();
    let echo = Echo::start();
    let mut setup = Setup::to(&[]).backend("queue = { size = 9, timeout = \"4s\" }");
    setup.server(&format!("address = \"{}\", max_connections = 1", echo.address));
    let ringlane = setup.start();
    let holder = session(ringlane.address());
    let mut waiting = connect(ringlane.address());
    waiting.write_all(b"x").unwrap();
    wait_until("the second to wait", || {
        ringlane.status()["backends"][0]["queue"]["sessions_live"] == 1
    });
    ringlane.signal(Signal::SIGSTOP);
    wait_until("the balancer to stand still", || ringlane.process().is_stopped());
    drop(holder);
    // PAUSE: the stop must outlast the timeout of the queue.
    pause(PAUSE);
    ringlane.signal(Signal::SIGCONT);
    let mut answer = [0];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"x");
    drop(waiting);
    ringlane.end();
}

/// The answer arrived in time and lay in its socket while nobody was there to read it.
#[test]
fn an_answer_that_waits_during_a_pause_does_not_count_as_late() {
    let _alone = heavy();
    let (go, goes) = (Arc::new(Barrier::new(5)), Arc::new(Barrier::new(5)));
    let (asked, answers) = (Arc::clone(&go), Arc::clone(&goes));
    let server = Server::each(move |mut stream| {
        if stream.read_exact(&mut [0]).is_err() {
            return;
        }
        asked.wait();
        answers.wait();
        stream.write_all(b"x").unwrap();
        read_to_end(&mut stream);
    });
    let rules = "outlier = { failures = 100, interval = \"10m\", first_byte = \"3s\" }";
    let ringlane = Setup::to(&[server.address]).backend(rules).start();
    let mut clients: Vec<_> = (0..4).map(|_| connect(ringlane.address())).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"?").unwrap());
    go.wait();
    ringlane.signal(Signal::SIGSTOP);
    wait_until("the balancer to stand still", || ringlane.process().is_stopped());
    goes.wait();
    // PAUSE: the stop must outlast `first_byte`.
    pause(PAUSE);
    ringlane.signal(Signal::SIGCONT);
    clients.iter_mut().for_each(|client| client.read_exact(&mut [0]).unwrap());
    drop(clients);
    ringlane.wait_until_idle();
    let late = "ringlane_server_sessions_late_total{backend=\"back\",server=\"s1\"}";
    assert_eq!(ringlane.metrics()[late], 0.0);
    ringlane.end();
}
