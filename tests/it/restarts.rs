//! One process after the other, or beside it: restarts that overlap, and starts right after a
//! crash.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use crate::harness::balancer::{Ringlane, Setup, get_over_tcp, path_str};
use crate::harness::client::{round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::{wait_for, wait_until};

/// What listens where another balancer does, the admin API included.
fn successor(of: &Ringlane, servers: &[SocketAddr], bind: SocketAddr) -> Setup {
    let (socket, http) = (of.admin_socket(), of.admin_http());
    Setup::to(servers)
        .bind(&format!("\"{bind}\""))
        .admin(&format!("{{ socket = \"{}\", http = \"{http}\" }}", path_str(&socket)))
}

#[test]
fn a_new_process_serves_while_the_old_one_drains() {
    let echo = Echo::start();
    let mut old = Setup::to(&[echo.address]).global("drain_timeout = \"1h\"").start();
    let (address, http) = (old.address(), old.admin_http());
    let mut client = session(address);
    old.signal(Signal::SIGTERM);
    old.wait_for_word("draining");
    let new = successor(&old, &[echo.address], address).start();
    let new_pid = u64::from(new.process().0);
    assert_eq!(
        old.status()["pid"],
        new_pid,
        "the path of the old one's socket leads to the new one"
    );
    assert!(new.said().iter().any(|line| line.contains("admin.http: waiting for")));
    new.wait_for_word(&format!(" and {http} (as soon as it is free)"));
    assert!(get_over_tcp(http, "/healthz").1.contains("draining"), "still the old one's");
    round_trip(&mut client, b"still served by the old one");
    round_trip(&mut session(address), b"served by the new one");
    drop(client);
    old.assert_ended_well();
    assert!(old.admin_socket().exists(), "the new one's socket is left alone");
    assert_eq!(old.status()["pid"], new_pid);
    new.wait_for_word("admin.http: listening on");
    assert!(get_over_tcp(http, "/healthz").0.contains(" 200 "));
    new.end();
}

#[test]
fn an_admin_socket_is_taken_from_no_balancer_that_serves() {
    let echo = Echo::start();
    let serving = Setup::to(&[echo.address]).start();
    let elsewhere = ([127, 0, 0, 1], 0).into();
    let refusal = successor(&serving, &[echo.address], elsewhere).refused();
    assert!(refusal.contains("admin.socket cannot listen on"), "{refusal}");
    assert!(refusal.contains("another program listens there"), "{refusal}");
    assert!(serving.is_healthy());
    serving.end();
}

#[test]
fn a_process_that_was_killed_can_be_started_again_at_once() {
    let echo = Echo::start();
    let mut ringlane = Setup::to(&[echo.address]).start();
    let address = ringlane.address();
    for _ in 0..5 {
        let client = session(address);
        let next = successor(&ringlane, &[echo.address], address);
        ringlane.signal(Signal::SIGKILL);
        ringlane.ended();
        // Its folder goes with it, and the socket file; what counts is the port.
        drop(ringlane);
        drop(client);
        let admin = format!(
            "{{ socket = \"{}\", http = \"127.0.0.1:0\" }}",
            path_str(&next.path("admin.sock"))
        );
        ringlane = next.admin(&admin).start();
    }
    round_trip(&mut session(address), b"served");
    wait_for("the last one to be healthy", || ringlane.is_healthy().then_some(()));
    wait_until("it to be idle", || ringlane.live() == 0);
    ringlane.end();
}
