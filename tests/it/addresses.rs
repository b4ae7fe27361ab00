//! Where clients come from and servers are: IPv4, IPv6, unix sockets, names, and what TLS needs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use nix::sys::signal::Signal;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::harness::balancer::{Setup, path_str};
use crate::harness::client::{connect, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::program::{self, Beside, find, run};
use crate::harness::server::free_port;
use crate::harness::{PATIENCE, wait_for};

/// Echoes one stream to its end, whatever carries it.
fn echo(mut stream: impl Read + Write) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

fn echo_on_ipv6() -> SocketAddr {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || echo(stream))));
    });
    address
}

fn echo_on_unix(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || echo(stream))));
    });
}

#[test]
fn every_kind_of_address_reaches_every_kind_of_server() {
    let (v4, v6) = (Echo::start(), echo_on_ipv6());
    let mut setup = Setup::to(&[v4.address, v6]);
    let path = setup.path("server.sock");
    echo_on_unix(&path);
    setup.server(&format!("name = \"s3\", address = \"unix:{}\"", path_str(&path)));
    let front = setup.path("front.sock");
    let bind = format!("[\"127.0.0.1:0\", \"[::1]:0\", \"unix:{}\"]", path_str(&front));
    let ringlane = setup.shards(1).bind(&bind).start();
    let binds = ringlane.binds("front");
    for bind in &binds[..2] {
        let address: SocketAddr = bind.parse().unwrap();
        (0..3).for_each(|_| drop(session(address)));
    }
    assert_eq!(binds[2], format!("unix:{}", path_str(&front)));
    for _ in 0..3 {
        let mut client = UnixStream::connect(&front).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
    ringlane.wait_until_idle();
    assert_eq!(ringlane.servers("sessions"), [3, 3, 3]);
    let log = ringlane.log(9);
    let from = |prefix: &str| {
        let clients = log.iter().filter_map(|record| record["client"].as_str());
        clients.filter(|client| client.starts_with(prefix)).count()
    };
    assert_eq!((from("127.0.0.1:"), from("[::1]:")), (3, 3));
    assert_eq!(log.iter().filter(|record| record["client"].is_null()).count(), 3);
    assert!(log.iter().all(|record| record["close"] == "--"), "{log:#?}");
    ringlane.end();
    assert!(!front.exists(), "the socket file is removed");
}

/// The kernel refuses such a connect for the moment, where one over TCP would wait.
#[test]
fn a_connect_to_a_unix_socket_whose_queue_is_full_waits() {
    let dir = TempDir::with_prefix("ringlane-it-").unwrap();
    let path = dir.path().join("server.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let address = SockAddr::unix(&path).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut fillers = Vec::new();
    loop {
        let filler = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        if filler.connect(&address).is_err() {
            break;
        }
        fillers.push(filler);
    }
    let mut setup = Setup::to(&[]);
    setup.server(&format!("name = \"s1\", address = \"unix:{}\"", path_str(&path)));
    let ringlane = setup.start();
    let mut client = connect(ringlane.address());
    wait_for("the connect to begin", || (ringlane.servers("sessions_live") == [1]).then_some(()));
    assert_eq!(ringlane.servers("connects_failed"), [0]);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || echo(stream));
        }
    });
    round_trip(&mut client, b"patience");
    assert_eq!(ringlane.servers("connects_failed"), [0]);
    drop((client, fillers));
    ringlane.end();
}

#[test]
fn unix_sessions_carry_bulk_and_are_spread_over_shards() {
    const BYTES: usize = 4 << 20;
    for path in ["copy", "splice", "auto"] {
        let setup = Setup::to(&[]);
        let (server, front) = (setup.path("server.sock"), setup.path("front.sock"));
        echo_on_unix(&server);
        let mut setup = setup
            .bind(&format!("\"unix:{}\"", path_str(&front)))
            .frontend(&format!("path = \"{path}\""));
        setup.server(&format!("address = \"unix:{}\"", path_str(&server)));
        let ringlane = setup.start();
        let content: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        let open: Vec<UnixStream> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let client = UnixStream::connect(&front).unwrap();
                        client.set_read_timeout(Some(PATIENCE)).unwrap();
                        thread::scope(|scope| {
                            scope.spawn(|| (&client).write_all(&content).unwrap());
                            let mut answer = vec![0; BYTES];
                            (&client).read_exact(&mut answer).unwrap();
                            assert!(answer == content, "{path}");
                        });
                        client
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let live = ringlane.shards("sessions_live");
        assert!(live.iter().all(|&sessions| sessions >= 2), "one listener, two shards: {live:?}");
        drop(open);
        ringlane.wait_until_idle();
        ringlane.end();
    }
}

