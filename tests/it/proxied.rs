//! The PROXY protocol, with HAProxy as sender and as receiver.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::balancer::{Setup, path_str};
use crate::harness::certificates::Authority;
use crate::harness::client::{connect, connect_from, round_trip};
use crate::harness::echo::Echo;
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::program::{Beside, bound_to_us, find, run};
use crate::harness::redis::Redis;
use crate::harness::server::{Server, free_port};
use crate::harness::{PATIENCE, wait_for, wait_until};

/// HAProxy with these lines for its one frontend and its one server.
struct Haproxy {
    address: SocketAddr,
    _process: Beside,
    _dir: TempDir,
}

impl Haproxy {
    fn start(bind: &str, body: &str) -> Self {
        let (address, dir) = (free_port(), TempDir::with_prefix("ringlane-it-haproxy-").unwrap());
        let file = dir.path().join("haproxy.cfg");
        let config = format!(
            "defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend f\n bind {address} {bind}\n{body}\n"
        );
        fs::write(&file, config).unwrap();
        let mut command = bound_to_us();
        command.arg(find("haproxy", "haproxy")).args(["-db", "-f", path_str(&file)]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Beside::start(&mut command, Signal::SIGTERM);
        wait_for("HAProxy to answer", || {
            assert!(!process.has_ended(), "haproxy has ended");
            TcpStream::connect(address).ok()
        });
        Self { address, _process: process, _dir: dir }
    }

    /// One that tells its server who the client is, and that this is session `first-proxy`.
    fn sending(word: &str, to: SocketAddr) -> Self {
        let body = format!(
            " mode tcp\n unique-id-format first-proxy\n default_backend b\n\
             backend b\n mode tcp\n server s {to} {word}"
        );
        Self::start("", &body)
    }

    /// One that answers over HTTP with the client's address as it was told.
    fn that_names_its_client() -> Self {
        Self::that_answers("accept-proxy", "%[src]:%[src_port]")
    }

    /// One that answers over HTTP with what this format makes of a session.
    fn that_answers(bind: &str, format: &str) -> Self {
        let answer = format!(
            " mode http\n http-request return status 200 content-type text/plain lf-string \"{format}\""
        );
        Self::start(bind, &answer)
    }
}

#[test]
fn haproxy_says_who_the_client_is_and_the_log_believes_it() {
    for word in ["send-proxy", "send-proxy-v2"] {
        let echo = Echo::start();
        let ringlane = Setup::to(&[echo.address])
            .frontend("accept_proxy = { trusted = [\"127.0.0.0/8\"] }")
            .start();
        let haproxy = Haproxy::sending(word, ringlane.address());
        let mut client = connect_from(Ipv4Addr::new(127, 0, 5, 7), haproxy.address).unwrap();
        round_trip(&mut client, &[7; 30_000]);
        let own = client.local_addr().unwrap();
        drop(client);
        // HAProxy may have tried the way first.
        let of_client = wait_for("the session in the log", || {
            ringlane.log_now().into_iter().find(|record| record["bytes_in"] == 30_000)
        });
        assert_eq!(of_client["client"], own.to_string(), "{word}");
        ringlane.end();
    }
}

#[test]
fn haproxy_hears_who_the_client_is() {
    let haproxy = Haproxy::that_names_its_client();
    for version in ["v1", "v2"] {
        let ringlane =
            Setup::to(&[haproxy.address]).backend(&format!("send_proxy = \"{version}\"")).start();
        let mut client = connect_from(Ipv4Addr::new(127, 0, 5, 8), ringlane.address()).unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let own = client.local_addr().unwrap().to_string();
        assert!(answer.ends_with(&own), "{version}: {answer}");
        drop(client);
        ringlane.end();
    }
}

/// A server that says what it was sent first, up to a line's end.
fn first_words() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut heard = Vec::new();
            let mut byte = [0];
            while !heard.ends_with(b"!") && stream.read(&mut byte).unwrap_or(0) == 1 {
                heard.push(byte[0]);
            }
            let _ = stream.write_all(&heard);
        }
    });
    address
}

