//! What an operator reads on stderr when sessions meet a limit, a refusal or a lost server.
//!
//! Each story provokes one event with real clients and waits for its line. How often a line comes
//! is tested where it is decided (`control::report::events`).

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use nix::sys::signal::Signal;

use crate::harness::balancer::Setup;
use crate::harness::client::{connect, connect_from, read_to_end, session, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::wait_until;

/// A client that waits for its turn.
fn knock(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    client.write_all(b"x").unwrap();
    client
}

#[test]
fn max_connections_of_a_frontend_is_logged_when_it_is_reached_and_left() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).frontend("max_connections = 1").start();
    let inside = session(ringlane.address());
    let waiting = knock(ringlane.address());
    ringlane.wait_for_word("frontend front reached max_connections = 1: new connections wait");
    drop((inside, waiting));
    let line = ringlane.wait_for_word("frontend front is below max_connections = 1 again after ");
    assert!(line.ends_with("; 1 connection had to wait"), "{line}");
    assert!(!ringlane.said().iter().any(|line| line.contains("the process reached")));
    ringlane.end();
}

#[test]
fn a_limit_that_is_reached_for_a_moment_is_logged_with_what_it_cost() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).frontend("max_connections = 1").start();
    let crowd = (session(ringlane.address()), knock(ringlane.address()));
    wait_until("the second to wait", || {
        ringlane.metrics()["ringlane_frontend_waited_full_total{frontend=\"front\"}"] == 1.0
    });
    drop(crowd);
    ringlane.wait_for_word("frontend front reached max_connections = 1: new connections wait");
    let line = ringlane.wait_for_word("frontend front is below max_connections = 1 again after ");
    assert!(line.ends_with("; 1 connection had to wait"), "{line}");
    ringlane.end();
}

#[test]
fn sessions_that_wait_in_a_queue_are_logged_and_counted() {
    let echo = Echo::start();
    let mut setup = Setup::to(&[]).backend("queue = { size = 9 }");
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 1", echo.address));
    let ringlane = setup.start();
    let crowd = (session(ringlane.address()), knock(ringlane.address()));
    wait_until("the second to wait", || {
        ringlane.metrics()["ringlane_queue_waited_total{backend=\"back\"}"] == 1.0
    });
    drop(crowd);
    ringlane.wait_for_word(
        "backend back: sessions wait in the queue for a server (size = 9; 1 so far)",
    );
    let line = ringlane.wait_for_word("backend back: the queue is empty again after ");
    assert!(line.ends_with("; 1 session had to wait"), "{line}");
    ringlane.end();
}

#[test]
fn max_connections_of_the_process_is_logged_when_it_is_reached_and_left() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).global("max_connections = 1").start();
    let inside = session(ringlane.address());
    ringlane.wait_for_word("the process reached max_connections = 1: new connections wait");
    drop(inside);
    ringlane.wait_for_word("the process is below max_connections = 1 again after ");
    assert!(!ringlane.said().iter().any(|line| line.contains("frontend front reached")));
    ringlane.end();
}

#[test]
fn max_connections_of_a_server_is_logged_when_it_is_reached_and_left() {
    let echo = Echo::start();
    let mut setup = Setup::to(&[]);
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 1", echo.address));
    let ringlane = setup.start();
    let inside = session(ringlane.address());
    ringlane.wait_for_word("server back/s1 reached max_connections = 1");
    drop(inside);
    ringlane.wait_for_word("server back/s1 is below max_connections = 1 again after ");
    ringlane.end();
}

#[test]
fn connections_that_wait_for_the_rate_are_logged() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).frontend("rate = 1").start();
    let clients: Vec<TcpStream> = (0..3).map(|_| knock(ringlane.address())).collect();
    let line = ringlane.wait_for_word("frontend front reached rate = 1 per second: ");
    assert!(line.contains(" had to wait in "), "{line}");
    drop(clients);
    ringlane.end();
}

#[test]
fn clients_refused_by_per_client_are_logged_with_an_example() {
    const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 1);
    let echo = Echo::start();
    let limit = "per_client = { max_connections = 1, refuse = \"close\" }";
    let ringlane = Setup::to(&[echo.address]).frontend(limit).start();
    let mut inside = connect_from(CROWD, ringlane.address()).unwrap();
    try_round_trip(&mut inside, b"hello").unwrap();
    let mut refused = connect_from(CROWD, ringlane.address()).unwrap();
    assert!(read_to_end(&mut refused).is_empty());
    let line = ringlane.wait_for_word("frontend front refused 1 connection in ");
    let cause = "because of per_client, for example from 127.0.9.1 (in total 1 by \
                 max_connections, 0 by rate)";
    assert!(line.ends_with(cause), "{line}");
    drop(inside);
    ringlane.end();
}