#[test]
fn a_server_may_be_given_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The name may mean either address of this machine.
    let six = TcpListener::bind(("::1", port));
    for listener in [Some(listener), six.ok()].into_iter().flatten() {
        thread::spawn(move || listener.incoming().flatten().for_each(echo));
    }
    let mut setup = Setup::to(&[]);
    setup.server(&format!("address = \"localhost:{port}\""));
    let ringlane = setup.start();
    drop(session(ringlane.address()));
    let name = &ringlane.status()["backends"][0]["servers"][0]["name"];
    assert_eq!(name, &format!("localhost:{port}"));
    ringlane.end();
}

/// A TLS server with a certificate of its own.
fn tls_server(dir: &Path) -> (SocketAddr, Beside) {
    let (key, certificate) = (dir.join("key.pem"), dir.join("certificate.pem"));
    run(
        "openssl",
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-days",
            "1",
            "-keyout",
            path_str(&key),
            "-out",
            path_str(&certificate),
        ],
    );
    let address = free_port();
    let mut command = program::bound_to_us();
    command
        .arg(find("openssl", "openssl"))
        .args(["s_server", "-quiet", "-WWW", "-accept", &address.to_string()])
        .args(["-key", path_str(&key), "-cert", path_str(&certificate)])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = Beside::start(&mut command, Signal::SIGTERM);
    wait_for("openssl to answer", || {
        assert!(!process.has_ended(), "openssl s_server has ended");
        TcpStream::connect(address).ok()
    });
    (address, process)
}

#[test]
fn tls_passes_through() {
    let dir = TempDir::with_prefix("ringlane-it-tls-").unwrap();
    let content: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    fs::write(dir.path().join("page.txt"), &content).unwrap();
    let (address, _server) = tls_server(dir.path());
    let ringlane = Setup::to(&[address]).start();
    let page = format!("https://{}/page.txt", ringlane.address());
    for _ in 0..3 {
        let output =
            run("curl", "curl", &["--silent", "--show-error", "--insecure", "--http1.0", &page]);
        assert!(output.stdout == content.as_bytes(), "{} bytes", output.stdout.len());
    }
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("sessions"), 3);
    ringlane.end();
}

#[test]
fn a_session_through_two_balancers_is_one_session() {
    let echo = Echo::start();
    let inner = Setup::to(&[echo.address]).start();
    let outer = Setup::to(&[inner.address()]).start();
    let mut client = session(outer.address());
    round_trip(&mut client, &[5; 100_000]);
    drop(client);
    for ringlane in [outer, inner] {
        assert_eq!(ringlane.log(1)[0]["close"], "--");
        ringlane.end();
    }
}

#[test]
fn ipv4_in_the_form_of_ipv6_is_ipv4_wherever_it_is_written() {
    let echo = Echo::start();
    let mut setup = Setup::to(&[])
        .bind("\"[::ffff:127.0.0.1]:0\"")
        .frontend("accept_proxy = { trusted = [\"::ffff:127.0.0.0/104\"] }")
        .backend("source = \"::ffff:127.0.0.9\"");
    setup.server(&format!("address = \"[::ffff:127.0.0.1]:{}\"", echo.address.port()));
    let ringlane = setup.start();
    assert!(ringlane.address().is_ipv4(), "{}", ringlane.address());
    let mut client = connect(ringlane.address());
    let header = "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 4000 5432\r\n";
    client.write_all(header.as_bytes()).unwrap();
    round_trip(&mut client, b"data");
    drop(client);
    assert_eq!(ringlane.log(1)[0]["client"], "192.0.2.1:4000");
    ringlane.end();
}