#[test]
fn a_header_goes_from_proxy_to_proxy_even_in_single_bytes() {
    let ringlane = Setup::to(&[first_words()])
        .frontend("accept_proxy = true")
        .backend("send_proxy = \"v1\"")
        .start();
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 4000 5432\r\n";
    let mut client = connect(ringlane.address());
    client.set_nodelay(true).unwrap();
    for byte in format!("{header}hello!").bytes() {
        client.write_all(&[byte]).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("{header}hello!"));
    drop(client);
    assert_eq!(ringlane.log(1)[0]["client"], "192.0.2.1:4000");
    ringlane.end();
}

#[test]
fn what_is_no_header_is_refused_and_silence_is_not_waited_for() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend("accept_proxy = { trusted = [\"127.0.0.0/8\"], timeout = \"100ms\" }")
        .start();
    for (said, close) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "PR"),
        (b"PROXY TCP9 who knows what this is\r\n", "PR"),
        (b"PROXY TCP4 1.2.3.4", "cR"),
    ] {
        let before = ringlane.log_now().len();
        let mut client = connect(ringlane.address());
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(said).unwrap();
        match client.read(&mut [0]) {
            Ok(0) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "left hanging"),
            Ok(_) => panic!("a byte for a client that was refused"),
        }
        assert_eq!(ringlane.log(before + 1)[before]["close"], close);
    }
    assert_eq!(ringlane.servers("sessions"), [0]);
    ringlane.end();
}

#[test]
fn who_is_not_trusted_is_taken_at_its_own_address() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend("accept_proxy = { trusted = [\"10.0.0.0/8\"] }")
        .start();
    round_trip(&mut connect(ringlane.address()), b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n");
    assert!(ringlane.log(1)[0]["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    ringlane.end();
}

#[test]
fn haproxy_hears_the_name_and_the_number_of_a_session() {
    let authority = Authority::new();
    let issued = authority.issue("a.lan", "DNS:a.lan", 5);
    let both = issued.certificate.with_extension("both");
    let [certificate, key] = [&issued.certificate, &issued.key].map(|file| fs::read(file).unwrap());
    fs::write(&both, [certificate, key].concat()).unwrap();
    let haproxy = Haproxy::that_answers(
        &format!("accept-proxy ssl crt {}", path_str(&both)),
        "%[src_port] %[fc_pp_authority] %[fc_pp_unique_id]",
    );
    let details = "send_proxy = { version = \"v2\", details = [\"authority\", \"unique_id\"] }";
    let ringlane =
        Setup::to(&[haproxy.address]).frontend("protocol = \"tls\"").backend(details).start();
    let port = ringlane.address().port();
    let (to, page) = (format!("a.lan:{port}:127.0.0.1"), format!("https://a.lan:{port}/"));
    let trust = authority.certificate();
    let arguments = ["-s", "--resolve", &to, "--cacert", path_str(&trust), &page];
    let answer = run("curl", "curl", &arguments).stdout;
    let answer = String::from_utf8(answer).unwrap();
    let record = ringlane.log(1).remove(0);
    let client: SocketAddr = record["client"].as_str().unwrap().parse().unwrap();
    let id = record["unique_id"].as_str().unwrap();
    assert_eq!(answer, format!("{} a.lan {id}", client.port()));
    ringlane.end();
}

#[test]
fn what_the_first_proxy_said_goes_to_the_last() {
    let last = Haproxy::that_answers("accept-proxy", "%[fc_pp_unique_id]");
    let ringlane = Setup::to(&[last.address])
        .frontend("accept_proxy = true")
        .backend("send_proxy = { version = \"v2\", details = [\"unique_id\"] }")
        .start();
    let first = Haproxy::sending("send-proxy-v2 proxy-v2-options unique-id", ringlane.address());
    let mut client = connect(first.address);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nfirst-proxy"), "{answer}");
    drop((client, first));
    ringlane.end();
}

#[test]
fn the_protocol_that_a_client_offers_first_is_passed_on() {
    let (tell, told) = mpsc::channel();
    let server = Server::each(move |mut stream| {
        let mut first = vec![0; 16];
        stream.read_exact(&mut first).unwrap();
        let mut rest = vec![0; u16::from_be_bytes([first[14], first[15]]).into()];
        stream.read_exact(&mut rest).unwrap();
        tell.send(rest).unwrap();
    });
    let ringlane = Setup::to(&[server.address])
        .frontend("protocol = \"tls\"")
        .backend("send_proxy = { version = \"v2\", details = [\"alpn\", \"authority\"] }")
        .start();
    let address = ringlane.address().to_string();
    let offer = ["-alpn", "h2,http/1.1", "-noservername"];
    bound_to_us()
        .arg(find("openssl", "openssl"))
        .args(["s_client", "-connect", &address])
        .args(offer)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // PP2_TYPE_ALPN, two bytes; behind addresses and ports.
    assert_eq!(told.recv().unwrap()[12..], *b"\x01\x00\x02h2");
    ringlane.end();
}

#[test]
fn a_header_that_breaks_the_protocol_ends_the_session_before_a_server_hears_of_it() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).frontend("accept_proxy = true").start();
    let v2 = |family: u8, tlvs: &[u8]| {
        let body = [&[192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 7, 208], tlvs].concat();
        let head = [0x21, family, 0, u8::try_from(body.len()).unwrap()];
        [b"\r\n\r\n\0\r\nQUIT\n", &head[..], &body].concat()
    };
    let headers = [
        v2(0x11, b"\x03\0\x04\xDE\xAD\xBE\xEF"),
        v2(0x11, b"\x02\0\x50ab"),
        v2(0x12, b""),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01000 2000\r\n".to_vec(),
    ];
    for header in &headers {
        let mut client = connect(ringlane.address());
        client.write_all(&[header, &b"data"[..]].concat()).unwrap();
        // Closed or reset, but nothing comes back.
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{header:?} was answered with {answer:?}");
    }
    wait_for("the sessions in the log", || {
        let log = ringlane.log_now();
        assert!(log.iter().all(|record| record["close"] == "PR"), "{log:#?}");
        (log.len() == headers.len()).then_some(())
    });
    assert_eq!(ringlane.servers("sessions"), [0]);
    let mut client = connect(ringlane.address());
    client.write_all(&v2(0x11, b"\x02\0\x02ab")).unwrap();
    round_trip(&mut client, b"data");
    drop(client);
    ringlane.end();
}

