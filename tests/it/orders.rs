//! `ringlane ctl`: operators look at a running balancer, take servers out and put them back.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::balancer::{Ringlane, Setup, get_over_tcp, path_str};
use crate::harness::client::{connect, greeting, round_trip, session, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::{pause, wait_until};

/// Runs `ringlane ctl` against a balancer.
fn ctl(ringlane: &Ringlane, arguments: &[&str]) -> Output {
    let socket = ringlane.admin_socket();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane"));
    command.args(["ctl", "--socket", path_str(&socket)]).args(arguments).output().unwrap()
}

/// What it says when it is done.
#[track_caller]
fn done(ringlane: &Ringlane, arguments: &[&str]) -> String {
    let output = ctl(ringlane, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it says when it is not.
#[track_caller]
fn refused(ringlane: &Ringlane, arguments: &[&str]) -> String {
    let output = ctl(ringlane, arguments);
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn letters(ringlane: &Ringlane, sessions: usize) -> String {
    let letter = |_| greeting(&mut connect(ringlane.address())).unwrap();
    (0..sessions).map(letter).collect()
}

#[test]
fn a_drained_server_keeps_its_sessions_and_gets_no_new_ones() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let ringlane = Setup::to(&servers.each_ref().map(|s| s.address)).shards(1).start();
    let mut live = connect(ringlane.address());
    assert_eq!(greeting(&mut live).unwrap(), 'a');
    assert_eq!(done(&ringlane, &["server", "back/s1", "drain"]), "back/s1: done\n");
    assert_eq!(letters(&ringlane, 4), "bbbb");
    round_trip(&mut live, b"still here");
    let table = done(&ringlane, &["status", "--wide"]);
    let line = table.lines().find(|line| line.starts_with("back/s1")).unwrap();
    assert!(line.contains("up, drain") && line.contains("ordered by an operator (uid "), "{table}");
    ringlane.wait_for_word("server back/s1 is up, drain (was up): ordered by an operator");
    done(&ringlane, &["server", "back/s2", "maint"]);
    let mut nobody = connect(ringlane.address());
    assert!(greeting(&mut nobody).is_err(), "no server is left");
    done(&ringlane, &["server", "back/s1", "ready"]);
    assert_eq!(letters(&ringlane, 3), "aaa");
    done(&ringlane, &["server", "back/s2", "ready"]);
    done(&ringlane, &["server", "back/s1", "weight", "3"]);
    // The turn that was due under the old weights may still be taken: one session to either side.
    let turns = letters(&ringlane, 48);
    let share = turns.matches('a').count();
    assert!((35..=37).contains(&share), "{share} of 48 with weights 3 to 1: {turns}");
    assert_eq!(ringlane.server_field(0, "/changes/0/from"), "weight 1");
    assert_eq!(ringlane.server_field(0, "/changes/0/to"), "weight 3");
    done(&ringlane, &["server", "back/s1", "weight", "0"]);
    assert_eq!(letters(&ringlane, 3), "bbb");
    let page: serde_json::Value =
        serde_json::from_str(&done(&ringlane, &["status", "--json"])).unwrap();
    assert_eq!(page["backends"][0]["servers"][0]["weight"], 0);
    drop(live);
    ringlane.end();
}

#[test]
fn a_server_out_of_service_in_the_file_gets_no_session_until_it_is_made_ready() {
    let servers = ['a', 'b', 'c', 'd'].map(Echo::greeting);
    let mut setup = Setup::to(&[servers[0].address]).shards(1);
    let port = servers[3].address.port();
    setup.server(&format!("name = \"named\", address = \"localhost:{port}\", state = \"maint\""));
    for (server, state) in [(1, "maint"), (2, "drain")] {
        let address = servers[server].address;
        setup.server(&format!("name = {state:?}, address = \"{address}\", state = {state:?}"));
    }
    let ringlane = setup.backend("check = { kind = \"tcp\", interval = \"50ms\" }").start();
    assert_eq!(letters(&ringlane, 6), "aaaaaa");
    let passes = |server| ringlane.server_field(server, "/check/ok") == true;
    wait_until("checks that pass", || (1..4).all(passes));
    assert_eq!(letters(&ringlane, 6), "aaaaaa", "a check that passes opens neither");
    let table = done(&ringlane, &["status", "--wide"]);
    for (server, state) in [("back/maint", "up, maint"), ("back/drain", "up, drain")] {
        let line = table.lines().find(|line| line.starts_with(server)).unwrap();
        assert!(line.contains(state), "{table}");
    }
    done(&ringlane, &["server", "back/maint", "ready"]);
    done(&ringlane, &["server", "back/drain", "ready"]);
    done(&ringlane, &["server", "back/named", "ready"]);
    let found = letters(&ringlane, 8);
    let all = ["a", "b", "c", "d"];
    assert!(all.iter().all(|letter| found.matches(letter).count() == 2), "{found}");
    let lines = ringlane.end();
    let ordered = lines.iter().filter(|line| line.contains("ordered by an operator"));
    assert_eq!(ordered.count(), 3, "only what was ordered is logged: {lines:?}");
}

#[test]
fn the_status_in_a_pipe_fits_80_columns_and_has_no_colour() {
    let (echo, gone) = (Echo::start(), free_port());
    let long = "replica-of-the-reporting-database.rack-17.example.org";
    let body = format!(
        "[[frontend]]\nname = \"front\"\nbind = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n\
         backend = \"back\"\nmax_connections = 9\nper_client = {{ max_connections = 1 }}\n\
         [[backend]]\nname = \"back\"\ncheck = {{ kind = \"tcp\", interval = \"50ms\" }}\n\
         server = [{{ name = \"s1\", address = \"{}\" }}, {{ name = \"{long}\", address = \"{gone}\" }}]\n",
        echo.address
    );
    let ringlane = Setup::of(&body).start();
    wait_until("the second server to be down", || ringlane.server_field(1, "/state") == "down");
    ringlane.wait_for_word(&format!("server back/{long} is down at its first check: "));
    let live = session(ringlane.address());
    // The reset may come while it connects.
    let refused = TcpStream::connect(ringlane.address());
    wait_until("the second client to be refused", || ringlane.frontend("refused_too_many") == 1);
    let narrow = done(&ringlane, &["status"]);
    assert!(!narrow.contains('\x1b'), "{narrow}");
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    let cells = |name: &str| -> Vec<String> {
        let line = narrow.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    // Bound twice; live sessions, limit, total, refused, failed.
    let front = cells("front ");
    assert_eq!(front[2..], ["+1", "1", "9", "1", "1", "0"], "{narrow}");
    assert_eq!(cells("back/s1 ")[1..4], ["up", "1", "1"], "{narrow}");
    assert_eq!(cells("back/replica")[1], "down", "{narrow}");
    assert!(!narrow.contains(long) && narrow.contains('…'), "{narrow}");
    assert!(narrow.contains("\n    cannot connect to"), "the reason is below: {narrow}");
    let wide = done(&ringlane, &["status", "--wide"]);
    let line = wide.lines().find(|line| line.starts_with(&format!("back/{long} "))).unwrap();
    assert!(line.contains(&gone.to_string()) && line.contains("connection refused"), "{wide}");
    drop((live, refused));
    ringlane.end();
}

#[test]
fn an_order_that_makes_no_sense_is_refused_with_the_reason() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    for (arguments, said) in [
        (&["server", "back/s9", "drain"][..], "backend \"back\" has no server \"s9\""),
        (&["server", "nope/s1", "drain"], "there is no backend \"nope\""),
        (&["server", "s1", "drain"], "write BACKEND/SERVER"),
        (&["server", "back/s1", "weight", "5000"], "weight must be a whole number from 0 to 1000"),
        (&["server", "back/s1", "weight", "-1"], "weight must be a whole number from 0 to 1000"),
        (
            &["server", "back/s1", "up"],
            "\"up\" is not an order: write ready, drain, maint, weight N or max-connections N",
        ),
    ] {
        let refusal = refused(&ringlane, arguments);
        assert!(refusal.contains(said), "{refusal}");
    }
    let (head, said) = ringlane.ask_with("POST", "/v1/backends/back/servers/s1", r#"["drain",5]"#);
    assert!(head.contains(" 400 ") && said.contains("must be a JSON object"), "{head} {said}");
    assert_eq!(ringlane.server_field(0, "/admin"), "ready");
    let (head, said) = ringlane.ask("PUT", "/v1/backends/back/servers/s1");
    assert!(head.contains(" 405 ") && said.contains("Method not allowed"), "{head} {said}");
    let (head, said) = ringlane.ask("GET", "/v1/backends/back/affinity?kee=1");
    assert!(
        head.contains(" 400 ") && said.contains("\"error\":\"the query may have"),
        "{head} {said}"
    );
    ringlane.end();
}

#[test]
fn an_output_that_can_t_be_written_is_an_error() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    for arguments in [&["status"][..], &["status", "--json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane"));
        command.args(["ctl", "--socket", path_str(&ringlane.admin_socket())]).args(arguments);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("cannot write to stdout"), "{said}");
    }
    ringlane.end();
}

#[test]
fn a_process_without_descriptors_lets_operators_in_and_says_when_it_can_not() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let live = session(ringlane.address());
    assert!(ringlane.is_healthy());
    let process = ringlane.process();
    // Those that are held back are its stderr once more.
    process.limit_open_files(process.highest_descriptor_like(2) + 1);
    // They use up the numbers that are free below.
    let crowd: Vec<TcpStream> = (0..20).map(|_| connect(ringlane.address())).collect();
    ringlane.wait_for_word(" error ");
    for _ in 0..20 {
        assert!(ringlane.is_healthy());
        assert!(ringlane.live() > 0);
    }
    ringlane.order("back/s1", "drain");
    let idle: Vec<UnixStream> =
        (0..8).map(|_| UnixStream::connect(ringlane.admin_socket()).unwrap()).collect();
    ringlane.wait_for_word("admin.socket: cannot accept connections: Too many open files");
    drop((live, crowd, idle));
    ringlane.end();
}

