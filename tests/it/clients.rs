//! What one client may take: sessions at once, sessions per second, and that others don't notice.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect_from, session, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::{heavy, pause, wait_until};

const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 1);
const QUIET: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 2);
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 4, 1);

/// Clients that are refused while another one works on.
const REFUSED: usize = 10_000;

fn start(per_client: &str) -> (Echo, Ringlane) {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]).frontend(&format!("per_client = {per_client}"));
    let ringlane = setup.start();
    (echo, ringlane)
}

/// Whether a client gets an answer; otherwise what it gets.
fn try_session(from: Ipv4Addr, address: SocketAddr) -> Result<TcpStream, ErrorKind> {
    // The refusal may come before the connect has returned.
    let mut client = connect_from(from, address).map_err(|error| error.kind())?;
    try_round_trip(&mut client, b"hello").map_err(|error| error.kind())?;
    Ok(client)
}

#[test]
fn a_client_has_so_many_sessions_on_all_shards_together_and_others_have_theirs() {
    let (_echo, ringlane) = start("{ max_connections = 3, allow = [\"127.0.4.0/24\"] }");
    let address = ringlane.address();
    let mut inside: Vec<TcpStream> = (0..3).map(|_| try_session(CROWD, address).unwrap()).collect();
    for _ in 0..5 {
        assert_eq!(try_session(CROWD, address).unwrap_err(), ErrorKind::ConnectionReset);
    }
    let quiet = try_session(QUIET, address).unwrap();
    let friends: Vec<TcpStream> = (0..9).map(|_| try_session(FRIEND, address).unwrap()).collect();
    assert_eq!(ringlane.frontend("refused_too_many"), 5);
    let log = ringlane.log(5);
    assert!(log.iter().all(|record| record["close"] == "PR"), "{log:?}");
    assert!(log.iter().all(|record| record["reason"] == "too_many"), "{log:?}");
    assert!(log[0]["client"].as_str().unwrap().starts_with("127.0.3.1:"), "{log:?}");
    drop(inside.pop());
    wait_until("the client to have room again", || try_session(CROWD, address).is_ok());
    drop((inside, quiet, friends));
    ringlane.end();
}

#[test]
fn a_client_comes_in_a_burst_and_then_no_faster_than_it_may() {
    let (_echo, ringlane) = start("{ rate = 0.01, burst = 4, refuse = \"close\" }");
    let address = ringlane.address();
    let came = (0..10).filter(|_| try_session(CROWD, address).is_ok()).count();
    assert_eq!(came, 4, "the fifth may come after a hundred seconds");
    assert_eq!(ringlane.frontend("refused_too_fast"), 6);
    assert!(try_session(QUIET, address).is_ok());
    ringlane.end();
}

#[test]
fn a_client_behind_a_trusted_proxy_is_limited_by_its_own_address() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend("accept_proxy = { trusted = [\"127.0.4.0/24\"] }")
        .frontend("per_client = { max_connections = 1 }")
        .start();
    let through_proxy = |client: &str| {
        let mut stream = connect_from(FRIEND, ringlane.address()).unwrap();
        let header = format!("PROXY TCP4 {client} 192.0.2.9 40000 5432\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        try_round_trip(&mut stream, b"hello").map(|()| stream)
    };
    let first = through_proxy("192.0.2.1").unwrap();
    assert_eq!(through_proxy("192.0.2.1").unwrap_err().kind(), ErrorKind::ConnectionReset);
    let other = through_proxy("192.0.2.2").unwrap();
    let direct = try_session(CROWD, ringlane.address()).unwrap();
    assert!(try_session(CROWD, ringlane.address()).is_err());
    drop((first, other, direct));
    ringlane.end();
}

/// Round trips of one session until `done`; how long each took.
fn round_trips(address: SocketAddr, done: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut client = try_session(QUIET, address).unwrap();
    let mut times = Vec::new();
    while !done(times.len()) {
        let begin = Instant::now();
        try_round_trip(&mut client, &[7; 128]).unwrap();
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    times
}

#[test]
fn ten_thousand_refused_clients_end_no_session_of_others() {
    let _alone = heavy();
    let (_echo, ringlane) = start("{ max_connections = 1 }");
    let address = ringlane.address();
    let holder = try_session(CROWD, address).unwrap();
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    let quiet = p99(&round_trips(address, |trips| trips == 10_000));
    for (said, per_second) in [("2000 a second", 2000), ("one after the other", u32::MAX)] {
        wait_until("the session before to have left", || ringlane.live() == 1);
        let over = AtomicBool::new(false);
        let enough = |trips| trips >= 1000 && over.load(Ordering::Relaxed);
        let busy = thread::scope(|scope| {
            let busy = scope.spawn(move || round_trips(address, enough));
            crowd(address, per_second);
            over.store(true, Ordering::Relaxed);
            p99(&busy.join().unwrap())
        });
        println!("p99 of a round trip: {quiet:?} quiet, {busy:?} with {REFUSED} refused, {said}");
    }
    assert_eq!(ringlane.frontend("refused_too_many"), 2 * REFUSED as u64);
    drop(holder);
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.end();
}

/// Clients that are all refused, at most so many in a second.
fn crowd(address: SocketAddr, per_second: u32) {
    let (begin, each) = (Instant::now(), Duration::from_secs(1) / per_second);
    for number in 1..=REFUSED as u32 {
        assert!(refused(address), "nobody of the crowd gets in");
        // PAUSE: paces the crowd at its rate.
        pause((each * number).saturating_sub(begin.elapsed()));
    }
}

fn refused(address: SocketAddr) -> bool {
    match connect_from(CROWD, address) {
        Ok(mut client) => client.read(&mut [0]).is_err(),
        Err(_) => true,
    }
}

#[test]
fn a_frontend_takes_connections_at_its_rate_and_loses_none() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).frontend("rate = 50").start();
    let address = ringlane.address();
    let sessions: Vec<_> = (0..25).map(|_| thread::spawn(move || drop(session(address)))).collect();
    sessions.into_iter().for_each(|session| session.join().unwrap());
    assert!(ringlane.shards("accepts_paused").iter().sum::<u64>() > 0);
    assert_eq!(ringlane.frontend("sessions"), 25);
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.end();
}
