//! Checks of databases that let no new client in, though those that they have are served on.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::{self, Postgres};
use crate::harness::redis::Redis;
use crate::harness::session::Session;
use crate::harness::talk::{Database, Talk};
use crate::harness::{heavy, pause, wait_until};

/// A balancer with a check that is quick to see things.
fn watch(servers: &[SocketAddr], keys: &str) -> Ringlane {
    let check =
        format!("check = {{ {keys}, interval = \"50ms\", timeout = \"5s\", rise = 1, fall = 2 }}");
    Setup::to(servers).shards(1).backend(&check).start()
}

fn wait_for_state(ringlane: &Ringlane, state: &str) {
    wait_until(state, || {
        ringlane.server_field(0, "/state") == state
            && ringlane.server_field(0, "/check") != Value::Null
    });
}

/// With a login each time or a kept one, the server falls when `fill` has taken all places, and
/// rises when they are free again.
fn falls_when_full<T>(server: SocketAddr, keys: &str, why: &[&str], fill: impl Fn() -> T) {
    for login in ["each", "kept"] {
        let ringlane = watch(&[server], &format!("{keys}, login = \"{login}\""));
        wait_for_state(&ringlane, "up");
        let taken = fill();
        wait_for_state(&ringlane, "down");
        let said = ringlane.server_field(0, "/changes/0/reason");
        let said = said.as_str().unwrap();
        assert!(why.iter().any(|why| said.contains(why)), "{login}: {said}");
        drop(taken);
        wait_for_state(&ringlane, "up");
        ringlane.end();
    }
}

#[test]
fn a_redis_that_has_as_many_clients_as_it_may_falls() {
    let redis = Redis::start(&["--maxclients", "6"]);
    // One more than there are places: who comes when all are taken is refused and gone.
    let fill = || (0..7).map(|_| TcpStream::connect(redis.address).unwrap()).collect::<Vec<_>>();
    let held = || {
        let mut held = Vec::new();
        wait_until("all places to be taken", || {
            held.push(fill());
            let mut one_more = Talk::try_begin(Database::Redis, redis.address).unwrap();
            one_more.ask("PING").is_none()
        });
        held
    };
    // Its last word may be lost to the reset behind it.
    let why = &["max number of clients", "reset by peer", "broken pipe"];
    falls_when_full(redis.address, "kind = \"redis\"", why, held);
}

#[test]
fn a_mariadb_without_a_free_connection_falls() {
    let mariadb = Mariadb::with_settings(1, &["--max-connections=10"]);
    // As an administrator, who gets the last one, which is for nobody else.
    let fill = || {
        let mut held = Vec::new();
        while let Some(session) = Talk::try_begin(Database::Mariadb, mariadb.address) {
            held.push(session);
        }
        held
    };
    let login = "kind = \"mysql\", user = \"monitor\", password = \"open sesame\"";
    falls_when_full(mariadb.address, login, &["Too many connections"], fill);
    // An administrator's own check is let in where others are not.
    let keep_one_out = || {
        let mut held = fill();
        held.pop();
        held
    };
    let login = "kind = \"mysql\", user = \"it\"";
    falls_when_full(mariadb.address, login, &["connections"], keep_one_out);
}

#[test]
fn a_postgres_without_a_free_slot_falls() {
    let settings = ["max_connections=8", "superuser_reserved_connections=3"];
    let postgres = Postgres::with_settings(&settings);
    postgres.ask("CREATE ROLE monitor LOGIN");
    // As a superuser, who may also have a reserved slot: one is left for the check and psql each.
    let fill = || (0..6).map(|_| Session::begin(postgres.address)).collect::<Vec<_>>();
    let check = |user: &str| format!("kind = \"postgres\", user = \"{user}\"");
    falls_when_full(postgres.address, &check("monitor"), &["connection slots"], fill);
    falls_when_full(postgres.address, &check("it"), &["connection slots"], fill);
}

#[test]
fn checks_leave_in_order() {
    let postgres = Postgres::start();
    let mariadb = Mariadb::start(1);
    let ringlane = watch(&[postgres.address], "kind = \"postgres\", user = \"it\"");
    passes(&ringlane, 10, || ());
    let log = postgres.log();
    for broken in ["unexpected EOF", "could not receive data", "Connection reset"] {
        assert!(!log.contains(broken), "{log}");
    }
    ringlane.end();
    let login = "kind = \"mysql\", user = \"monitor\", password = \"open sesame\"";
    let ringlane = watch(&[mariadb.address], login);
    passes(&ringlane, 10, || ());
    for counter in ["Aborted_connects", "Aborted_clients"] {
        let seen = mariadb.ask(&format!("SHOW GLOBAL STATUS LIKE '{counter}'"));
        assert_eq!(seen, format!("{counter}\t0"));
    }
    ringlane.end();
}

