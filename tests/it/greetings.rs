//! Sessions that go where their client's first message says: TLS by name and by protocol.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::certificates::{Authority, show};
use crate::harness::client::{connect, read_to_end};
use crate::harness::echo::Echo;
use crate::harness::program::{Beside, bound_to_us, find};

/// A ClientHello without extensions.
const NAMELESS: &[u8] = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03\
    01234567890123456789012345678901\x00\x00\x02\x13\x01\x01\x00";

/// Three servers with certificates of their own: `a.lan`, `b.lan` and one for everybody else.
struct Servers {
    servers: Vec<(SocketAddr, Beside)>,
}

impl Servers {
    fn start() -> Self {
        let authority = Authority::new();
        let server = |name: &str| show(&authority.issue(name, &format!("DNS:{name}"), 5), &[]);
        Self { servers: ["a.lan", "b.lan", "rest.lan"].map(server).into() }
    }

    /// A balancer in front of them with these lines in its frontend.
    fn balance(&self, lines: &str) -> Ringlane {
        let mut body = format!(
            "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tls\"\n\
             backend = \"rest\"\n{lines}\n"
        );
        for (name, (address, _)) in ["a", "b", "rest"].iter().zip(&self.servers) {
            body += &format!(
                "[[backend]]\nname = \"{name}\"\nserver = [{{ address = \"{address}\" }}]\n"
            );
        }
        Setup::of(&body).start()
    }
}

/// The name in the certificate that a client is shown.
fn shown(address: SocketAddr, arguments: &[&str]) -> String {
    let output = bound_to_us()
        .arg(find("openssl", "openssl"))
        .args(["s_client", "-connect", &address.to_string(), "-showcerts"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(begin) = text.find("-----BEGIN CERTIFICATE-----") else { return String::new() };
    let mut reader = bound_to_us()
        .arg(find("openssl", "openssl"))
        .args(["x509", "-noout", "-ext", "subjectAltName"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(text[begin..].as_bytes()).unwrap();
    let mut names = String::new();
    reader.stdout.take().unwrap().read_to_string(&mut names).unwrap();
    assert!(reader.wait().unwrap().success(), "{text}");
    names.split("DNS:").nth(1).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_tls_client_reaches_the_server_of_the_name_that_it_asks_for() {
    let servers = Servers::start();
    let ringlane = servers.balance(
        "route = [{ sni = \"a.lan\", backend = \"a\" }, { sni = \"*.b.lan\", backend = \"b\" },\n\
         { alpn = [\"h2\", \"b-proto\"], backend = \"b\" }]",
    );
    let address = ringlane.address();
    for (arguments, name) in [
        (&["-servername", "a.lan"][..], "a.lan"),
        (&["-servername", "A.Lan"], "a.lan"),
        (&["-servername", "x.y.b.lan"], "b.lan"),
        (&["-servername", "b.lan"], "rest.lan"),
        (&["-servername", "other.lan"], "rest.lan"),
        (&["-noservername"], "rest.lan"),
        (&["-servername", "other.lan", "-alpn", "http/1.1,b-proto"], "b.lan"),
        (&["-servername", "a.lan", "-alpn", "h2"], "a.lan"),
        (&["-servername", "a.lan", "-tls1_2"], "a.lan"),
        // Many groups and a long list of protocols: a greeting of several packets.
        (&["-servername", "a.lan", "-max_send_frag", "512"], "a.lan"),
    ] {
        assert_eq!(shown(address, arguments), name, "{arguments:?}");
    }
    ringlane.end();
}

#[test]
fn a_client_that_names_no_server_or_an_unknown_one_is_told_so() {
    let servers = Servers::start();
    let ringlane = servers.balance(
        "route = [{ sni = \"a.lan\", backend = \"a\" }]\nno_sni = \"reject\"\nunmatched = \"reject\"",
    );
    let address = ringlane.address();
    assert_eq!(shown(address, &["-servername", "a.lan"]), "a.lan");
    assert_eq!(shown(address, &["-servername", "b.lan"]), "");
    let mut nameless = connect(address);
    nameless.write_all(NAMELESS).unwrap();
    assert_eq!(read_to_end(&mut nameless), [21, 3, 3, 0, 2, 2, 112], "unrecognized_name");
    ringlane.wait_until_idle();
    let log = ringlane.log(3);
    let codes: Vec<&str> = log.iter().filter_map(|record| record["close"].as_str()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "PR").count(), 2, "{codes:?}");
    let refused = log.iter().find(|record| record["sni"] == "b.lan").unwrap();
    assert_eq!((&refused["reason"], &refused["backend"]), (&"unrouted".into(), &"rest".into()));
    ringlane.end();
}

#[test]
fn a_greeting_in_pieces_reaches_the_server_whole() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend("protocol = \"tls\"\ntimeout = { greeting = \"20s\" }")
        .backend("send_proxy = \"v1\"")
        .start();
    let mut client = connect(ringlane.address());
    for byte in NAMELESS {
        client.write_all(&[*byte]).unwrap();
    }
    client.write_all(b"and more").unwrap();
    let header = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
        client.local_addr().unwrap().port(),
        ringlane.address().port()
    );
    let mut answer = vec![0; header.len() + NAMELESS.len() + 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [header.as_bytes(), NAMELESS, b"and more"].concat());
    drop(client);
    ringlane.wait_until_idle();
    assert_eq!(ringlane.log(1)[0]["bytes_in"], NAMELESS.len() as u64 + 8);
    ringlane.end();
}

#[test]
fn who_says_something_else_or_nothing_is_let_go() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend("protocol = \"tls\"\ntimeout = { greeting = \"100ms\" }")
        .start();
    let mut stranger = connect(ringlane.address());
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(stranger.read(&mut [0]).is_err(), "a reset");
    let mut silent = connect(ringlane.address());
    silent.write_all(&NAMELESS[..20]).unwrap();
    assert!(silent.read(&mut [0]).map_or(true, |read| read == 0));
    ringlane.wait_until_idle();
    let log = ringlane.log(2);
    assert_eq!((&log[0]["close"], &log[1]["close"]), (&"PR".into(), &"cR".into()));
    ringlane.end();
}