#[test]
fn a_balancer_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nobody.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane"));
    let output = command.args(["ctl", "--socket", path_str(&socket), "status"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("no balancer answers at"), "{said}");
}

#[test]
fn a_drained_session_ends_when_it_was_silent_for_as_long_as_configured() {
    let echo = Echo::start();
    let keys = "on_drain = \"drain\"\ndrain_idle = \"50ms\"";
    let ringlane = Setup::to(&[echo.address]).backend(keys).start();
    let mut client = session(ringlane.address());
    ringlane.order("back/s1", "drain");
    wait_until("the session to end", || {
        // PAUSE: the session must be idle for longer than `drain_idle`, shorter than its default.
        pause(Duration::from_millis(200));
        try_round_trip(&mut client, b"hello").is_err()
    });
    let record = &ringlane.log(1)[0];
    assert_eq!((&record["close"], &record["reason"]), (&"KD".into(), &"drained".into()));
    ringlane.end();
}

/// Clients of the admin API that keep their places for as long as they may.
fn occupy<S: Write>(connect: impl Fn() -> S, request: &[u8]) -> Vec<S> {
    let occupant = |_| {
        let mut stream = connect();
        // One that gave its place up already can't be written to.
        let _ = stream.write_all(request);
        stream
    };
    (0..100).map(occupant).collect()
}

