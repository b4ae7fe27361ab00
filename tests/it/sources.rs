//! Where sessions come from, as servers see it, and what the kernel shows of their sockets.
//!
//! Not here: the client's own port, which on one machine the client itself holds. Transparent mode
//! needs CAP_NET_ADMIN: without it the stories expect the sentence that says so.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use nix::unistd::Uid;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{
    connect, connect_fast, connect_from, greeting, round_trip, session, try_round_trip,
};
use crate::harness::echo::Echo;
use crate::harness::namespace::{self, tcp_counter};
use crate::harness::program::run;
use crate::harness::wait_for;

/// The client that every story has.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 5, 9);

/// Where the server of a session saw it come from.
fn seen(backend: &str) -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let ringlane = Setup::to(&[server.local_addr().unwrap()]).backend(backend).start();
    let client = connect_from(CLIENT, ringlane.address()).unwrap();
    server.set_nonblocking(true).unwrap();
    let (accepted, from) = wait_for("the session at the server", || server.accept().ok());
    drop((client, accepted));
    ringlane.end();
    from
}

#[test]
fn sessions_come_from_the_configured_address_and_ports() {
    let from = seen("source = \"127.0.0.9\"\nsource_ports = \"20000-29999\"");
    assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 9));
    assert!((20_000..30_000).contains(&from.port()), "{from}");
    let setup = Setup::to(&[([127, 0, 0, 1], 1).into()]).backend("source = \"192.0.2.1\"");
    let said = setup.refused();
    assert!(
        said.contains("backend \"back\" cannot connect to its servers: no interface"),
        "{said}"
    );
}

#[test]
fn sessions_come_from_the_client_itself() {
    if Uid::effective().is_root() {
        let from = seen("transparent = true");
        assert_eq!(from.ip(), CLIENT);
    }
    let mut setup = Setup::to(&[([127, 0, 0, 1], 1).into()]).backend("transparent = true");
    if Uid::effective().is_root() {
        setup = setup.through(&["setpriv", "--bounding-set", "-net_admin,-net_raw"]);
    }
    let said = setup.refused();
    assert!(said.contains("transparent needs CAP_NET_ADMIN"), "{said}");
}

/// What is sent to 192.0.2.0/24 and 2001:db8::/32 is taken in here, and yet these addresses are not
/// this machine's.
fn take_in_what_is_for_others() {
    namespace::ip("rule add to 192.0.2.0/24 lookup 101");
    namespace::ip("route add local 192.0.2.0/24 dev lo table 101");
    namespace::ip("-6 rule add to 2001:db8::/32 lookup 101");
    namespace::ip("-6 route add local 2001:db8::/32 dev lo table 101");
}

#[test]
fn a_listener_has_addresses_of_other_machines() {
    namespace::inside(|| {
        take_in_what_is_for_others();
        let echo = Echo::start();
        let there = |transparent: &str| {
            let bind = "[\"192.0.2.7:8080\", \"[2001:db8::7]:8080\"]";
            Setup::to(&[echo.address]).bind(bind).frontend(transparent)
        };
        let said = there("").refused();
        assert!(said.contains("192.0.2.7:8080: no interface of this machine has"), "{said}");
        let ringlane = there("transparent = true").start();
        round_trip(&mut connect_from(CLIENT, ringlane.address()).unwrap(), b"hello");
        let address: SocketAddr = ringlane.binds("front")[1].parse().unwrap();
        round_trip(&mut connect_from(Ipv6Addr::LOCALHOST, address).unwrap(), b"hello");
        ringlane.end();
        let without = ["setpriv", "--bounding-set", "-net_admin,-net_raw"];
        let said = there("transparent = true").through(&without).refused();
        assert!(
            said.contains("cannot listen on 192.0.2.7:8080: transparent needs CAP_NET"),
            "{said}"
        );
    });
}

#[test]
fn a_listener_answers_from_where_its_clients_were_going() {
    namespace::inside(|| {
        take_in_what_is_for_others();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let ringlane = Setup::to(&[server.local_addr().unwrap()])
            .bind("\"0.0.0.0:0\"")
            .frontend("transparent = true")
            .backend("send_proxy = \"v1\"")
            .start();
        let port = ringlane.address().port();
        for last in [8, 9] {
            let to = SocketAddr::from(([192, 0, 2, last], port));
            let client = connect_from(CLIENT, to).unwrap();
            let (accepted, _) = server.accept().unwrap();
            let mut header = String::new();
            BufReader::new(accepted).read_line(&mut header).unwrap();
            let from = client.local_addr().unwrap().port();
            assert_eq!(header, format!("PROXY TCP4 {CLIENT} 192.0.2.{last} {from} {port}\r\n"));
        }
        ringlane.end();
    });
}

