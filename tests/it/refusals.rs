//! Starts that are refused: one exact sentence, exit code 1, and nothing left behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::harness::balancer::{Setup, path_str};
use crate::harness::client::{round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::program::run;

const SERVER: &str = "127.0.0.1:9";

fn server() -> SocketAddr {
    SERVER.parse().unwrap()
}

#[track_caller]
fn expect(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

#[test]
fn a_broken_configuration_is_explained_all_at_once() {
    let body = r#"
[[frontend]]
name = "front"
bind = "127.0.0.1:99999"
upstream = "back"
timeout = { connect = "soon" }

[[backend]]
name = "back"
balance = "fastest"
server = [{ address = "10.0.0.1:0" }, { address = "10.0.0.2:80", weight = -1 }]
"#;
    let said = Setup::of(body).refused();
    expect(
        &said,
        &[
            "unknown key \"upstream\"",
            "here this is called \"backend\"",
            "127.0.0.1:99999",
            "soon",
            "fastest",
            "10.0.0.1:0",
            "-1",
            "ringlane.toml:",
            "^",
        ],
    );
    assert!(said.matches("error: ").count() >= 6, "{said}");
}

#[test]
fn a_file_that_is_no_toml_is_explained() {
    let said = Setup::of("[[frontend]\nname = front\n").refused();
    expect(&said, &["error: ", "ringlane.toml:", "^"]);
    let said = Setup::of("\u{0}\u{7f}garbage \"").refused();
    expect(&said, &["error: ", "ringlane.toml:"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(taken).unwrap();
    let bind = format!("\"{taken}\"");
    let said = Setup::to(&[server()]).bind(&bind).refused();
    expect(&said, &["frontend \"front\" cannot listen on", &taken.to_string()]);
    expect(&said, &["another program listens there"]);
    drop(listener);
    // Another Ringlane is another program, although it shares its ports among its shards.
    let echo = Echo::start();
    let first = Setup::to(&[echo.address]).start();
    let bind = format!("\"{}\"", first.address());
    let said = Setup::to(&[server()]).bind(&bind).refused();
    expect(&said, &["another program listens there"]);
    round_trip(&mut session(first.address()), b"undisturbed");
    first.end();
}

#[test]
fn an_address_of_another_machine_is_named() {
    let said = Setup::to(&[server()]).bind("\"192.0.2.1:8080\"").refused();
    expect(&said, &["192.0.2.1:8080", "no interface of this machine has that address"]);
}

#[test]
fn socket_files_of_others_are_left_alone() {
    let setup = Setup::to(&[server()]);
    let path = setup.path("taken.sock");
    let setup = setup.bind(&format!("\"unix:{}\"", path_str(&path)));
    let listener = UnixListener::bind(&path).unwrap();
    expect(&setup.refused(), &["taken.sock", "another program listens there"]);
    // Nobody listens any more: a file that is left behind is replaced.
    drop(listener);
    assert!(path.exists());
    setup.start().end();

    let setup = Setup::to(&[server()]);
    let path = setup.path("precious.txt");
    fs::write(&path, "precious").unwrap();
    let setup = setup.bind(&format!("\"unix:{}\"", path_str(&path)));
    expect(&setup.refused(), &["precious.txt", "a file that is not a socket exists there"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn an_admin_address_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let body = format!(
        "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nbackend = \"back\"\n\
         [[backend]]\nname = \"back\"\nserver = [{{ address = \"{SERVER}\" }}]\n"
    );
    let said = Setup::of(&body).admin(&format!("{{ http = \"{taken}\" }}")).refused();
    expect(&said, &["[global] admin.http cannot listen on", "another program listens there"]);
}

#[test]
fn a_limit_on_open_files_that_is_too_small_is_named_with_the_one_that_is_needed() {
    let said = Setup::to(&[server()])
        .global("max_connections = 1000")
        .through(&["prlimit", "--nofile=1024:1024"])
        .refused();
    // 64 for the process, 128 for each shard's idle pipes, 2 listeners, 2 for each session.
    expect(
        &said,
        &[
            "the limit on open files is 1024 (RLIMIT_NOFILE)",
            "max_connections = 1000 needs 2322",
            "LimitNOFILE=2322",
        ],
    );
}

#[test]
fn a_log_that_cannot_be_written_is_named() {
    let log = r#"access_log = { to = "file:/no/such/folder/access.log" }"#;
    let said = Setup::to(&[server()]).global(log).refused();
    expect(&said, &["cannot open the access log: /no/such/folder/access.log"]);
}

#[test]
fn a_user_that_is_not_there_is_named() {
    let said = Setup::to(&[server()]).global("user = \"nobody-of-this-name\"").refused();
    expect(&said, &["[global] user"]);
}

#[test]
fn without_io_uring_it_says_so() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]).global("driver = \"io_uring\"");
    let program = without_io_uring(&setup);
    let said = setup.through(&[&program]).refused();
    expect(&said, &["io_uring is blocked for this process", "seccomp", "allows io_uring_setup"]);

    // Left to choose, it serves by other means, and says why.
    let setup = Setup::to(&[echo.address]).global("driver = \"auto\"");
    let program = without_io_uring(&setup);
    let ringlane = setup.through(&[&program]).start();
    drop(session(ringlane.address()));
    ringlane.wait_for_word("io_uring is blocked for this process");
    ringlane.end();
}

#[test]
fn where_the_sysctl_disables_io_uring_it_says_so_and_serves_on_epoll() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]).global("driver = \"auto\"");
    let program = without_io_uring(&setup);
    // What the kernel answers, and what the file says, as with the sysctl set; the machine's own
    // setting is not touched.
    let setting = setup.path("io_uring_disabled");
    fs::write(&setting, "2\n").unwrap();
    let mount = format!(
        "mount --bind {} /proc/sys/kernel/io_uring_disabled && exec \"$@\"",
        path_str(&setting)
    );
    let inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let ringlane = setup.through(&[&inside[..], &[program.as_str()]].concat()).start();
    drop(session(ringlane.address()));
    ringlane.wait_for_word("io_uring is disabled on this host (kernel.io_uring_disabled = 2)");
    ringlane.end();
}

/// A program that runs another one as containers do by default.
fn without_io_uring(setup: &Setup) -> String {
    let program = setup.path("without-io-uring");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/without_io_uring.c");
    run("cc", "gcc", &["-o", path_str(&program), path_str(&source)]);
    path_str(&program).to_owned()
}