#[test]
fn checks_bring_the_header_where_sessions_do() {
    let (redis, postgres) = (Redis::start(&[]), Postgres::start());
    let mariadb = Mariadb::start(1);
    let behind = |server: SocketAddr| {
        Haproxy::start(
            "accept-proxy",
            &format!(" mode tcp\n default_backend b\nbackend b\n mode tcp\n server s {server}"),
        )
    };
    let mysql = "kind = \"mysql\", user = \"monitor\", password = \"open sesame\"";
    for (server, check) in [
        (redis.address, "kind = \"redis\""),
        (postgres.address, "kind = \"postgres\", user = \"it\""),
        (mariadb.address, mysql),
    ] {
        let haproxy = behind(server);
        for (version, keys, state) in [
            ("v1", "", "up"),
            ("v2", "", "up"),
            ("v2", ", send_proxy = false", "down"),
            ("v2", ", login = \"kept\"", "up"),
            // Elsewhere, where nobody expects a header.
            ("v2", &format!(", address = \"{server}\""), "up"),
        ] {
            let backend = format!(
                "send_proxy = \"{version}\"\ncheck = {{ {check}{keys}, interval = \"50ms\", \
                 timeout = \"10s\" }}"
            );
            let ringlane = Setup::to(&[haproxy.address]).backend(&backend).start();
            wait_until("the first check", || !ringlane.server_field(0, "/check").is_null());
            assert_eq!(ringlane.server_field(0, "/state"), state, "{check} {version} {keys}");
            ringlane.end();
        }
    }
}
