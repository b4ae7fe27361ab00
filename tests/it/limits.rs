//! What happens at a bound: connections wait, descriptors run out, and both are survived.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, is_silent, session, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::program::run;
use crate::harness::{pause, wait_until};

/// Opens more sessions than there is room for; only `room` of them get an answer. Returns those
/// and the ones that wait.
fn crowd(ringlane: &Ringlane, room: usize, more: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let address = ringlane.address();
    let mut clients: Vec<TcpStream> = (0..room + more).map(|_| connect(address)).collect();
    for client in &mut clients {
        client.write_all(b"hello").unwrap();
    }
    wait_until("the room to be full", || ringlane.live() == room as u64);
    wait_until("the answers to those inside", || {
        clients.iter().filter(|client| has_answer(client)).count() == room
    });
    let (served, mut waiting): (Vec<_>, Vec<_>) = clients.into_iter().partition(has_answer);
    assert!(waiting.iter_mut().all(|client| is_silent(client, Duration::from_millis(20))));
    assert_eq!(ringlane.live(), room as u64);
    (served, waiting)
}

fn has_answer(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let answered = client.peek(&mut [0]).is_ok();
    client.set_nonblocking(false).unwrap();
    answered
}

/// Those who wait get in one by one as others leave.
fn let_in_one_by_one(ringlane: &Ringlane, room: usize, crowd: (Vec<TcpStream>, Vec<TcpStream>)) {
    let (mut inside, mut waiting) = crowd;
    while !waiting.is_empty() {
        leave(inside.pop());
        wait_until("one who waits to get in", || waiting.iter().any(has_answer));
        let next = waiting.iter().position(has_answer).unwrap();
        inside.push(waiting.swap_remove(next));
        wait_until("the room to be full again", || ringlane.live() == room as u64);
    }
    inside.into_iter().for_each(|client| leave(Some(client)));
    ringlane.wait_until_idle();
}

/// Takes the answer and goes; going without it would be a reset.
fn leave(client: Option<TcpStream>) {
    client.unwrap().read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn above_max_connections_of_a_frontend_connections_wait() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).frontend("max_connections = 3").start();
    assert_eq!(ringlane.frontend("sessions_max"), 3);
    let crowd = crowd(&ringlane, 3, 7);
    assert!(ringlane.shards("accepts_paused").iter().sum::<u64>() > 0);
    let_in_one_by_one(&ringlane, 3, crowd);
    assert_eq!(ringlane.frontend("sessions"), 10);
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.end();
}

#[test]
fn above_max_connections_of_the_process_connections_wait() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).global("max_connections = 5").start();
    assert_eq!(ringlane.status()["sessions_max"], 5);
    let crowd = crowd(&ringlane, 5, 10);
    assert!(ringlane.shards("accepts_paused").iter().sum::<u64>() > 0);
    let_in_one_by_one(&ringlane, 5, crowd);
    assert_eq!(ringlane.frontend("sessions"), 15);
    ringlane.end();
}

#[test]
fn a_full_frontend_does_not_hold_up_another() {
    let echo = Echo::start();
    let body = format!(
        r#"
        [[frontend]]
        name = "front"
        bind = "127.0.0.1:0"
        backend = "back"
        max_connections = 2
        [[frontend]]
        name = "other"
        bind = "127.0.0.1:0"
        backend = "back"
        [[backend]]
        name = "back"
        server = [{{ address = "{}" }}]
        "#,
        echo.address
    );
    let ringlane = Setup::of(&body).start();
    let crowd = crowd(&ringlane, 2, 4);
    let other: SocketAddr = ringlane.binds("other")[0].parse().unwrap();
    (0..10).for_each(|_| drop(session(other)));
    drop(crowd);
    ringlane.end();
}

#[test]
fn a_connect_without_descriptor_ends_its_session_alone() {
    let log = run_out_of_descriptors(|_, _| ());
    assert!(log.accepts_failed > 0 || log.sessions_refused > 0, "{log:?}");
}

#[test]
fn an_accept_without_descriptor_waits_for_one() {
    // An accept goes by the limit of when it began, so one must begin under the new one: the room
    // is filled before and emptied after.
    let log = run_out_of_descriptors(|ringlane, lower| {
        let (served, waiting) = crowd(ringlane, ROOM, 1);
        lower();
        drop((served, waiting));
        ringlane.wait_until_idle();
    });
    assert!(log.accepts_failed > 0, "{log:?}");
}

/// Sessions that the frontend may have while descriptors run out: more than they suffice for.
const ROOM: usize = 16;

/// What was met without descriptors.
#[derive(Debug)]
struct Shortage {
    accepts_failed: u64,
    sessions_refused: usize,
}

/// Lowers a balancer's limit on open files below what its clients need and sees that it neither
/// spins nor dies, and serves again when they have gone. `around` may do something before and
/// after the limit is lowered.
fn run_out_of_descriptors(around: impl Fn(&Ringlane, &dyn Fn())) -> Shortage {
    const CLIENTS: usize = 60;
    const WATCHED: Duration = Duration::from_secs(1);
    let echo = Echo::start();
    let ringlane =
        Setup::to(&[echo.address]).frontend(&format!("max_connections = {ROOM}")).start();
    let (address, process) = (ringlane.address(), ringlane.process());
    drop(session(address));
    let limit = ringlane.descriptors_at_rest() + ROOM;
    let lower = || {
        let limits = format!("--nofile={limit}:{limit}");
        run("prlimit", "util-linux", &["--pid", &process.0.to_string(), &limits]);
    };
    around(&ringlane, &lower);
    lower();

    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address)).collect();
    wait_until("the descriptors to run out", || process.descriptors() + 2 >= limit);
    let before = process.cpu_time();
    // PAUSE: CPU time is measured over this time.
    pause(WATCHED);
    let used = process.cpu_time().saturating_sub(before);
    println!("without descriptors: {used:?} of CPU in {WATCHED:?}");
    assert!(used < WATCHED / 4, "it spins: {used:?}");
    let answers = |client: &mut TcpStream| {
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        try_round_trip(client, b"hello").is_ok()
    };
    let served = clients.iter_mut().map(answers).filter(|answered| *answered).count();
    assert!(served > 0, "those that have descriptors are served");

    drop(clients);
    wait_until("sessions to be served again", || answers(&mut connect(address)));
    ringlane.wait_until_idle();
    let shortage = Shortage {
        accepts_failed: ringlane.shards("accepts_failed").iter().sum(),
        sessions_refused: ringlane.log(1).iter().filter(|record| record["close"] == "RC").count(),
    };
    println!("{served} of {CLIENTS} sessions served, {shortage:?}");
    // Still only a few at once: one that comes before others have closed may have to come again.
    for _ in 0..20 {
        wait_until("every one to be served", || answers(&mut connect(address)));
    }
    ringlane.end();
    shortage
}
