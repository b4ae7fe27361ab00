//! The access log: what a line says, where it goes, and what a destination that blocks costs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::client::{connect, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::{PATIENCE, pause, wait_for, wait_until};

/// One session that sends so many bytes; the client's address.
fn one_session(address: std::net::SocketAddr, bytes: usize) -> String {
    let mut client = connect(address);
    round_trip(&mut client, &vec![1; bytes]);
    client.local_addr().unwrap().to_string()
}

fn expect_fields(record: &Value, client: &str, bytes: usize) {
    for (field, expected) in [
        ("client", Value::from(client)),
        ("frontend", "front".into()),
        ("backend", "back".into()),
        ("server", "s1".into()),
        ("bytes_in", bytes.into()),
        ("bytes_out", bytes.into()),
        ("retries", 0.into()),
        ("close", "--".into()),
    ] {
        assert_eq!(record[field], expected, "{field}: {record}");
    }
    let number = |field: &str| record[field].as_u64().unwrap();
    assert!(number("connect_us") <= number("duration_us"), "{record}");
    assert!(number("shard") < 2, "{record}");
    let time = record["time"].as_str().unwrap();
    assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{record}");
}

#[test]
fn a_json_line_has_every_field() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let client = one_session(ringlane.address(), 12_345);
    expect_fields(&ringlane.log(1)[0], &client, 12_345);
    let slow = session(ringlane.address());
    // PAUSE: the session needs a duration that differs from zero.
    pause(Duration::from_millis(50));
    drop(slow);
    assert!(ringlane.log(2)[1]["duration_us"].as_u64() >= Some(50_000));
    ringlane.end();
}

