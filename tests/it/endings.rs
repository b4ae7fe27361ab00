//! How sessions end: half-closed, reset, silent for too long, or held up by a reader that stalls.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{self, connect, expect_reset, read_to_end, round_trip, session};
use crate::harness::content::Content;
use crate::harness::echo::Echo;
use crate::harness::server::Server;
use crate::harness::{heavy, pause, wait_until};

/// Every way to carry bytes.
const PATHS: [&str; 3] = ["copy", "splice", "auto"];

fn close_code(ringlane: &Ringlane) -> String {
    ringlane.log(1)[0]["close"].as_str().unwrap().to_owned()
}

#[test]
fn a_client_that_has_finished_still_gets_its_answer() {
    for path in PATHS {
        let server = Server::each(|mut stream| {
            let question = read_to_end(&mut stream);
            stream.write_all(format!("{} bytes, thank you", question.len()).as_bytes()).unwrap();
        });
        let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
        let mut client = connect(ringlane.address());
        client.write_all(&[7; 100_000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), b"100000 bytes, thank you", "{path}");
        drop(client);
        assert_eq!(close_code(&ringlane), "--", "{path}");
        ringlane.end();
    }
}

#[test]
fn a_server_that_has_finished_still_hears_its_client() {
    for path in PATHS {
        let (heard, hears) = mpsc::channel();
        let server = Server::each(move |mut stream| {
            stream.write_all(b"goodbye").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            heard.send(read_to_end(&mut stream).len()).unwrap();
        });
        let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
        let mut client = connect(ringlane.address());
        assert_eq!(read_to_end(&mut client), b"goodbye", "{path}");
        client.write_all(&[7; 100_000]).unwrap();
        drop(client);
        assert_eq!(hears.recv().unwrap(), 100_000, "{path}");
        let record = &ringlane.log(1)[0];
        assert_eq!(record["close"], "--", "{path}");
        assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&100_000.into(), &7.into()));
        ringlane.end();
    }
}

#[test]
fn a_reset_by_the_client_reaches_the_server() {
    for path in PATHS {
        let (ended, ends) = mpsc::channel();
        let server = Server::each(move |mut stream| {
            stream.write_all(b"hello").unwrap();
            expect_reset(&mut stream);
            ended.send(()).unwrap();
        });
        let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
        let mut client = connect(ringlane.address());
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client::reset(client);
        ends.recv_timeout(crate::harness::PATIENCE).expect("the server to see a reset");
        assert_eq!(close_code(&ringlane), "CD", "{path}");
        ringlane.end();
    }
}

#[test]
fn a_reset_by_the_server_reaches_the_client() {
    for path in PATHS {
        let server = Server::each(|mut stream| {
            stream.read_exact(&mut [0; 5]).unwrap();
            client::reset(stream);
        });
        let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
        let mut client = connect(ringlane.address());
        client.write_all(b"hello").unwrap();
        expect_reset(&mut client);
        assert_eq!(close_code(&ringlane), "SD", "{path}");
        assert_eq!(ringlane.servers("sessions_failed"), [1], "{path}");
        ringlane.end();
    }
}