#[test]
fn a_postmaster_that_is_stopped_falls_and_others_serve() {
    let _alone = heavy();
    for login in ["each", "kept"] {
        let servers = [Postgres::start(), Postgres::start()];
        let check = format!(
            "check = {{ kind = \"postgres\", user = \"it\", login = \"{login}\", \
             interval = \"200ms\", timeout = \"200ms\", fall = 2 }}"
        );
        let addresses = servers.each_ref().map(|server| server.address);
        let ringlane = Setup::to(&addresses).shards(1).backend(&check).start();
        wait_until("both roles", || {
            [0, 1].iter().all(|&server| ringlane.server_field(server, "/role") == "primary")
        });
        servers[0].signal(Signal::SIGSTOP);
        wait_until("the fall", || ringlane.server_field(0, "/state") == "down");
        let why = ringlane.server_field(0, "/changes/0/reason");
        assert_eq!(why, "no answer within 200ms");
        let port = servers[1].address.port().to_string();
        for _ in 0..4 {
            assert_eq!(postgres::ask(ringlane.address(), "SHOW port"), port);
        }
        servers[0].signal(Signal::SIGCONT);
        wait_until("the rise", || ringlane.server_field(0, "/state") == "up");
        ringlane.end();
    }
}

/// So many checks pass one after the other, and nothing changes meanwhile.
fn passes(ringlane: &Ringlane, checks: usize, each: impl Fn()) {
    wait_until("the first check", || ringlane.server_field(0, "/role") == "primary");
    let changes = ringlane.server_field(0, "/changes");
    let at = || ringlane.server_field(0, "/check/at");
    for _ in 0..checks {
        each();
        let before = at();
        wait_until("the next check", || at() != before);
        assert_eq!(ringlane.server_field(0, "/check/ok"), true);
    }
    assert_eq!(ringlane.server_field(0, "/changes"), changes);
}

#[test]
fn a_server_that_closes_idle_connections_soon_does_not_fail_a_kept_check() {
    let postgres = Postgres::with_settings(&["idle_session_timeout=500ms"]);
    let check = |kind: &str, interval: &str| {
        format!(
            "check = {{ {kind}, login = \"kept\", interval = \"{interval}\", timeout = \"10s\", \
             fall = 1 }}"
        )
    };
    let start = |server: SocketAddr, check: &str| Setup::to(&[server]).backend(check).start();
    let ringlane = start(postgres.address, &check("kind = \"postgres\", user = \"it\"", "1500ms"));
    passes(&ringlane, 3, || ());
    ringlane.end();
    let redis = Redis::start(&[]);
    let ringlane = start(redis.address, &check("kind = \"redis\"", "100ms"));
    passes(&ringlane, 12, || {
        redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    });
    ringlane.end();
    let mariadb = Mariadb::start(1);
    mariadb.ask("SET GLOBAL wait_timeout = 1");
    let login = "kind = \"mysql\", user = \"monitor\", password = \"open sesame\"";
    let ringlane = start(mariadb.address, &check(login, "2s"));
    passes(&ringlane, 2, || ());
    ringlane.end();
}

#[test]
fn each_check_is_a_login_unless_it_is_kept() {
    let redis = Redis::start(&[]);
    let connections = || {
        let info = redis.ask(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    // Of the connections of our own, one each time that is asked.
    let logins = |ringlane: &Ringlane, checks: usize| {
        let before = connections();
        passes(ringlane, checks, || ());
        connections() - before - 1
    };
    let ringlane = watch(&[redis.address], "kind = \"redis\"");
    assert!(logins(&ringlane, 20) >= 20);
    ringlane.end();
    let ringlane = watch(&[redis.address], "kind = \"redis\", login = \"kept\"");
    let seen = (0..5).map(|_| logins(&ringlane, 20)).sum::<u64>();
    assert!(seen >= 10, "every tenth: {seen}");
    ringlane.end();
}

#[test]
fn a_pause_of_the_balancer_is_no_failure_of_the_servers() {
    let (postgres, redis) = (Postgres::start(), Redis::start(&[]));
    for (server, keys) in [
        (postgres.address, "kind = \"postgres\", user = \"it\""),
        (redis.address, "kind = \"redis\""),
    ] {
        let check =
            format!("check = {{ {keys}, interval = \"20ms\", timeout = \"400ms\", fall = 1 }}");
        let ringlane = Setup::to(&[server]).backend(&check).start();
        wait_until("the role", || ringlane.server_field(0, "/role") == "primary");
        let changes = ringlane.server_field(0, "/changes");
        // Most of the time a check is under way.
        for _ in 0..5 {
            ringlane.signal(Signal::SIGSTOP);
            // PAUSE: a stop of the process must outlast the timeout of a check.
            pause(Duration::from_millis(600));
            ringlane.signal(Signal::SIGCONT);
            let before = ringlane.server_field(0, "/check/at");
            wait_until("the next check", || ringlane.server_field(0, "/check/at") != before);
        }
        assert_eq!(ringlane.server_field(0, "/changes"), changes);
        ringlane.end();
    }
}