/// Reads `name=value` words into what the JSON form would have.
fn parse_text(line: &str) -> Value {
    let words = line.split(' ').map(|word| word.split_once('=').unwrap());
    let value = |text: &str| match text.parse::<u64>() {
        Ok(number) => Value::from(number),
        Err(_) => Value::from(text),
    };
    words
        .map(|(name, text)| (name.to_owned(), value(text)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn a_text_line_has_every_field_on_stderr() {
    let echo = Echo::start();
    let log = r#"access_log = { format = "text", to = "stderr" }"#;
    let ringlane = Setup::to(&[echo.address]).global(log).start();
    let client = one_session(ringlane.address(), 777);
    let line = ringlane.wait_for_word("close=--");
    expect_fields(&parse_text(&line), &client, 777);
    ringlane.end();
}

#[test]
fn a_file_is_opened_anew_after_a_rotation() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let (path, rotated) = (setup.path("access.log"), setup.path("access.log.1"));
    let ringlane = setup.start();
    one_session(ringlane.address(), 1);
    ringlane.log(1);
    fs::rename(&path, &rotated).unwrap();
    ringlane.signal(Signal::SIGUSR1);
    wait_until("a new file", || path.exists());
    ringlane.wait_for_word(&format!("access log: reopened {}", path.display()));
    one_session(ringlane.address(), 2);
    assert_eq!(ringlane.log(1)[0]["bytes_in"], 2);
    assert_eq!(fs::read_to_string(&rotated).unwrap().lines().count(), 1);
    ringlane.end();
}

#[test]
fn a_syslog_daemon_gets_a_datagram_per_session() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let path = setup.path("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = format!("access_log = {{ format = \"json\", to = \"syslog:{}\" }}", path_str(&path));
    let ringlane = setup.global(&log).start();
    for bytes in [10, 20, 30] {
        let client = one_session(ringlane.address(), bytes);
        let mut buffer = [0; 2048];
        let length = daemon.recv(&mut buffer).unwrap();
        let datagram = str::from_utf8(&buffer[..length]).unwrap();
        let head = format!("<134>ringlane[{}]: ", ringlane.process().0);
        let line = datagram.strip_prefix(&head).unwrap_or_else(|| panic!("{datagram}"));
        expect_fields(&serde_json::from_str(line).unwrap(), &client, bytes);
    }
    ringlane.end();
}

/// Whether it is one whole line of the process's log: time, level, name, sentence.
fn is_line(line: &str) -> bool {
    let mut words = line.splitn(4, ' ');
    let (time, level) = (words.next().unwrap(), words.next().unwrap_or_default());
    let is_time = time.len() == 27 && time.starts_with("20") && time.ends_with('Z');
    let is_level = ["error", "warning", "info", "debug"].contains(&level);
    is_time && is_level && words.next().is_some_and(|name| name.starts_with("ringlane"))
}

/// How many records the balancer has said to have lost, all its life.
fn lost(said: &[String]) -> usize {
    let counts = said.iter().filter_map(|line| {
        line.split_once("ringlane: access log: ")?
            .1
            .split_once(" records lost")?
            .0
            .parse::<usize>()
            .ok()
    });
    counts.sum::<usize>()
}

#[test]
fn a_fifo_that_nobody_reads_costs_lines_and_nothing_else() {
    const SESSIONS: usize = 1000;
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let path: PathBuf = setup.path("fifo");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let reader =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
    let log = format!("access_log = {{ format = \"json\", to = \"file:{}\" }}", path_str(&path));
    let ringlane = setup.global(&log).start();
    (0..SESSIONS).for_each(|_| drop(session(ringlane.address())));
    ringlane.wait_for_word("records lost");
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.wait_until_idle();
    let said = ringlane.end();
    let mut held = Vec::new();
    // All that was written is in the pipe; its writer has gone.
    std::io::Read::read_to_end(&mut &reader, &mut held).unwrap();
    let text = String::from_utf8_lossy(&held);
    let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    println!("{SESSIONS} sessions: {whole} lines in the pipe, {} lost and counted", lost(&said));
    assert_eq!(whole + lost(&said), SESSIONS);
}

#[test]
fn a_syslog_daemon_that_reads_nothing_costs_lines_and_nothing_else() {
    const SESSIONS: usize = 2000;
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let path = setup.path("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let log = format!("access_log = {{ format = \"text\", to = \"syslog:{}\" }}", path_str(&path));
    let ringlane = setup.global(&log).start();
    (0..SESSIONS).for_each(|_| drop(session(ringlane.address())));
    ringlane.wait_for_word("records lost");
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.wait_until_idle();
    let said = ringlane.end();
    daemon.set_nonblocking(true).unwrap();
    let held = std::iter::from_fn(|| daemon.recv(&mut [0; 2048]).ok()).count();
    println!("{SESSIONS} sessions: {held} datagrams held, {} lost and counted", lost(&said));
    assert_eq!(held + lost(&said), SESSIONS);
}

#[test]
fn a_shard_whose_queue_is_full_drops_and_counts() {
    // While the log's thread is stuck at a terminal or disk, records pile up in the queues. Here
    // nobody reads stderr: the pipe fills up, and then the queues do.
    const SESSIONS: u64 = 60_000;
    let _alone = crate::harness::heavy();
    let echo = Echo::start();
    let log = r#"access_log = { format = "json", to = "stderr" }"#;
    let mut ringlane = Setup::to(&[echo.address]).global(log).deaf().start();
    let address = ringlane.address();
    std::thread::scope(|scope| {
        for client in 1..=8 {
            scope.spawn(move || {
                let source = std::net::Ipv4Addr::new(127, 0, 6, client);
                for _ in 0..SESSIONS / 8 {
                    let mut client = crate::harness::client::connect_from(source, address).unwrap();
                    round_trip(&mut client, b"hello");
                }
            });
        }
    });
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("sessions"), SESSIONS);
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    let dropped = wait_for("records to be dropped", || {
        let dropped: u64 = ringlane.shards("log_records_dropped").iter().sum();
        (dropped > 0).then_some(dropped)
    });
    println!("{SESSIONS} sessions, nobody reads stderr: {dropped} records dropped and counted");
    ringlane.listen_again();
    let said = ringlane.end();
    // What else is said there stands between records, never within one.
    let is_record = |line: &str| serde_json::from_str::<Value>(line).is_ok();
    let (records, words): (Vec<&String>, Vec<&String>) = said.iter().partition(|l| is_record(l));
    assert!(words.iter().all(|word| is_line(word)), "{words:#?}");
    assert_eq!(records.len() as u64 + dropped, SESSIONS);
}

/// Orders another weight, which logs a line of some 200 bytes, until stderr has lost some.
fn fill_stderr(ringlane: &Ringlane, backend: &str) {
    let path = format!("/v1/backends/{backend}/servers/s");
    for weight in 0.. {
        let body = format!("{{\"weight\": {}}}", weight % 2);
        let head = ringlane.ask_with("POST", &path, &body).0;
        assert!(head.contains(" 200 "), "{head}");
        if weight % 100 == 0 && ringlane.metrics()["ringlane_log_lines_lost_total"] > 0.0 {
            return;
        }
    }
}

fn with_long_lines() -> (String, Setup) {
    let backend = "b".repeat(128);
    let body = format!(
        "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nbackend = \"{backend}\"\n\
         [[backend]]\nname = \"{backend}\"\n\
         server = [{{ name = \"s\", address = \"127.0.0.1:9\" }}]\n"
    );
    (backend, Setup::of(&body))
}

#[test]
fn a_stderr_that_nobody_reads_costs_log_lines_and_nothing_else() {
    let (backend, setup) = with_long_lines();
    let mut ringlane = setup.deaf().start();
    fill_stderr(&ringlane, &backend);
    assert!(ringlane.is_healthy());
    ringlane.listen_again();
    let report = wait_for("a report of lost lines", || {
        // One more line, since what was lost is reported after the next one that is written.
        ringlane.signal(Signal::SIGHUP);
        ringlane.said().into_iter().find(|line| line.contains(" log lines lost: "))
    });
    let sentence = report.split_once("ringlane: ").unwrap().1;
    let lost: f64 = sentence.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(lost, ringlane.metrics()["ringlane_log_lines_lost_total"], "{report}");
    ringlane.end();
}

#[test]
fn a_balancer_ends_though_nobody_reads_its_stderr() {
    let (backend, setup) = with_long_lines();
    let mut ringlane = setup.deaf().start();
    fill_stderr(&ringlane, &backend);
    ringlane.signal(Signal::SIGTERM);
    assert!(ringlane.ended().success());
}

#[test]
fn lines_on_stderr_have_time_and_level() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    ringlane.order("back/s1", "maint");
    let error = ringlane.wait_for_word("backend back: no usable server");
    assert_eq!(error.split(' ').nth(1), Some("error"), "{error}");
    let said = ringlane.end();
    assert!(said.iter().all(|line| is_line(line)), "{said:#?}");
    assert!(said[0].contains(" info ringlane ") && said[0].contains(" ready: "), "{said:#?}");
    assert!(said.last().unwrap().ends_with(" info ringlane: stopped"), "{said:#?}");
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time() {
    let echo = Echo::start();
    // The variable names the file that stderr is, as systemd does it.
    let service = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec \"$@\"";
    let ringlane = Setup::to(&[echo.address]).through(&["sh", "-c", service, "sh"]).start();
    ringlane.order("back/s1", "maint");
    let error = ringlane.wait_for_word("backend back: no usable server");
    assert!(error.starts_with("<3>backend back"), "{error}");
    let said = ringlane.end();
    assert!(said[0].starts_with("<6>ringlane ") && said[0].contains(" ready: "), "{said:#?}");
    // Inherited by whoever is started with a stderr of its own, it means nothing.
    let other = Setup::to(&[echo.address]).environment("JOURNAL_STREAM", "1:1").start();
    assert!(is_line(&other.end()[0]));
}

#[test]
fn lines_as_json_have_the_documented_fields() {
    let echo = Echo::start();
    let log = "log = { format = \"json\", level = \"warning\" }";
    let ringlane = Setup::to(&[echo.address]).global(log).start();
    ringlane.order("back/s1", "maint");
    ringlane.wait_for_word("no usable server");
    let said = ringlane.end();
    let lines: Vec<Value> = said.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let error = lines.iter().find(|line| line["event"] == "backend_without_server").unwrap();
    assert_eq!((&error["level"], &error["backend"]), (&"error".into(), &"back".into()));
    assert_eq!(error["count"], 1);
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("backend back: no usable server: of 1 server"), "{error}");
    // That it is ready is said at any level; what an operator ordered is not a warning.
    assert_eq!(lines[0]["event"], "ready");
    let levels: Vec<_> = lines[1..].iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert!(levels.iter().all(|level| ["warning", "error"].contains(level)), "{lines:#?}");
}

#[test]
fn the_log_goes_to_a_file_that_is_reopened_and_readiness_to_stderr_too() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let (path, rotated) = (setup.path("ringlane.log"), setup.path("ringlane.log.1"));
    let log = format!("log = {{ to = \"file:{}\" }}", path_str(&path));
    let ringlane = setup.global(&log).start();
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    wait_until("the ready line in the file", || read(&path).contains(" ready: "));
    fs::rename(&path, &rotated).unwrap();
    ringlane.signal(Signal::SIGUSR1);
    wait_until("a new file", || read(&path).contains("ringlane: log: reopened "));
    ringlane.order("back/s1", "maint");
    wait_until("the event", || read(&path).contains("backend back: no usable server"));
    // What this directory's story is about is over before its files are removed with it.
    let said = ringlane.end();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains(" ready: "), "{said:#?}");
}

#[test]
fn a_syslog_daemon_gets_the_log_with_severities() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let path = setup.path("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = format!("log = {{ to = \"syslog:{}\" }}", path_str(&path));
    let ringlane = setup.global(&log).start();
    ringlane.order("back/s1", "maint");
    let mut buffer = [0; 8192];
    let mut next = || {
        let length = daemon.recv(&mut buffer).unwrap();
        str::from_utf8(&buffer[..length]).unwrap().to_owned()
    };
    let head = format!("<30>ringlane[{}]: ringlane ", ringlane.process().0);
    let ready = next();
    assert!(ready.starts_with(&head) && ready.contains(" ready: "), "{ready}");
    let error = wait_for("the error", || Some(next()).filter(|line| line.contains("no usable")));
    assert!(error.starts_with("<27>ringlane["), "{error}");
    ringlane.end();
}

#[test]
fn a_log_that_takes_no_lines_is_reported_on_stderr_once_and_counted_at_the_end() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).global("log = { to = \"file:/dev/full\" }").start();
    ringlane
        .wait_for_word(" error ringlane: log: lines are lost: /dev/full: No space left on device");
    for state in ["drain", "maint", "ready"] {
        ringlane.order("back/s1", state);
    }
    wait_until("all of them to be lost", || {
        ringlane.metrics()["ringlane_log_lines_lost_total"] >= 4.0
    });
    let said = ringlane.end();
    assert_eq!(said.iter().filter(|line| line.contains("lines are lost")).count(), 1, "{said:#?}");
    let last = said.last().unwrap();
    let count = last.split_once(" warning ringlane: ").unwrap().1.split_once(' ').unwrap();
    assert!(count.0.parse::<u32>().unwrap() >= 5, "{last}");
    assert_eq!(count.1, "log lines lost: /dev/full was full or failed");
}

