//! Servers with a limit, and the sessions that wait for them: never too many, in order, not for
//! ever.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, read_to_end, session};
use crate::harness::echo::Echo;
use crate::harness::server::{Nobody, Server};
use crate::harness::wait_until;

/// One server with this many places behind two frontends, the second of higher priority.
fn start(echo: &Echo, places: u32, queue: &str) -> Ringlane {
    let body = format!(
        r#"
        [[frontend]]
        name = "front"
        bind = "127.0.0.1:0"
        backend = "back"
        [[frontend]]
        name = "first"
        bind = "127.0.0.1:0"
        backend = "back"
        priority = "high"
        [[backend]]
        name = "back"
        queue = {queue}
        server = [{{ address = "{}", max_connections = {places} }}]
        "#,
        echo.address
    );
    Setup::of(&body).start()
}

fn queue(ringlane: &Ringlane, field: &str) -> u64 {
    ringlane.status()["backends"][0]["queue"][field].as_u64().unwrap()
}

/// A client that has asked and waits in the queue as the `nth`.
fn join(ringlane: &Ringlane, address: SocketAddr, nth: u64) -> TcpStream {
    let mut client = connect(address);
    client.write_all(b"x").unwrap();
    wait_until("the client to wait", || queue(ringlane, "sessions_live") == nth);
    client
}

fn has_answer(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let answer = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    match answer {
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        answer => {
            assert_eq!(answer.unwrap(), 1, "served, not refused");
            true
        }
    }
}

#[test]
fn who_waits_is_served_in_order_on_whatever_shard_and_priority_goes_first() {
    let echo = Echo::start();
    let ringlane = start(&echo, 1, "{ timeout = \"1m\" }");
    let high: SocketAddr = ringlane.binds("first")[0].parse().unwrap();
    let mut inside = session(ringlane.address());
    let mut waiting: Vec<TcpStream> =
        (1..=6).map(|nth| join(&ringlane, ringlane.address(), nth)).collect();
    waiting.insert(0, join(&ringlane, high, 7));
    assert!(waiting.iter().all(|client| !has_answer(client)));
    while !waiting.is_empty() {
        drop(inside);
        wait_until("the next to be served", || waiting.iter().any(has_answer));
        assert!(has_answer(&waiting[0]), "it came first");
        inside = waiting.remove(0);
        inside.read_exact(&mut [0]).unwrap();
    }
    drop(inside);
    ringlane.wait_until_idle();
    assert_eq!((queue(&ringlane, "waited"), queue(&ringlane, "sessions_live")), (7, 0));
    let log = ringlane.log(8);
    assert!(log.iter().all(|record| record["close"] == "--"), "{log:?}");
    assert_eq!(log.iter().filter(|record| record["queue_us"].as_u64() > Some(0)).count(), 7);
    let shards: Vec<_> = log.iter().map(|record| record["shard"].as_u64()).collect();
    assert!(shards.contains(&Some(0)) && shards.contains(&Some(1)), "{shards:?}");
    ringlane.end();
}

#[test]
fn no_server_gets_more_sessions_than_it_may_have() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let server = Server::each(move |mut stream| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        // Before the answer: the client's end may free the place before this thread sees it.
        now.fetch_sub(1, Ordering::SeqCst);
        stream.write_all(&byte).unwrap();
        let _ = stream.read(&mut byte);
    });
    let mut setup = Setup::to(&[]).backend("queue = { timeout = \"1m\" }");
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 3", server.address));
    let ringlane = setup.start();
    let address = ringlane.address();
    let ten_sessions = move || (0..10).for_each(|_| drop(session_of_one_byte(address)));
    let clients: Vec<_> = (0..20).map(|_| thread::spawn(ten_sessions)).collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at once");
    assert!(queue(&ringlane, "waited") > 0);
    ringlane.end();
}

fn session_of_one_byte(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

#[test]
fn a_full_queue_refuses_and_nobody_waits_for_ever() {
    let echo = Echo::start();
    let ringlane = start(&echo, 1, "{ size = 1, timeout = \"200ms\" }");
    let inside = session(ringlane.address());
    let mut waiting = connect(ringlane.address());
    wait_until("the client to wait", || queue(&ringlane, "waited") == 1);
    let mut refused = connect(ringlane.address());
    while queue(&ringlane, "refused") == 0 {
        // The first one's time may be over already: then this one waits as it did.
        assert!(read_to_end(&mut refused).is_empty());
        refused = connect(ringlane.address());
    }
    assert!(read_to_end(&mut refused).is_empty());
    assert!(read_to_end(&mut waiting).is_empty());
    drop(inside);
    ringlane.wait_until_idle();
    assert!(queue(&ringlane, "expired") >= 1);
    let log = ringlane.log(ringlane.frontend("sessions") as usize);
    let closes: Vec<Value> = log.into_iter().map(|record| record["close"].clone()).collect();
    assert!(closes.contains(&"PQ".into()) && closes.contains(&"sQ".into()), "{closes:?}");
    ringlane.end();
}

#[test]
fn who_met_the_server_that_was_lost_waits_for_the_next_one_like_all_others() {
    let (nobody, echo) = (Nobody::new(), Echo::start());
    let ringlane = Setup::to(&[nobody.address, echo.address])
        .backend("queue = { timeout = \"1m\" }")
        .frontend("timeout = { connect = \"1m\" }")
        .start();
    ringlane.order("back/s2", "maint");
    let mut client = connect(ringlane.address());
    client.write_all(b"x").unwrap();
    wait_until("the connect to fail", || ringlane.servers("connects_failed")[0] > 0);
    ringlane.order("back/s1", "maint");
    wait_until("the client to wait", || queue(&ringlane, "sessions_live") == 1);
    ringlane.order("back/s2", "ready");
    client.read_exact(&mut [0]).unwrap();
    drop(client);
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.end();
}