#[test]
fn nobody_locks_an_operator_out_of_the_admin_socket() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let (socket, http) = (ringlane.admin_socket(), ringlane.admin_http());
    for request in [
        &b""[..],
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Drip: ",
        b"POST /v1/backends/back/servers/s1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
    ] {
        let unix = occupy(|| UnixStream::connect(&socket).unwrap(), request);
        let tcp = occupy(|| TcpStream::connect(http).unwrap(), request);
        // The command gives up after ten seconds by itself.
        ringlane.order("back/s1", "drain");
        ringlane.order("back/s1", "ready");
        assert!(ringlane.is_healthy());
        assert!(get_over_tcp(http, "/healthz").0.contains(" 200 "));
        assert!(get_over_tcp(http, "/metrics").0.contains(" 200 "));
        drop((unix, tcp));
    }
    ringlane.end();
}

#[test]
fn a_name_with_slashes_can_be_ordered() {
    let echo = Echo::start();
    let body = format!(
        "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nbackend = \"eu/db\"\n\
         [[backend]]\nname = \"eu/db\"\nserver = [{{ name = \"a/s\", address = \"{}\" }}]\n",
        echo.address
    );
    let ringlane = Setup::of(&body).start();
    ringlane.order("eu/db/a/s", "drain");
    assert_eq!(ringlane.server_field(0, "/admin"), "drain");
    let refusal = refused(&ringlane, &["server", "eu/db/none", "drain"]);
    assert!(refusal.contains("there is no server \"eu/db/none\""), "{refusal}");
    ringlane.end();
}