#[test]
fn a_log_that_cannot_be_opened_refuses_the_start() {
    let echo = Echo::start();
    let setup = Setup::to(&[echo.address]);
    let path = setup.path("missing").join("ringlane.log");
    let log = format!("log = {{ to = \"file:{}\" }}", path_str(&path));
    let said = setup.global(&log).refused();
    let why = format!("error ringlane: cannot open the log: {}: ", path.display());
    assert!(said.contains(&why) && said.contains("create the directory"), "{said}");
    let said = Setup::to(&[echo.address]).global("log = { to = \"file:/tmp\" }").refused();
    assert!(said.contains("/tmp: Is a directory") && said.contains("name a file"), "{said}");
}

#[test]
fn at_level_debug_each_check_that_fails_is_a_line() {
    let mut setup = Setup::to(&[]).global("log = { level = \"debug\", format = \"json\" }");
    setup = setup.backend("check = { kind = \"tcp\", interval = \"50ms\", fall = 2 }");
    setup.server(&format!("name = \"s1\", address = \"{}\"", free_port()));
    let ringlane = setup.start();
    let changed: Value =
        serde_json::from_str(&ringlane.wait_for_word("\"server_changed\"")).unwrap();
    assert_eq!((&changed["level"], &changed["server"]), (&"warning".into(), &"s1".into()));
    let failed: Value = serde_json::from_str(&ringlane.wait_for_word("\"check_failed\"")).unwrap();
    assert_eq!((&failed["level"], &failed["backend"]), (&"debug".into(), &"back".into()));
    ringlane.end();
}

