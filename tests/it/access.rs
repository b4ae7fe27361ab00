//! Who may use the admin API: tokens, hosts, roles, and what a browser can reach.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::balancer::{Ringlane, Setup, TOKEN, path_str};
use crate::harness::echo::Echo;
use crate::harness::server::free_port;

/// A token that may only read.
const READER: &str = "it-read-0123456789abcdef";

/// Whatever is sent, and all of the answer.
fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The other end may have answered and closed before all is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// A balancer with two tokens.
fn start(echo: &Echo) -> Ringlane {
    let setup = Setup::to(&[echo.address]);
    let socket = setup.path("admin.sock");
    let file = setup.path("reader.token");
    fs::write(&file, format!("{READER}\n")).unwrap();
    let tokens = format!(
        "[{{ name = \"reader\", secret = {{ file = {:?} }} }}, \
         {{ name = \"writer\", secret = {TOKEN:?}, role = \"write\" }}]",
        path_str(&file)
    );
    let socket = format!("{{ path = {:?}, mode = \"0600\" }}", path_str(&socket));
    let admin = format!(
        "{{ socket = {socket}, http = \"127.0.0.1:0\", tokens = {tokens}, allow_hosts = [\"lb.test\"] }}"
    );
    setup.admin(&admin).start()
}

#[test]
fn tcp_needs_a_token_and_its_role_decides() {
    let echo = Echo::start();
    let ringlane = start(&echo);
    let http = ringlane.admin_http();
    let mode = fs::metadata(ringlane.admin_socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let get = |page: &str, headers: &str| {
        raw(http, &format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"))
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(status_of(&get("/healthz", "")), "200");
    for page in ["/status", "/metrics", "/v1/status", "/nothing", "/v1/live", "/healthz/x"] {
        let answer = get(page, "");
        assert_eq!(status_of(&answer), "401", "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nwww-authenticate: bearer"), "{answer}");
        for token in [READER, TOKEN] {
            let expected = if page == "/nothing" || page == "/healthz/x" { "404" } else { "200" };
            if page != "/v1/live" {
                let answer = get(page, &bearer(token));
                assert_eq!(status_of(&answer), expected, "{page}: {answer}");
            }
        }
    }
    for headers in [
        bearer(&READER[1..]),
        bearer(&READER.to_uppercase()),
        format!("{}{}", bearer(READER), bearer(READER)),
        format!("Authorization: {READER}\r\n"),
        format!("Authorization: Basic {READER}\r\n"),
        format!("Cookie: token={READER}\r\n"),
        format!("X-Authorization: Bearer {READER}\r\n"),
    ] {
        assert_eq!(status_of(&get("/status", &headers)), "401", "{headers}");
    }
    assert_eq!(status_of(&get(&format!("/status?token={READER}"), "")), "401");
    assert_eq!(status_of(&get("/status", &format!("authorization: bEARER {READER}\r\n"))), "200");

    let order = |token: &str| {
        let (path, body) = ("/v1/backends/back/servers/s1", "{\"state\": \"drain\"}");
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{}", bearer(token));
        raw(http, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    };
    let refused = order(READER);
    assert!(status_of(&refused) == "403" && refused.contains("role = \\\"write\\\""), "{refused}");
    assert_eq!(ringlane.server_field(0, "/admin"), "ready");
    assert_eq!(status_of(&order(TOKEN)), "200");
    let line = ringlane.wait_for_word("(token \"writer\" from 127.0.0.1)");
    assert!(line.contains("server back/s1 is up, drain"), "{line}");
    assert!(!line.contains(TOKEN));

    let refusals = |code: &str| {
        let name = format!("ringlane_admin_requests_refused_total{{code=\"{code}\"}}");
        ringlane.metrics()[&name]
    };
    assert_eq!((refusals("401"), refusals("403"), refusals("503")), (14.0, 1.0, 0.0));
    ringlane.end();
}

#[test]
fn a_page_in_a_browser_reaches_nothing_under_another_name() {
    let echo = Echo::start();
    let ringlane = start(&echo);
    let http = ringlane.admin_http();
    let get = |version: &str, target: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let token = format!("Authorization: Bearer {READER}\r\n");
        let answer = raw(http, &format!("GET {target} HTTP/{version}\r\n{hosts}{token}\r\n"));
        status_of(&answer).to_owned()
    };
    let own = http.to_string();
    for (version, target, hosts, expected) in [
        ("1.1", "/status", &[own.as_str()][..], "200"),
        ("1.1", "/status", &["127.0.0.1"], "200"),
        ("1.1", "/status", &["LOCALHOST:80"], "200"),
        ("1.1", "/status", &["lb.test.:9000"], "200"),
        ("1.0", "/status", &[], "200"),
        ("1.1", "/status", &[], "400"),
        ("1.1", "/status", &["localhost", "localhost"], "400"),
        ("1.1", "/status", &["evil.test"], "403"),
        ("1.0", "/status", &["evil.test"], "403"),
        ("1.1", "/status", &["10.1.2.3"], "403"),
        ("1.1", "/status", &["localhost.evil.test"], "403"),
        ("1.1", "http://evil.test/status", &["localhost"], "403"),
        ("1.1", "/healthz", &["evil.test"], "200"),
    ] {
        assert_eq!(get(version, target, hosts), expected, "{version} {target} {hosts:?}");
    }
    ringlane.end();
}

#[test]
fn without_tokens_tcp_has_health_and_a_reason() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let socket = setup.path("admin.sock");
    let admin = format!("{{ socket = {:?}, http = \"127.0.0.1:0\" }}", path_str(&socket));
    let ringlane = setup.admin(&admin).start();
    ringlane.wait_for_word("refuses everything but /healthz");
    let http = ringlane.admin_http();
    assert_eq!(status_of(&raw(http, "GET /healthz HTTP/1.0\r\n\r\n")), "200");
    let answer =
        raw(http, &format!("GET /status HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"));
    assert!(status_of(&answer) == "401" && answer.contains("admin.tokens in [global]"), "{answer}");
    ringlane.end();
}

#[test]
fn a_token_that_is_not_there_keeps_the_balancer_from_starting() {
    let setup = Setup::to(&[free_port()]);
    let missing = setup.path("no.token");
    let admin = format!(
        "{{ http = \"127.0.0.1:0\", tokens = [{{ name = \"a\", secret = {{ file = {:?} }} }}] }}",
        path_str(&missing)
    );
    let said = setup.admin(&admin).refused();
    assert!(said.contains("token \"a\": cannot read it from /"), "{said}");
}

#[test]
fn requests_that_are_too_large_or_make_no_sense_harm_nothing() {
    let echo = Echo::start();
    let ringlane = start(&echo);
    let http = ringlane.admin_http();
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let many: String = (0..500).map(|n| format!("X-{n}: y\r\n")).collect();
    let large = "x".repeat(2_000_000);
    let path = "/v1/backends/back/servers/s1";
    for request in [
        format!("GET /status HTTP/1.1\r\nHost: localhost\r\n{token}{many}\r\n"),
        format!("GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {large}\r\n\r\n"),
        format!("GET /status?{large} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n"),
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: {}\r\n\r\n{large}",
            large.len()
        ),
        "GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \u{fc}\r\n\r\n"
            .to_owned(),
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}Transfer-Encoding: chunked\r\n\r\nzz\r\n"
        ),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
    ] {
        let answer = raw(http, &request);
        let status = status_of(&answer);
        assert!(status.is_empty() || status.starts_with('4'), "{:.300}", answer);
    }
    assert!(ringlane.is_healthy());
    assert_eq!(ringlane.server_field(0, "/admin"), "ready");
    ringlane.end();
}
