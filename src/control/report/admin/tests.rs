//! The API over real sockets, with plain HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::connection::CONNECTIONS_MAX;
use super::*;
use crate::config::{Admin, AdminSocketFile, Secret, Token, TokenRole};
use crate::control::Stage;
use crate::control::report::status::tests::running;

/// Runs `talk` on another thread while `bound` is served here.
fn while_serving<T: Send>(bound: Bound, running: Running, talk: impl FnOnce() -> T + Send) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (done, ended) = oneshot::channel();
    thread::scope(|scope| {
        let talking = scope.spawn(move || {
            let said = talk();
            let _ = done.send(());
            said
        });
        runtime.block_on(async {
            tokio::select! {
                () = serve(bound, Current::new(running)) => panic!("the API ended"),
                _ = ended => {}
            }
        });
        talking.join().unwrap()
    })
}

/// Sends one request and returns the whole answer.
fn ask(mut stream: impl Read + Write, request: &str, headers: &str) -> String {
    let token = format!("Authorization: Bearer {TOKEN}");
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Allows orders.
const TOKEN: &str = "0123456789abcdef";

fn loopback() -> Admin {
    let secret = Secret::Text(TOKEN.to_owned());
    Admin {
        http: Some("127.0.0.1:0".parse().unwrap()),
        tokens: vec![Token { name: "t".to_owned(), secret, role: TokenRole::Write }],
        ..Admin::default()
    }
}

#[test]
fn every_page_answers_and_nothing_else_does() {
    let bound = bind(&loopback()).unwrap();
    let address = bound.http().unwrap();
    let get = |request: &str| ask(TcpStream::connect(address).unwrap(), request, "");
    while_serving(bound, running(), || {
        let health = get("GET /healthz");
        assert!(
            health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\nok"),
            "{health}"
        );

        let status = get("GET /status");
        assert!(status.contains("content-type: application/json"), "{status}");
        let body = status.split_once("\r\n\r\n").unwrap().1;
        let page: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(page["frontends"][0]["bytes_in"], 30);

        let metrics = get("GET /metrics");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\nringlane_snapshot_generation 1\n"), "{metrics}");

        let lost = get("GET /nowhere");
        assert!(lost.starts_with("HTTP/1.1 404 ") && lost.contains("GET /metrics"), "{lost}");
        let wrong = get("POST /status");
        assert!(
            wrong.starts_with("HTTP/1.1 405 ") && wrong.contains("Method not allowed"),
            "{wrong}"
        );
        assert!(wrong.to_ascii_lowercase().contains("\r\nallow: get"), "{wrong}");
    });
}

#[test]
fn a_scraper_gets_the_format_that_it_asks_for() {
    let bound = bind(&loopback()).unwrap();
    let address = bound.http().unwrap();
    while_serving(bound, running(), || {
        let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
        let ask = |headers| ask(TcpStream::connect(address).unwrap(), "GET /metrics", headers);
        let (open, plain) = (ask(accept), ask(""));
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(open.contains(kind) && open.ends_with("\n# EOF\n"), "{open}");
        assert!(open.contains("\n# TYPE ringlane_frontend_sessions counter\n"), "{open}");
        let kind = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
        assert!(plain.contains(kind) && !plain.contains("# EOF"), "{plain}");
        assert!(plain.contains("\n# TYPE ringlane_frontend_sessions_total counter\n"), "{plain}");
    });
}

#[test]
fn a_draining_balancer_is_not_healthy() {
    let running = running();
    running.life.enter(Stage::Draining);
    let bound = bind(&loopback()).unwrap();
    let address = bound.http().unwrap();
    while_serving(bound, running, || {
        let health = ask(TcpStream::connect(address).unwrap(), "GET /healthz", "");
        assert!(health.starts_with("HTTP/1.1 503 ") && health.ends_with("draining"), "{health}");
    });
}

#[test]
fn a_client_beyond_the_bound_gets_the_place_of_the_oldest_that_asks_nothing() {
    let bound = bind(&loopback()).unwrap();
    let address = bound.http().unwrap();
    while_serving(bound, running(), || {
        let crowd: Vec<_> =
            (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        let late = TcpStream::connect(address).unwrap();
        assert!(ask(&late, "GET /healthz", "").starts_with("HTTP/1.1 200 "));
        // Its end may be met as a reset.
        let evicted = (&crowd[0]).read(&mut [0]);
        assert!(evicted.as_ref().map_or(true, |read| *read == 0), "{evicted:?}");
        let last = crowd.last().unwrap();
        assert!(ask(last, "GET /healthz", "").starts_with("HTTP/1.1 200 "), "still has a place");
    });
}

#[test]
fn a_unix_socket_is_for_owner_and_group_and_is_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let admin = Admin { socket: Some(path.clone()), ..Admin::default() };
    drop(UnixListener::bind(&path).unwrap());
    let bound = bind(&admin).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);

    let file = AdminSocketFile { mode: Some(0o600), ..AdminSocketFile::default() };
    let other = dir.path().join("other.sock");
    let private = Admin { socket: Some(other.clone()), socket_file: file, ..Admin::default() };
    let _private = bind(&private).unwrap();
    assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);

    let taken = bind(&admin).unwrap_err().to_string();
    assert!(taken.contains("another program listens there"), "{taken}");
    assert!(taken.starts_with("[global] admin.socket cannot listen on /"), "{taken}");

    while_serving(bound, running(), || {
        let health = ask(UnixStream::connect(&path).unwrap(), "GET /healthz", "");
        assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    });
    assert!(!path.exists());
}

#[test]
fn what_is_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "data").unwrap();
    let error =
        bind(&Admin { socket: Some(path.clone()), ..Admin::default() }).unwrap_err().to_string();
    assert!(error.contains("a file that is not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(&Admin { http: Some(address), ..Admin::default() }).unwrap_err().to_string();
    assert!(error.starts_with(&format!("[global] admin.http cannot listen on {address}: another")));
}

#[test]
fn without_an_address_nothing_listens() {
    let bound = bind(&Admin::default()).unwrap();
    assert!(bound.http().is_none() && bound.socket.is_none());
    while_serving(bound, running(), || ());
}
