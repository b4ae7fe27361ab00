//! Sessions of which one side has ended: a server that is done gives its place back, and what is
//! left lives no longer than `timeout.fin`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc;

use crate::harness::balancer::Setup;
use crate::harness::client::{connect, read_to_end};
use crate::harness::server::Server;
use crate::harness::wait_until;

const PATHS: [&str; 3] = ["copy", "splice", "auto"];

fn one_place(server: SocketAddr, path: &str) -> Setup {
    let body = format!(
        r#"
        [[frontend]]
        name = "front"
        bind = "127.0.0.1:0"
        backend = "back"
        path = "{path}"
        [[backend]]
        name = "back"
        queue = {{ size = 10, timeout = "30s" }}
        server = [{{ address = "{server}", max_connections = 1 }}]
        "#
    );
    Setup::of(&body)
}

#[test]
fn a_server_that_is_done_gives_its_place_back() {
    for path in PATHS {
        let server = Server::each(|mut stream| {
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"bye").unwrap();
        });
        let ringlane = one_place(server.address, path).start();
        // Pooled clients, none of which notices that its connection has ended.
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let mut client = connect(ringlane.address());
                client.write_all(b"x").unwrap();
                let mut bye = [0; 3];
                client.read_exact(&mut bye).unwrap();
                assert_eq!(&bye, b"bye", "{path}");
                client
            })
            .collect();
        wait_until("the places to be free", || ringlane.servers("sessions_live") == [0]);
        assert_eq!(ringlane.live(), 3, "{path}");
        drop(clients);
        ringlane.wait_until_idle();
        // Once, although the sessions ended later.
        assert_eq!(ringlane.servers("sessions_live"), [0], "{path}");
        let log = ringlane.log(3);
        assert!(log.iter().all(|record| record["close"] == "--"), "{path}: {log:#?}");
        assert!(log.iter().all(|record| record["server"] != serde_json::Value::Null), "{log:#?}");
        ringlane.end();
    }
}

#[test]
fn a_server_that_still_works_keeps_its_place() {
    let (go, goes) = mpsc::channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    let server = Server::each(move |mut stream| {
        assert_eq!(read_to_end(&mut stream), b"question");
        goes.lock().unwrap().recv().unwrap();
        stream.write_all(b"answer").unwrap();
    });
    let ringlane = one_place(server.address, "auto").start();
    let mut client = connect(ringlane.address());
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    wait_until("the question to arrive", || ringlane.frontend("bytes_in") == 8);
    assert_eq!(ringlane.servers("sessions_live"), [1]);
    go.send(()).unwrap();
    assert_eq!(read_to_end(&mut client), b"answer");
    drop(client);
    ringlane.wait_until_idle();
    ringlane.end();
}

#[test]
fn what_is_left_of_a_session_lives_no_longer_than_its_fin() {
    // The server ends and the client stays, then the other way round.
    let leaves = Server::each(|mut stream| stream.write_all(b"bye").unwrap());
    let stays = Server::each(|mut stream| {
        read_to_end(&mut stream);
        // Reads the end and holds the connection until it is ended for it.
        let _ = stream.read(&mut [0]);
        // PAUSE: holds the connection for longer than any timeout of the story.
        std::thread::park_timeout(crate::harness::PATIENCE);
    });
    for (server, code) in [(leaves.address, "cD"), (stays.address, "sD")] {
        let ringlane =
            Setup::to(&[server]).frontend(r#"timeout = { idle = "1h", fin = "300ms" }"#).start();
        let mut client = connect(ringlane.address());
        if code == "sD" {
            client.write_all(b"x").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
        read_to_end(&mut client);
        // Only the balancer can end it now: this client does not.
        assert_eq!(ringlane.log(1)[0]["close"], code);
        ringlane.wait_until_idle();
        drop(client);
        ringlane.end();
    }
}

#[test]
fn bytes_keep_what_is_left_of_a_session_alive() {
    let server = Server::each(|mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut stream);
    });
    let ringlane =
        Setup::to(&[server.address]).frontend(r#"timeout = { idle = "1h", fin = "2s" }"#).start();
    let mut client = connect(ringlane.address());
    assert_eq!(read_to_end(&mut client), b"bye");
    for sent in 1..=20 {
        client.write_all(b".").unwrap();
        wait_until("the byte to pass", || ringlane.frontend("bytes_in") == sent);
        // PAUSE: activity must stretch over more time than `timeout.fin`.
        crate::harness::pause(std::time::Duration::from_millis(200));
    }
    drop(client);
    assert_eq!(ringlane.log(1)[0]["close"], "--");
    ringlane.end();
}

/// As a server does that turns clients away, or dies right after it has accepted.
#[test]
fn a_server_that_closes_without_a_byte_is_not_taken_for_an_empty_client() {
    let server = Server::each(drop);
    let ringlane = Setup::to(&[server.address]).start();
    for _ in 0..5 {
        assert_eq!(read_to_end(&mut connect(ringlane.address())), b"");
    }
    let log = ringlane.log(5);
    let is_plain =
        |record: &serde_json::Value| record["close"] == "--" && record["reason"].is_null();
    assert!(log.iter().all(is_plain), "{log:?}");
    assert_eq!(ringlane.frontend("sessions_empty"), 0);
    ringlane.end();
}
