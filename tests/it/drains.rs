//! The end of the process: drains that let sessions finish, drains that run out of time, stops.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use serde_json::Value;

use crate::harness::balancer::{Setup, get_over_tcp, path_str};
use crate::harness::client::{connect, read_to_end, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::{PATIENCE, wait_until};

fn is_refused(address: SocketAddr) -> bool {
    let outcome = TcpStream::connect_timeout(&address, PATIENCE);
    outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_drain_ends_with_the_last_session() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
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
        assert!(said.iter().any(|line| line.contains("draining, 1")), "{said:?}");
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
    let record = &ringlane.log(1)[0];
    assert_eq!((&record["close"], &record["reason"]), (&"KD".into(), &"stopped".into()));
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
    assert!(said.iter().any(|line| line.contains("stopping immediately")), "{said:?}");
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
    // One that only asked whether it is refused may be among them, and have left before its server
    // was reached.
    let only_asked = |record: &Value| record["bytes_in"] == 0 && record["close"] == "CC";
    let log = ringlane.log(201);
    assert!(log.iter().all(|record| record["close"] == "--" || only_asked(record)), "{log:?}");
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
    assert_eq!(next(), "READY=1\n", "nothing else that could make it too long");
    let status = next();
    assert!(status.starts_with("STATUS=ringlane ") && status.len() < 200, "{status}");
    let client = session(ringlane.address());
    ringlane.signal(Signal::SIGTERM);
    let draining = next();
    assert!(draining.contains("STOPPING=1"), "{draining}");
    drop(client);
    let mut ringlane = ringlane;
    ringlane.assert_ended_well();
}

#[test]
fn a_systemd_that_can_not_be_reached_is_logged_once() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let path = setup.path("nobody.sock");
    let ringlane = setup.environment("NOTIFY_SOCKET", path_str(&path)).start();
    ringlane.wait_for_word("cannot notify systemd (NOTIFY_SOCKET)");
    let said = ringlane.end();
    assert_eq!(said.iter().filter(|line| line.contains("cannot notify")).count(), 1, "{said:#?}");
}

#[test]
fn a_unit_with_hundreds_of_frontends_is_ready_and_says_so_in_one_short_line() {
    let frontend = |nth: u32| {
        let name = format!("customer-with-a-long-name-{nth:04}");
        format!("[[frontend]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\nbackend = \"b\"\n")
    };
    let backend = "[[backend]]\nname = \"b\"\nserver = [{ address = \"127.0.0.1:9\" }]\n";
    let body = (0..200).map(frontend).collect::<String>() + backend;
    let setup = Setup::of(&body).shards(1);
    let path = setup.path("notify.sock");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let ringlane = setup.environment("NOTIFY_SOCKET", path_str(&path)).start();
    let mut buffer = [0; 8192];
    let length = systemd.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1\n");
    let ready = ringlane.wait_for_word(" ready: ");
    assert!(ready.len() < 2000 && ready.contains(" more frontends; max_connections "), "{ready}");
    ringlane.end();
}

#[test]
fn signals_sent_by_habit_are_answered_and_harmless() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let mut client = session(ringlane.address());
    for (signal, answer) in [
        (Signal::SIGHUP, "SIGHUP: configuration 2 is served"),
        (Signal::SIGUSR2, "SIGUSR2: ignored"),
        (Signal::SIGALRM, "SIGALRM: ignored"),
        (Signal::SIGVTALRM, "SIGVTALRM: ignored"),
        (Signal::SIGPROF, "SIGPROF: ignored"),
        (Signal::SIGPWR, "SIGPWR: ignored"),
        (Signal::SIGXCPU, "SIGXCPU: ignored"),
        (Signal::SIGIO, "SIGIO: ignored"),
        (Signal::SIGSTKFLT, "SIGSTKFLT: ignored"),
    ] {
        ringlane.signal(signal);
        ringlane.wait_for_word(answer);
        round_trip(&mut client, b"undisturbed");
    }
    for signal in [Signal::SIGPIPE, Signal::SIGXFSZ, Signal::SIGWINCH, Signal::SIGURG] {
        (0..3).for_each(|_| ringlane.signal(signal));
    }
    // As service managers and status bars send them.
    for number in [nix::libc::SIGRTMIN(), nix::libc::SIGRTMIN() + 3, nix::libc::SIGRTMAX()] {
        let pid = ringlane.process().0.to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{number}"), &pid]).status();
        assert!(sent.unwrap().success());
    }
    ringlane.wait_for_word("a real-time signal: ignored");
    round_trip(&mut client, b"undisturbed");
    // A timer that somebody left running costs one line.
    (0..100).for_each(|_| ringlane.signal(Signal::SIGALRM));
    ringlane.signal(Signal::SIGUSR2);
    drop(client);
    let said = ringlane.end();
    assert_eq!(said.iter().filter(|line| line.contains("SIGALRM")).count(), 1, "{said:#?}");
}

#[test]
fn a_lame_duck_serves_and_says_that_it_will_not_for_long() {
    let echo = Echo::start();
    let keys = "shutdown_delay = \"3s\"\ndrain_timeout = \"1h\"";
    let mut ringlane = Setup::to(&[echo.address]).global(keys).start();
    let address = ringlane.address();
    ringlane.signal(Signal::SIGTERM);
    wait_until("/healthz to say so", || !ringlane.is_healthy());
    assert_eq!(ringlane.status()["state"], "lame_duck");
    let mut client = session(address);
    wait_until("new connections to be refused", || is_refused(address));
    round_trip(&mut client, b"still served");
    drop(client);
    ringlane.assert_ended_well();
    assert!(ringlane.log(1).iter().all(|record| record["close"] == "--"));
}

#[test]
fn a_second_signal_skips_the_delay_and_a_third_one_the_drain() {
    let echo = Echo::start();
    let keys = "shutdown_delay = \"1h\"\ndrain_timeout = \"1h\"";
    let mut ringlane = Setup::to(&[echo.address]).global(keys).start();
    let client = session(ringlane.address());
    for (signal, answer) in [
        (Signal::SIGTERM, "SIGTERM: /healthz answers 503"),
        (Signal::SIGQUIT, "SIGQUIT: draining"),
        (Signal::SIGINT, "SIGINT: stopping immediately"),
    ] {
        ringlane.signal(signal);
        ringlane.wait_for_word(answer);
    }
    ringlane.assert_ended_well();
    drop(client);
}

#[test]
fn a_log_at_its_size_limit_costs_lines_and_no_session() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]).through(&["prlimit", "--fsize=4096"]);
    let ringlane = setup.start();
    for _ in 0..200 {
        drop(session(ringlane.address()));
    }
    wait_until("lines to be lost", || ringlane.metrics()["ringlane_log_records_lost_total"] > 0.0);
    round_trip(&mut session(ringlane.address()), b"still served");
    ringlane.end();
}
