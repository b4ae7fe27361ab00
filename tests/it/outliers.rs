//! Servers that are ejected for what their sessions meet there.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use socket2::{SockFilter, SockRef};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, greeting, round_trip, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::server::Server;
use crate::harness::{PATIENCE, pause, wait_until};

/// Classic BPF (linux/filter.h): keep so many bytes of what arrives.
const RETURN: u16 = 0x06;

/// A server that accepts each connection and resets it.
fn resetting() -> (Server, Arc<AtomicBool>) {
    let resets = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&resets);
    let server = Server::each(move |mut stream: TcpStream| {
        if still.load(Ordering::SeqCst) {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            let _ = stream.write_all(b"c");
            let mut back = stream.try_clone().unwrap();
            let _ = io::copy(&mut stream, &mut back);
        }
    });
    (server, resets)
}

/// One session; the letter of the server that answered, if one did.
fn session(ringlane: &Ringlane) -> Option<char> {
    // It may be reset before anything can be set.
    let mut client = TcpStream::connect(ringlane.address()).ok()?;
    client.set_read_timeout(Some(PATIENCE)).ok()?;
    let letter = greeting(&mut client).ok()?;
    try_round_trip(&mut client, b"hello").ok()?;
    Some(letter)
}

/// The reasons of the last changes of the third server, the newest first.
fn reasons(ringlane: &Ringlane) -> Vec<String> {
    let changes = ringlane.server_field(2, "/changes");
    let reason = |change: &Value| change["reason"].as_str().unwrap().to_owned();
    changes.as_array().unwrap().iter().map(reason).collect()
}

#[test]
fn who_resets_each_session_is_out_for_longer_each_time() {
    let good = ['a', 'b'].map(Echo::greeting);
    let (bad, resets) = resetting();
    let servers = [good[0].address, good[1].address, bad.address];
    let rules = "outlier = { failures = 3, interval = \"10m\", base = \"300ms\", max = \"10m\" }";
    let ringlane = Setup::to(&servers).backend(rules).start();
    for time in ["300ms", "600ms", "1.2s"] {
        let said = format!("server back/s3 ejected for {time} (was up): ");
        wait_until("the ejection", || {
            session(&ringlane);
            ringlane.said().iter().any(|line| line.contains(&said))
        });
    }
    assert!(reasons(&ringlane).iter().any(|reason| reason.ends_with("sessions got no answer")));
    ringlane.wait_for_word("server back/s3 is no longer ejected (now up): its ejection is over");
    // It behaves from now on.
    resets.store(false, Ordering::SeqCst);
    wait_until("it to serve", || session(&ringlane) == Some('c'));
    wait_until("it to stay in", || ringlane.server_field(2, "/ejected") == false);
    ringlane.end();
}

#[test]
fn who_is_out_gets_no_session_and_not_all_are_out() {
    let (good, bad) = (Echo::greeting('a'), [resetting().0, resetting().0]);
    let servers = [bad[0].address, good.address, bad[1].address];
    let rules = "outlier = { failures = 3, interval = \"10m\", base = \"10m\", max = \"10m\" }";
    let ringlane = Setup::to(&servers).shards(1).backend(rules).start();
    let ejected = || [0, 2].map(|server| ringlane.server_field(server, "/ejected") == true);
    wait_until("an ejection", || {
        session(&ringlane);
        ejected().contains(&true)
    });
    let out = if ejected()[0] { 0 } else { 2 };
    // A reset may be met while connecting, which is then tried elsewhere for a second.
    let tried = || {
        let met = ["sessions", "connects_failed"].map(|field| ringlane.servers(field));
        [out, 2 - out].map(|server| met[0][server] + met[1][server])
    };
    let before = tried();
    for _ in 0..20 {
        session(&ringlane);
    }
    wait_until("the other one, which is still in, to be tried", || {
        session(&ringlane);
        tried()[1] > before[1]
    });
    assert_eq!(tried()[0], before[0]);
    assert_eq!(ejected().iter().filter(|ejected| **ejected).count(), 1, "at most half of three");
    let metric = format!("ringlane_server_ejected{{backend=\"back\",server=\"s{}\"}}", out + 1);
    assert_eq!(ringlane.metrics()[&metric], 1.0);
    ringlane.end();
}

