//! The end of the process: drains that let sessions finish, drains that run out of time, stops.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::harness::PATIENCE;
use crate::harness::balancer::{Setup, get_over_tcp, path_str};
use crate::harness::client::{connect, read_to_end, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::wait_until;

fn is_refused(address: SocketAddr) -> bool {
    let outcome = TcpStream::connect_timeout(&address, PATIENCE);
    outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_drain_ends_with_the_last_session() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let echo = Echo::start();
        let mut ringlane = Setup::to(&[echo.address]).global("drain_timeout = \"1h\"").start();
        let (address, http) = (ringlane.address(), ringlane.admin_http());
        let mut clients: Vec<_> = (0..10).map(|_| session(address)).collect();
        assert!(ringlane.is_healthy());
        ringlane.signal(signal);
        wait_until("new connections to be refused", || is_refused(address));
        assert_eq!(ringlane.status()["state"], "draining");
        assert_eq!(ringlane.metrics()["ringlane_process_draining"], 1.0);
        assert!(get_over_tcp(http, "/healthz").0.contains(" 503 "));
        clients.iter_mut().for_each(|client| round_trip(client, b"still served"));
        clients.truncate(1);
        wait_until("all but one to end", || ringlane.live() == 1);
        round_trip(&mut clients[0], b"the last one");
        drop(clients);
        let said = ringlane.assert_ended_well();
        // Ten, and perhaps one that asked whether it is refused.
        assert!(said.iter().any(|line| line.contains("draining, live sessions (1")), "{said:?}");
        assert!(ringlane.log(10).iter().all(|record| record["close"] == "--"));
        assert!(!ringlane.admin_socket().exists(), "the socket file is removed");
    }
}

#[test]
fn a_session_that_outlives_the_drain_is_cut_and_logged() {
    let echo = Echo::start();
    let mut ringlane = Setup::to(&[echo.address]).global("drain_timeout = \"300ms\"").start();
    let mut client = session(ringlane.address());
    ringlane.signal(Signal::SIGTERM);
    // Ended without its consent: as an end or as a reset.
    let _ = client.read(&mut [0]).map(|read| assert_eq!(read, 0));
    ringlane.assert_ended_well();
    assert_eq!(ringlane.log(1)[0]["close"], "KD");
}

#[test]
fn a_second_signal_stops_at_once() {
    let echo = Echo::start();
    let mut ringlane = Setup::to(&[echo.address]).global("drain_timeout = \"1h\"").start();
    let clients: Vec<_> = (0..10).map(|_| session(ringlane.address())).collect();
    ringlane.signal(Signal::SIGTERM);
    ringlane.wait_for_word("draining");
    ringlane.signal(Signal::SIGTERM);
    let said = ringlane.assert_ended_well();
    assert!(said.iter().any(|line| line.contains("stopping at once")), "{said:?}");
    let log = ringlane.log(10);
    assert!(log.iter().all(|record| record["close"] == "KD"), "{log:#?}");
    drop(clients);
}

#[test]
fn connections_in_the_queue_are_served_before_a_drain_ends() {
    let echo = Echo::start();
    let mut ringlane = Setup::to(&[echo.address]).global("drain_timeout = \"1h\"").start();
    let address = ringlane.address();
    drop(session(address));
    ringlane.wait_until_idle();
    // While it is held the kernel goes on taking connections for it.
    ringlane.signal(Signal::SIGSTOP);
    let mut clients: Vec<_> = (0..200).map(|_| connect(address)).collect();
    ringlane.signal(Signal::SIGTERM);
    ringlane.signal(Signal::SIGCONT);
    wait_until("new connections to be refused", || is_refused(address));
    for client in &mut clients {
        round_trip(client, b"not forgotten");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(client), b"");
    }
    ringlane.assert_ended_well();
    // A connection that only asked whether it is refused may be among them.
    assert!(ringlane.log(201).iter().all(|record| record["close"] == "--"));
}

#[test]
fn systemd_is_told_of_every_stage() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let path = setup.path("notify.sock");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let ringlane = setup.environment("NOTIFY_SOCKET", path_str(&path)).start();
    let ready = next();
    assert!(ready.contains("READY=1\n") && ready.contains("STATUS=ringlane "), "{ready}");
    let client = session(ringlane.address());
    ringlane.signal(Signal::SIGTERM);
    let draining = next();
    assert!(draining.contains("STOPPING=1"), "{draining}");
    drop(client);
    let mut ringlane = ringlane;
    ringlane.assert_ended_well();
}

#[test]
fn signals_for_later_versions_are_answered_and_harmless() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let mut client = session(ringlane.address());
    ringlane.signal(Signal::SIGHUP);
    ringlane.wait_for_word("SIGHUP: nothing to do");
    round_trip(&mut client, b"undisturbed");
    drop(client);
    ringlane.end();
}