/// The first message of a client of PostgreSQL in clear text.
fn startup(user: &str, database: &str) -> Vec<u8> {
    let parameters = format!("user\0{user}\0database\0{database}\0\0");
    let length = u32::try_from(8 + parameters.len()).unwrap();
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], parameters.as_bytes()].concat()
}

#[test]
fn a_session_without_server_names_the_backend_of_its_route_and_who_asked() {
    let echo = Echo::start();
    let body = format!(
        r#"
        [[frontend]]
        name = "front"
        bind = "127.0.0.1:0"
        protocol = "postgres"
        backend = "back"
        timeout = {{ connect = "500ms" }}
        route = [{{ user = "eve", backend = "other" }}]
        [[backend]]
        name = "back"
        server = [{{ name = "s1", address = "{}" }}]
        [[backend]]
        name = "other"
        server = [{{ name = "o1", address = "{}" }}]
        "#,
        echo.address,
        free_port()
    );
    let ringlane = Setup::of(&body).start();
    // A database whose name would be fields and lines of its own.
    let database = "d b\" close=-- \n{\"time\":1}\u{1b}[2K\u{202e}";
    let mut client = connect(ringlane.address());
    client.write_all(&startup("eve", database)).unwrap();
    let record = &ringlane.log(1)[0];
    for (field, expected) in [
        ("backend", Value::from("other")),
        ("server", Value::Null),
        ("close", "SC".into()),
        ("tried", vec!["o1"].into()),
        ("user", "eve".into()),
        ("database", database.into()),
        ("sni", Value::Null),
    ] {
        assert_eq!(record[field], expected, "{field}: {record}");
    }
    let mut client = connect(ringlane.address());
    client.write_all(&startup("ann", "app")).unwrap();
    drop(client);
    let record = &ringlane.log(2)[1];
    assert_eq!((&record["backend"], &record["user"]), (&"back".into(), &"ann".into()));
    ringlane.end();
}

#[test]
fn a_line_has_the_fields_that_are_configured() {
    let echo = Echo::start();
    let log = "access_log = { to = \"stderr\", fields = [\"close\", \"server\", \"reason\"] }";
    let ringlane = Setup::to(&[echo.address]).global(log).start();
    one_session(ringlane.address(), 5);
    assert_eq!(ringlane.wait_for_word("close="), "close=-- server=s1 reason=-");
    ringlane.end();
}
