//! PostgreSQL behind a frontend that knows its protocol: routes, cancels, and drains between
//! transactions.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::certificates::{Authority, show};
use crate::harness::client::connect;
use crate::harness::postgres::Postgres;
use crate::harness::program::{Beside, bound_to_us, find};
use crate::harness::session::{Answer, Session};
use crate::harness::{AtEnd, heavy, pause, wait_until};

/// Lets everybody in.
const TRUSTED: &[&str] = &["host all all all trust"];

/// A balancer of a backend for each server, `s1` and so on, the first of which is the default.
fn balance(servers: &[SocketAddr], lines: &str) -> Ringlane {
    let mut body = format!(
        "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nprotocol = \"postgres\"\n\
         backend = \"s1\"\n{lines}\n"
    );
    for (number, address) in (1..).zip(servers) {
        body += &format!(
            "[[backend]]\nname = \"s{number}\"\nserver = [{{ address = \"{address}\" }}]\n"
        );
    }
    Setup::of(&body).start()
}

/// What psql gives, or what it complains of.
fn psql(connection: &str, query: &str) -> Result<String, String> {
    let output = bound_to_us()
        .arg(find("psql", "postgresql-client"))
        .args(["-AtX", "-c", query, connection])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn port(server: &Postgres) -> String {
    server.address.port().to_string()
}

#[test]
fn clients_reach_their_server_by_name_under_tls_and_by_user_in_clear_text() {
    let _alone = heavy();
    let authority = Authority::new();
    let with_name =
        |name: &str| Postgres::guarded(&authority.issue(name, &format!("DNS:{name}"), 5), TRUSTED);
    let servers = ["one.lan", "two.lan"].map(with_name);
    let addresses = servers.each_ref().map(|server| server.address);
    for server in &servers {
        server.ask("create role report login");
    }
    let ringlane = balance(
        &addresses,
        "route = [{ sni = \"two.lan\", backend = \"s2\" }, { user = \"report\", backend = \"s2\" }]",
    );
    let at = format!("hostaddr=127.0.0.1 port={} dbname=postgres", ringlane.address().port());
    let ca = authority.certificate();
    let verified = format!("sslmode=verify-full sslrootcert={}", path_str(&ca));
    let show_port = "show port";
    for (connection, server) in [
        (format!("{at} host=one.lan user=it {verified}"), 0),
        (format!("{at} host=two.lan user=it {verified}"), 1),
        (format!("{at} host=two.lan user=it sslmode=require"), 1),
        // The name goes before the user, who is said under TLS.
        (format!("{at} host=one.lan user=report {verified}"), 0),
        (format!("{at} host=two.lan user=it sslmode=disable"), 0),
        (format!("{at} host=one.lan user=report sslmode=disable"), 1),
    ] {
        assert_eq!(psql(&connection, show_port), Ok(port(&servers[server])), "{connection}");
    }
    let wrong = format!("{at} host=three.lan user=it {verified}");
    assert!(psql(&wrong, show_port).unwrap_err().contains("one.lan"), "{wrong}");
    ringlane.end();
}

#[test]
fn the_server_says_whether_it_has_tls_where_no_route_goes_by_name() {
    let _alone = heavy();
    let authority = Authority::new();
    let plain = Postgres::start();
    let secure = Postgres::guarded(&authority.issue("pg", "DNS:pg.lan", 5), TRUSTED);
    secure.ask("create role report login");
    let addresses = [plain.address, secure.address];
    let ringlane = balance(&addresses, "route = [{ user = \"report\", backend = \"s2\" }]");
    let at = format!("host=127.0.0.1 port={} dbname=postgres", ringlane.address().port());
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(psql(&format!("{at} user=it sslmode=prefer"), encrypted), Ok("f".to_owned()));
    let required = psql(&format!("{at} user=it sslmode=require"), encrypted).unwrap_err();
    assert!(required.contains("server does not support SSL"), "{required}");
    // The server of who turns out to be another user is another one, which was not asked for TLS.
    let report = psql(&format!("{at} user=report sslmode=prefer"), "show port");
    assert_eq!(report, Ok(port(&secure)));
    ringlane.end();

    let ringlane = balance(&[secure.address], "");
    let at = format!("host=127.0.0.1 port={} dbname=postgres", ringlane.address().port());
    assert_eq!(psql(&format!("{at} user=it sslmode=prefer"), encrypted), Ok("t".to_owned()));
    assert_eq!(psql(&format!("{at} user=it sslmode=disable"), encrypted), Ok("f".to_owned()));
    ringlane.end();
}

#[test]
fn a_client_that_begins_with_tls_at_once_is_routed_too() {
    let authority = Authority::new();
    let servers = ["one", "two"].map(|name| {
        show(&authority.issue(name, &format!("DNS:{name}.lan"), 5), &["-alpn", "postgresql"])
    });
    let ringlane = balance(
        &servers.each_ref().map(|(address, _)| *address),
        "route = [{ sni = \"two.lan\", backend = \"s2\" }]",
    );
    for (name, server) in [("one.lan", "one.lan"), ("two.lan", "two.lan")] {
        let output = bound_to_us()
            .arg(find("openssl", "openssl"))
            .args(["s_client", "-connect", &ringlane.address().to_string()])
            .args(["-alpn", "postgresql", "-servername", name, "-verify_hostname", server])
            .args(["-CAfile", path_str(&authority.certificate()), "-verify_return_error"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("ALPN protocol: postgresql") && output.status.success(), "{said}");
    }
    ringlane.end();
}

#[test]
fn who_fits_no_route_is_told_so() {
    let postgres = Postgres::start();
    let ringlane = balance(
        &[postgres.address],
        "route = [{ user = \"app\", database = \"shop\", backend = \"s1\" }]\nunmatched = \"reject\"",
    );
    let at = format!("host=127.0.0.1 port={} sslmode=disable", ringlane.address().port());
    let refused = psql(&format!("{at} user=it dbname=shop"), "select 1").unwrap_err();
    assert!(refused.contains("no route for user \"it\" and database \"shop\""), "{refused}");
    let passed = psql(&format!("{at} user=app dbname=shop"), "select 1").unwrap_err();
    assert!(passed.contains("role \"app\" does not exist"), "the server itself says so: {passed}");
    ringlane.end();
}

/// psql in the middle of a long query.
struct Sleeper {
    psql: Beside,
    server: usize,
}

#[test]
fn a_cancel_reaches_the_server_whose_query_it_means_and_no_other() {
    let _alone = heavy();
    let servers: Vec<Postgres> = (0..3).map(|_| Postgres::start()).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let ringlane = Setup::to(&addresses)
        .frontend("protocol = \"postgres\"")
        .backend("balance = \"least_conn\"")
        .start();
    let asleep = |server: &Postgres| {
        let query = "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'";
        server.ask(query).parse::<usize>().unwrap()
    };
    let connection =
        format!("host=127.0.0.1 port={} user=it dbname=postgres", ringlane.address().port());
    let mut sleepers: Vec<Sleeper> = Vec::new();
    for _ in 0..6 {
        let before: Vec<usize> = servers.iter().map(asleep).collect();
        let mut command = bound_to_us();
        command.arg(find("psql", "postgresql-client"));
        command.args(["-AtX", "-c", "select pg_sleep(600)", &connection]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let psql = Beside::start(&mut command, Signal::SIGKILL);
        let grown = || (0..3).find(|&n| asleep(&servers[n]) > before[n]);
        wait_until("the query to run", || grown().is_some());
        sleepers.push(Sleeper { psql, server: grown().unwrap() });
    }
    assert!((0..3).all(|n| sleepers.iter().filter(|sleeper| sleeper.server == n).count() == 2));
    while let Some(mut sleeper) = sleepers.pop() {
        let pid = Pid::from_raw(sleeper.psql.child().id().cast_signed());
        kill(pid, Signal::SIGINT).unwrap();
        wait_until("psql to end", || sleeper.psql.has_ended());
        let mut said = String::new();
        sleeper.psql.child().stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("canceling statement due to user request"), "{said}");
        for (number, server) in servers.iter().enumerate() {
            let left = sleepers.iter().filter(|sleeper| sleeper.server == number).count();
            wait_until("the other queries to run on", || asleep(server) == left);
        }
    }
    ringlane.end();
}

#[test]
fn a_drain_ends_sessions_between_transactions_and_says_so() {
    let postgres = Postgres::start();
    let ringlane = Setup::to(&[postgres.address])
        .frontend("protocol = \"postgres\"")
        .backend("on_drain = \"drain\"")
        .start();
    let mut busy = Session::begin(ringlane.address());
    let idle = Session::begin(ringlane.address());
    assert_eq!(busy.query("begin"), b'T');
    busy.query("create table t (n int)");
    ringlane.order("back/s1", "drain");
    assert_eq!(idle.ended_with(), "57P01");
    assert_eq!(busy.query("insert into t values (7)"), b'T', "in its transaction it goes on");
    assert_eq!(busy.query("commit"), b'I');
    assert_eq!(busy.ended_with(), "57P01");
    assert_eq!(postgres.ask("select n from t"), "7");
    ringlane.end();
}

/// pgbench's clients, and the transactions of each, each over a session of its own.
const CLIENTS: usize = 500;
const TRANSACTIONS: usize = 3;

/// Clients that keep their sessions for as long as these last.
const KEPT: usize = 8;

/// How long such a client thinks.
const THINKING: Duration = Duration::from_millis(5);

/// Three servers that hold this many sessions each, behind a balancer with these lines in its
/// backend.
fn three_servers(lines: &str) -> (Vec<Postgres>, Ringlane) {
    let settings = ["max_connections=600", "shared_buffers=16MB", "max_wal_senders=0"];
    let servers: Vec<Postgres> = (0..3).map(|_| Postgres::with_settings(&settings)).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let setup = Setup::to(&addresses).frontend("protocol = \"postgres\"");
    (servers, setup.backend("balance = \"least_conn\"").backend(lines).start())
}

/// Drains each server, restarts it when its last session has ended, and puts it back.
fn restart_in_turn(servers: &mut [Postgres], ringlane: &Ringlane) {
    for (number, server) in servers.iter_mut().enumerate() {
        let name = format!("back/s{}", number + 1);
        ringlane.order(&name, "drain");
        wait_until("its sessions to end", || ringlane.servers("sessions_live")[number] == 0);
        server.restart();
        ringlane.order(&name, "ready");
    }
}

#[test]
fn servers_are_restarted_in_turn_while_pgbench_runs_and_no_transaction_fails() {
    let _alone = heavy();
    let (mut servers, ringlane) = three_servers("");
    let port = ringlane.address().port().to_string();
    let folder = TempDir::with_prefix("ringlane-it-").unwrap();
    let script = folder.path().join("script.sql");
    std::fs::write(&script, "begin;\nselect 1;\ncommit;\n").unwrap();
    let mut pgbench = bound_to_us();
    pgbench.arg(find("pgbench", "postgresql-contrib"));
    pgbench.args(["-h", "127.0.0.1", "-p", &port, "-U", "it", "-n", "-C", "-j", "2"]);
    pgbench.args(["-c", &CLIENTS.to_string(), "-t", &TRANSACTIONS.to_string()]);
    pgbench.args(["-f", path_str(&script), "postgres"]);
    pgbench.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let pgbench = pgbench.spawn().unwrap();
    restart_in_turn(&mut servers, &ringlane);
    let output = pgbench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let total = CLIENTS * TRANSACTIONS;
    assert!(said.contains(&format!("actually processed: {total}/{total}")), "{said}");
    assert!(said.contains("number of failed transactions: 0 "), "{said}");
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.end();
}

/// Transactions over one session after another until `over`; how many were committed. A session may
/// end between two of them, which is told before the first word of the next is acted upon.
fn transactions(address: SocketAddr, over: &AtomicBool) -> usize {
    let mut committed = 0;
    let mut session = Session::begin(address);
    while !over.load(Ordering::Relaxed) {
        match session.ask("begin") {
            Answer::Ready(b'T', _) => {}
            // The last word may be lost, as what was sent after it was answered by a reset.
            Answer::Gone => {
                session = Session::begin(address);
                continue;
            }
            Answer::Error(code) if code == "57P01" => {
                session = Session::begin(address);
                continue;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(session.query("insert into kept values (1)"), b'T');
        assert_eq!(session.query("commit"), b'I');
        committed += 1;
        // PAUSE: a client spends most of its time between transactions.
        pause(THINKING);
    }
    committed
}

#[test]
fn sessions_that_stay_move_between_their_transactions() {
    let _alone = heavy();
    let (mut servers, ringlane) = three_servers("on_drain = \"drain\"");
    for server in &servers {
        server.ask("create table kept (n int)");
    }
    let (address, over) = (ringlane.address(), AtomicBool::new(false));
    let committed: usize = thread::scope(|scope| {
        let kept: Vec<_> =
            (0..KEPT).map(|_| scope.spawn(|| transactions(address, &over))).collect();
        let end = AtEnd(&over);
        restart_in_turn(&mut servers, &ringlane);
        drop(end);
        kept.into_iter().map(|kept| kept.join().unwrap()).sum()
    });
    let rows = servers.iter().map(|server| server.ask("select count(*) from kept"));
    let rows: usize = rows.map(|count| count.parse::<usize>().unwrap()).sum();
    assert_eq!(rows, committed, "what was acknowledged is there, and nothing else");
    println!("{committed} transactions over {} sessions", ringlane.frontend("sessions"));
    ringlane.end();
}

#[test]
fn who_asks_for_gssapi_is_told_that_there_is_none_and_goes_on() {
    let server = Postgres::start();
    let ringlane = balance(&[server.address], "");
    let mut client = connect(ringlane.address());
    // GSSENCRequest, and the answer that it is not offered.
    client.write_all(&[0, 0, 0, 8, 4, 210, 22, 48]).unwrap();
    let mut answer = [0];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N");
    client.write_all(b"\0\0\0\x11\0\x03\0\0user\0it\0\0").unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"R", "the server has begun to log it in");
    drop(client);
    ringlane.end();
}