#[test]
fn both_sides_are_told_what_is_configured() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend("tcp = { keepalive = { idle = \"900s\" }, dscp = \"af21\" }")
        .backend("tcp = { keepalive = { idle = \"900s\" }, dscp = \"ef\" }")
        .start();
    let _client = connect_from(CLIENT, ringlane.address()).unwrap();
    let shows = |filter: &str, octet: &str| {
        wait_for(filter, || {
            let words = ["-Htno", "--tos", "state", "established", filter];
            let shown = run("ss", "iproute2", &words).stdout;
            let shown = String::from_utf8_lossy(&shown).into_owned();
            (shown.contains("timer:(keepalive,") && shown.contains(octet)).then_some(())
        });
    };
    shows(&format!("sport = :{}", ringlane.address().port()), "tos:0x48");
    shows(&format!("dport = :{}", echo.address.port()), "tos:0xb8");
}

#[test]
fn a_source_address_that_goes_is_counted_and_said_once() {
    namespace::inside(|| {
        namespace::ip("address add 192.0.2.7/32 dev lo");
        let echo = Echo::start();
        let ringlane = Setup::to(&[echo.address])
            .backend("source = \"192.0.2.7\"\noutlier = { failures = 1, share = 100 }")
            .start();
        drop(session(ringlane.address()));
        // Its end needs the address, too.
        ringlane.log(1);
        namespace::ip("address delete 192.0.2.7/32 dev lo");
        for _ in 0..3 {
            let mut client = connect(ringlane.address());
            assert!(client.read_exact(&mut [0]).is_err());
        }
        let why = "backend \"back\" cannot connect to its servers: no interface of this machine";
        ringlane.wait_for_word(why);
        let log = ringlane.log(4);
        let refused = log.iter().filter(|record| record["close"] == "RC").count();
        assert_eq!(refused, 3, "{log:?}");
        namespace::ip("address add 192.0.2.7/32 dev lo");
        // The server was not to blame, so that it serves at once.
        drop(session(ringlane.address()));
        assert_eq!(ringlane.servers("connects_impossible"), [3]);
        assert_eq!(ringlane.servers("connects_failed"), [0]);
        let metric = "ringlane_server_connects_impossible_total{backend=\"back\",server=\"s1\"}";
        assert_eq!(ringlane.metrics()[metric], 3.0);
        let said = ringlane.end();
        assert_eq!(said.iter().filter(|line| line.contains(why)).count(), 1, "{said:#?}");
    });
}

/// Sessions that stay, at these two servers, of which the first is preferred.
fn two_servers(there: &Echo, other: &Echo, backend: &str) -> Ringlane {
    let setup = Setup::to(&[there.address, other.address]).backend("balance = \"first\"");
    setup.backend(backend).start()
}

#[test]
fn a_server_without_a_free_port_is_passed_over_until_none_is_left() {
    namespace::inside(|| {
        // The kernel draws from its own range, and shards from others.
        namespace::set("ipv4/ip_local_port_range", "40000 60000");
        for ports in ["41000-41000", "21000-21000"] {
            let (first, second) = (Echo::greeting('a'), Echo::greeting('b'));
            let ringlane = two_servers(&first, &second, &format!("source_ports = {ports:?}"));
            // One after the other: two shards may begin their sessions in any order.
            let clients = ['a', 'b'].map(|letter| {
                let mut client = connect(ringlane.address());
                assert_eq!(greeting(&mut client).unwrap(), letter, "{ports}");
                client
            });
            assert!(greeting(&mut connect(ringlane.address())).is_err());
            assert_eq!(ringlane.log(1)[0]["close"], "RC");
            assert_eq!(ringlane.servers("connects_impossible"), [2, 1]);
            assert_eq!(ringlane.servers("connects_failed"), [0, 0]);
            drop(clients);
            ringlane.end();
        }
    });
}

#[test]
fn a_server_without_a_route_is_passed_over() {
    namespace::inside(|| {
        let (nowhere, echo) = (Ipv4Addr::new(198, 51, 100, 7), Echo::greeting('b'));
        let setup = Setup::to(&[(nowhere, 5432).into(), echo.address]);
        let ringlane = setup.backend("balance = \"first\"").start();
        for nth in 1..=3 {
            assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'b');
            assert_eq!(ringlane.servers("connects_impossible"), [nth, 0]);
        }
        assert_eq!(ringlane.servers("connects_failed"), [0, 0]);
        ringlane.end();
    });
}