#[test]
fn a_server_without_checks_that_is_lost_leaves_its_backend_without_any_until_it_is_back() {
    let address = free_port();
    let ringlane = Setup::to(&[address]).start();
    assert!(read_to_end(&mut connect(ringlane.address())).is_empty(), "refused");
    let lost = "server back/s1 does not accept connections: ";
    let line = ringlane.wait_for_word(lost);
    assert!(line.contains("failed; skipped while another server is usable"), "{line}");
    let none = "backend back: no usable server: of 1 server, 0 down, drained or in another role \
                and 1 not accepting connections";
    ringlane.wait_for_word(none);
    ringlane.wait_for_word("backend back: 1 session in ");
    // The same word for it as in the status and the metrics.
    assert_eq!(ringlane.server_field(0, "/state"), "down");
    ringlane.order("back/s1", "drain");
    ringlane.wait_for_word("server back/s1 is down, drain (was down): ordered by an operator");
    ringlane.order("back/s1", "ready");
    let _echo = Echo::at(address, None);
    wait_until("the server to be tried again", || {
        let mut client = connect(ringlane.address());
        try_round_trip(&mut client, b"hello").is_ok()
    });
    ringlane.wait_for_word("server back/s1 accepts connections again after ");
    let line = ringlane.wait_for_word("backend back: usable server again after ");
    assert!(line.contains(" refused meanwhile") && !line.contains("; 0 sessions"), "{line}");
    ringlane.end();
}

#[test]
fn a_backend_whose_servers_are_all_in_maintenance_is_logged_as_an_empty_one() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    ringlane.order("back/s1", "maint");
    let none = "backend back: no usable server: of 1 server, 1 down, drained or in another role";
    ringlane.wait_for_word(none);
    ringlane.order("back/s1", "ready");
    let line = ringlane.wait_for_word("backend back: usable server again after ");
    assert!(line.ends_with("; 0 sessions refused meanwhile"), "{line}");
    ringlane.end();
}

#[test]
fn a_full_queue_and_a_wait_in_vain_are_logged() {
    let echo = Echo::start();
    let mut setup = Setup::to(&[]).backend("queue = { size = 1, timeout = \"200ms\" }");
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 1", echo.address));
    let ringlane = setup.start();
    let inside = session(ringlane.address());
    let waiting = knock(ringlane.address());
    let refused = knock(ringlane.address());
    ringlane.wait_for_word("backend back: queue full (size = 1): 1 session refused in ");
    let line = ringlane.wait_for_word(" timed out in the queue");
    assert!(line.contains("backend back: 1 session in "), "{line}");
    drop((inside, waiting, refused));
    ringlane.end();
}

#[test]
fn sessions_that_an_order_ends_are_logged_with_how_and_why() {
    let echo = Echo::start();
    for (keys, line) in [
        ("on_drain = \"fence\"", "1 fenced because an operator drained the server"),
        (
            "on_drain = \"drain\"\ndrain_idle = \"50ms\"",
            "1 drained because an operator drained the server",
        ),
    ] {
        let ringlane = Setup::to(&[echo.address]).backend(keys).start();
        let client = session(ringlane.address());
        ringlane.order("back/s1", "drain");
        let said = ringlane.wait_for_word("server back/s1: 1 session ended in ");
        assert!(said.ends_with(line), "{said}");
        drop(client);
        ringlane.end();
    }
}

#[test]
fn sessions_that_the_end_of_the_process_cuts_are_logged_by_server() {
    let echo = Echo::start();
    for (timeout, signals, why) in
        [("100ms", 1, "at the end of drain_timeout"), ("1h", 2, "at stop")]
    {
        let timeout = format!("drain_timeout = \"{timeout}\"");
        let mut ringlane = Setup::to(&[echo.address]).global(&timeout).start();
        let clients = [session(ringlane.address()), session(ringlane.address())];
        ringlane.signal(Signal::SIGTERM);
        ringlane.wait_for_word("draining, 2 live sessions");
        (1..signals).for_each(|_| ringlane.signal(Signal::SIGTERM));
        let said = ringlane.assert_ended_well();
        let line = format!("2 sessions cut {why}: 2 on server back/s1");
        assert!(said.iter().any(|said| said.ends_with(&line)), "{said:#?}");
        assert!(!said.iter().any(|said| said.contains("sessions ended in")), "{said:#?}");
        drop(clients);
    }
}