#[test]
fn a_side_that_is_silent_for_too_long_ends_the_session() {
    for (timeout, codes) in [
        (r#"{ client = "300ms", server = "1h" }"#, &["cD"][..]),
        (r#"{ client = "1h", server = "300ms" }"#, &["sD"]),
        (r#"{ idle = "300ms" }"#, &["cD", "sD"]),
    ] {
        let echo = Echo::start();
        let ringlane = Setup::to(&[echo.address]).frontend(&format!("timeout = {timeout}")).start();
        let mut client = session(ringlane.address());
        assert_eq!(read_to_end(&mut client), b"", "{timeout}");
        let code = close_code(&ringlane);
        assert!(codes.contains(&code.as_str()), "{timeout}: {code}");
        ringlane.wait_until_idle();
        ringlane.end();
    }
}

#[test]
fn a_server_that_never_answers_is_not_waited_for_longer_than_its_timeout() {
    let server = Server::each(|mut stream| drop(read_to_end(&mut stream)));
    let ringlane = Setup::to(&[server.address])
        .frontend(r#"timeout = { client = "1h", server = "300ms" }"#)
        .start();
    let mut client = connect(ringlane.address());
    client.write_all(b"anybody there?").unwrap();
    assert_eq!(read_to_end(&mut client), b"");
    assert_eq!(close_code(&ringlane), "sD");
    ringlane.end();
}

#[test]
fn no_timeout_fires_while_bytes_flow() {
    // One that answers, one that only takes, one that only gives: each is alive on both sides.
    let echo = Echo::start();
    let sink = Server::each(|mut stream| drop(read_to_end(&mut stream)));
    let idle = Duration::from_millis(500);
    for (server, answers) in [(echo.address, true), (sink.address, false)] {
        let ringlane = Setup::to(&[server]).frontend(r#"timeout = { idle = "500ms" }"#).start();
        let mut client = connect(ringlane.address());
        let begin = Instant::now();
        while begin.elapsed() < idle * 4 {
            client.write_all(b".").unwrap();
            if answers {
                client.read_exact(&mut [0]).unwrap();
            }
            // PAUSE: activity in intervals much shorter than `timeout.idle`, for longer than it.
            pause(idle / 20);
        }
        assert_eq!(ringlane.live(), 1);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), b"");
        assert_eq!(close_code(&ringlane), "--");
        ringlane.end();
    }
    let source = Server::each(move |mut stream| {
        let begin = Instant::now();
        while begin.elapsed() < idle * 4 {
            stream.write_all(b".").unwrap();
            // PAUSE: as above, by the server.
            pause(idle / 20);
        }
    });
    let ringlane = Setup::to(&[source.address]).frontend(r#"timeout = { idle = "500ms" }"#).start();
    let mut client = connect(ringlane.address());
    assert!(read_to_end(&mut client).len() >= 20);
    drop(client);
    assert_eq!(close_code(&ringlane), "--");
    ringlane.end();
}

#[test]
fn a_reader_that_stalls_costs_one_bounded_buffer_and_disturbs_nobody() {
    const BYTES: u64 = 32 << 20;
    const STALLED: usize = 24;
    const EACH_MAX: u64 = 128 * 1024;
    let _alone = heavy();
    for path in PATHS {
        let source = Server::each(|mut stream| {
            let mut kind = [0];
            stream.read_exact(&mut kind).unwrap();
            if kind == *b"e" {
                answer_all(stream);
            } else {
                // Ends with an error if the story has failed and its client is gone.
                let _ = Content::new(1).send(&mut stream, BYTES);
            }
        });
        let ringlane = Setup::to(&[source.address]).frontend(&format!("path = \"{path}\"")).start();
        let mut other = connect(ringlane.address());
        other.write_all(b"e").unwrap();
        round_trip(&mut other, b"before");
        // The first ones touch the buffers that every shard has; the others show what one costs.
        let mut stalled = stall(&ringlane, STALLED / 3);
        let before = ringlane.process().resident();
        stalled.extend(stall(&ringlane, STALLED));
        let each = ringlane.process().resident().saturating_sub(before) / STALLED as u64;
        println!("{path}: a stalled reader holds {} KiB of the balancer's memory", each / 1024);
        assert!(ringlane.frontend("bytes_out") < BYTES * stalled.len() as u64);
        assert!(each <= EACH_MAX, "{path}: {each} bytes per stalled reader");
        (0..100).for_each(|_| round_trip(&mut other, b"not disturbed"));

        thread::scope(|scope| {
            for client in &mut stalled {
                scope.spawn(|| Content::new(1).expect(client, BYTES));
            }
        });
        drop((stalled, other));
        ringlane.wait_until_idle();
        ringlane.end();
    }
}

/// Clients that ask for bulk and do not read; returns when their servers are held up.
fn stall(ringlane: &Ringlane, clients: usize) -> Vec<TcpStream> {
    let address = ringlane.address();
    let mut stalled: Vec<TcpStream> = (0..clients).map(|_| connect(address)).collect();
    let begun = ringlane.frontend("bytes_out");
    stalled.iter_mut().for_each(|client| client.write_all(b"s").unwrap());
    let mut seen = (begun, Instant::now());
    wait_until("the servers to be held up", || {
        let bytes = ringlane.frontend("bytes_out");
        if bytes != seen.0 || bytes == begun {
            seen = (bytes, Instant::now());
        }
        seen.1.elapsed() > Duration::from_millis(300)
    });
    stalled
}

/// Echoes until the end.
fn answer_all(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