#[test]
fn who_loses_much_of_what_is_sent_is_out() {
    let good = ['a', 'b'].map(Echo::greeting);
    let lossy = Server::each(|mut stream| {
        SockRef::from(&stream).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).unwrap();
        stream.write_all(b"c").unwrap();
        // PAUSE: time for the kernel to retransmit three times (after 200 ms, then twice as long).
        pause(Duration::from_secs(2));
        SockRef::from(&stream).detach_filter().unwrap();
        let mut back = stream.try_clone().unwrap();
        let _ = io::copy(&mut stream, &mut back);
    });
    let servers = [good[0].address, good[1].address, lossy.address];
    let rules = "outlier = { failures = 1, interval = \"10m\", base = \"10m\", max = \"10m\", \
                 retransmits = 10 }";
    let ringlane = Setup::to(&servers).shards(1).backend(rules).start();
    wait_until("the ejection", || {
        let mut client = connect(ringlane.address());
        greeting(&mut client).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        drop(client);
        ringlane.server_field(2, "/ejected") == true
    });
    let said = &reasons(&ringlane)[0];
    assert!(said.contains("sessions had too many retransmissions"), "{said}");
    assert_eq!(ringlane.servers("sessions_lossy")[..2], [0, 0]);
    ringlane.end();
}

#[test]
fn who_leaves_sessions_unanswered_is_out() {
    let good = ['a', 'b'].map(Echo::greeting);
    let silent = Server::each(|mut stream| {
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    let servers = [good[0].address, good[1].address, silent.address];
    let rules = "outlier = { failures = 2, interval = \"10m\", base = \"10m\", max = \"10m\" }";
    // By its own timeout, or by that of the client, which goes first where both are the same.
    for times in ["client = \"1m\", server = \"300ms\"", "idle = \"300ms\""] {
        let timeout = format!("timeout = {{ connect = \"10s\", {times} }}");
        let ringlane = Setup::to(&servers).frontend(&timeout).backend(rules).start();
        wait_until("the ejection", || {
            let mut client = TcpStream::connect(ringlane.address()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"anybody?").unwrap();
            // A letter, or the end.
            let _ = greeting(&mut client);
            ringlane.server_field(2, "/ejected") == true
        });
        let said = &reasons(&ringlane)[0];
        assert!(said.contains("sessions got no answer"), "{said}");
        ringlane.end();
    }
}

/// As a stopped postmaster does: the kernel accepts, and the question for TLS stays unanswered.
#[test]
fn a_postgresql_server_that_does_not_answer_the_question_for_tls_is_ejected() {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let silent = Server::each(|mut stream| {
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    let other = Echo::start();
    let rules = "outlier = { failures = 2, interval = \"10m\", base = \"10m\", max = \"10m\" }";
    let ringlane = Setup::to(&[silent.address, other.address])
        .frontend("protocol = \"postgres\"\ntimeout = { connect = \"300ms\" }")
        .backend(rules)
        .start();
    let mut explained = false;
    wait_until("the ejection", || {
        let mut client = TcpStream::connect(ringlane.address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&SSL_REQUEST).unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        explained |= answer.windows(5).any(|code| code == b"57P03");
        ringlane.server_field(0, "/ejected") == true
    });
    assert!(explained, "clients learn why");
    ringlane.end();
}

#[test]
fn who_answers_late_is_out() {
    let good = ['a', 'b'].map(|_| Echo::start());
    let slow = Server::each(|mut stream| {
        let _ = stream.read_exact(&mut [0]);
        // PAUSE: the server answers later than `first_byte`.
        pause(Duration::from_secs(1));
        let _ = stream.write_all(b"x");
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    let servers = [good[0].address, good[1].address, slow.address];
    let rules = "outlier = { failures = 2, interval = \"10m\", base = \"10m\", max = \"10m\", \
                 first_byte = \"500ms\" }";
    let ringlane = Setup::to(&servers).shards(1).backend(rules).start();
    // Silence before the client has said anything is nobody's fault.
    let patient = [(); 3].map(|()| connect(ringlane.address()));
    // PAUSE: the silence must outlast `first_byte`.
    pause(Duration::from_millis(600));
    drop(patient);
    wait_until("the ejection", || {
        let mut client = connect(ringlane.address());
        round_trip(&mut client, b"x");
        drop(client);
        ringlane.server_field(2, "/ejected") == true
    });
    let said = &reasons(&ringlane)[0];
    assert!(said.contains("sessions were answered too late"), "{said}");
    assert_eq!(ringlane.servers("sessions_failed_early"), [0; 3]);
    ringlane.end();
}