#[test]
fn marks_lead_packets_of_either_side() {
    namespace::inside(|| {
        // Rules of our own go before the one that knows the addresses of this machine.
        namespace::ip("rule add priority 100 lookup local");
        namespace::ip("rule delete priority 0");
        let server = Ipv4Addr::new(127, 0, 0, 77);
        for (to, mark) in [(server, 7), (CLIENT, 9)] {
            namespace::ip(&format!("rule add priority 50 to {to} fwmark {mark} lookup local"));
            namespace::ip(&format!("rule add priority 60 to {to} prohibit"));
        }
        // The kernel draws from its own range, and shards from others.
        namespace::set("ipv4/ip_local_port_range", "40000 60000");
        let echo = Echo::on(server, None);
        let end = |backend: &str| {
            let ringlane =
                Setup::to(&[echo.address]).frontend("tcp = { mark = 9 }").backend(backend).start();
            let mut client = connect_from(CLIENT, ringlane.address()).unwrap();
            let answered = try_round_trip(&mut client, b"hello").is_ok();
            drop(client);
            let close = ringlane.log(1)[0]["close"].clone();
            ringlane.end();
            (answered, close)
        };
        for ports in ["41000-41009", "21000-21009"] {
            let way = format!("tcp = {{ mark = 7 }}\nsource_ports = \"{ports}\"");
            assert_eq!(end(&way), (true, "--".into()), "{ports}");
        }
        assert_eq!(end(""), (false, "SC".into()));
    });
}

/// Two sessions, as the first one learns the cookie that lets the second one be fast.
fn two_sessions(setup: Setup, client: impl Fn(SocketAddr)) {
    let ringlane = setup.start();
    for _ in 0..2 {
        client(ringlane.address());
    }
    ringlane.end();
}

#[test]
fn first_bytes_come_with_the_first_packet_from_clients() {
    namespace::inside(|| {
        // For who connects and for who listens and asks for it.
        namespace::set("ipv4/tcp_fastopen", "3");
        let echo = Echo::start();
        let client = |address: SocketAddr| {
            let mut client = connect_fast(address, b"hello");
            let mut answer = [0; 5];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello");
        };
        two_sessions(Setup::to(&[echo.address]), client);
        assert_eq!(tcp_counter("TCPFastOpenPassive"), 0);
        two_sessions(Setup::to(&[echo.address]).frontend("tcp = { fast_open = true }"), client);
        assert_eq!(tcp_counter("TCPFastOpenPassive"), 1);
    });
}

#[test]
fn first_bytes_come_with_the_first_packet_to_servers() {
    namespace::inside(|| {
        // For who connects and asks for it, and for all who listen.
        namespace::set("ipv4/tcp_fastopen", "1027");
        let echo = Echo::start();
        let client = |address: SocketAddr| drop(session(address));
        two_sessions(Setup::to(&[echo.address]), client);
        assert_eq!(tcp_counter("TCPFastOpenActive"), 0);
        two_sessions(Setup::to(&[echo.address]).backend("tcp = { fast_open = true }"), client);
        assert_eq!(tcp_counter("TCPFastOpenActive"), 1);
    });
}

#[test]
fn checks_come_from_where_sessions_do() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    server.set_nonblocking(true).unwrap();
    let ours = Ipv4Addr::new(127, 0, 0, 9);
    for (kind, keys, from_source) in [
        ("tcp", "", true),
        ("tcp", ", source = false", false),
        ("postgres", "", true),
        // The client library connects by itself, over a bridge.
        ("mysql", "", true),
        ("mysql", ", source = false", false),
    ] {
        let backend = format!(
            "source = \"{ours}\"\nsource_ports = \"20000-29999\"\n\
             check = {{ kind = \"{kind}\", interval = \"50ms\"{keys} }}"
        );
        let ringlane = Setup::to(&[address]).backend(&backend).start();
        let (accepted, from) = wait_for("a check at the server", || server.accept().ok());
        let is_ours = from.ip() == ours && (20_000..30_000).contains(&from.port());
        assert_eq!(is_ours, from_source, "{kind}{keys}: {from}");
        drop(accepted);
        ringlane.end();
        while server.accept().is_ok() {}
    }
}
