//! Replicated databases: writes go to the primary, reads to replicas that are not behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::mariadb::{self, Mariadb};
use crate::harness::postgres::{self, Postgres};
use crate::harness::redis::{self, Redis};
use crate::harness::session::{Answer, Session};
use crate::harness::{AtEnd, PATIENCE, heavy, wait_for, wait_until};

/// Two frontends on one backend: `front` for writes, `reads` for replicas.
fn body(servers: &[(&str, String)], check: &str, keys: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    format!(
        "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nbackend = \"db\"\nrole = \"primary\"\n\
         [[frontend]]\nname = \"reads\"\nbind = \"127.0.0.1:0\"\nbackend = \"db\"\nrole = \"replica\"\n\
         [[backend]]\nname = \"db\"\ncheck = {{ {check} }}\n{keys}\nserver = [{}]\n",
        servers.join(", ")
    )
}

/// A field of every server in `/status`.
fn all(ringlane: &Ringlane, field: &str) -> Vec<Value> {
    let status = ringlane.status();
    let servers = status["backends"][0]["servers"].as_array().unwrap();
    servers.iter().map(|server| server[field].clone()).collect()
}

const CHECK: &str = "interval = \"100ms\", timeout = \"10s\", rise = 1, fall = 2";

#[test]
fn postgresql_writes_follow_the_primary_and_reads_avoid_stale_replicas() {
    let _alone = heavy();
    let mut primary = Postgres::start();
    let replicas = [Postgres::replica_of(&primary), Postgres::replica_of(&primary)];
    primary.ask("CREATE TABLE kept (id serial, value int)");
    let servers = [
        ("pg1", primary.address.to_string()),
        ("pg2", replicas[0].address.to_string()),
        ("pg3", replicas[1].address.to_string()),
    ];
    let check = format!("kind = \"postgres\", user = \"it\", {CHECK}");
    let ringlane = Setup::of(&body(&servers, &check, "max_lag = \"4s\"")).start();
    let (writes, reads) = (ringlane.address(), ringlane.binds("reads")[0].parse().unwrap());
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica", "replica"]);
    wait_until("the replicas to have it all", || all(&ringlane, "stale") == [false; 3]);
    assert_eq!(postgres::ask(writes, "SELECT pg_is_in_recovery()"), "f");
    for _ in 0..4 {
        assert_eq!(postgres::ask(reads, "SELECT pg_is_in_recovery()"), "t");
    }
    postgres::ask(writes, "INSERT INTO kept (value) VALUES (1)");

    // A replica whose replay is paused falls behind as soon as there is something to replay.
    replicas[0].ask("SELECT pg_wal_replay_pause()");
    wait_until("the replica to be stale", || {
        postgres::ask(writes, "INSERT INTO kept (value) VALUES (2)");
        all(&ringlane, "stale") == [false, true, false]
    });
    let port = replicas[1].address.port().to_string();
    for _ in 0..4 {
        assert_eq!(postgres::ask(reads, "SELECT inet_server_port()"), port);
    }
    ringlane.wait_for_word("server db/pg2 is up replica stale (was up replica)");
    replicas[0].ask("SELECT pg_wal_replay_resume()");
    wait_until("the replica to catch up", || all(&ringlane, "stale") == [false; 3]);

    // The primary is lost and a replica is promoted.
    let count = postgres::ask(writes, "SELECT count(*) FROM kept");
    wait_until("the replica to have it all", || {
        replicas[0].ask("SELECT count(*) FROM kept") == count
    });
    primary.crash();
    let lost = Instant::now();
    wait_until("the primary to be down", || all(&ringlane, "state")[0] == "down");
    println!("the loss is seen after {:?}", lost.elapsed());
    replicas[0].promote();
    let promoted = Instant::now();
    wait_until("the new primary", || all(&ringlane, "role")[1] == "primary");
    println!("writes follow {:?} after the promotion", promoted.elapsed());
    postgres::ask(writes, "INSERT INTO kept (value) VALUES (3)");
    assert_eq!(postgres::ask(writes, "SELECT value FROM kept ORDER BY id DESC LIMIT 1"), "3");
    let port = replicas[0].address.port().to_string();
    assert_eq!(postgres::ask(writes, "SELECT inet_server_port()"), port);
    ringlane.end();
}

/// Writes until `over`, over one session after another; when each write was acknowledged, and by
/// which port.
fn write(address: SocketAddr, over: &AtomicBool) -> Vec<(Instant, String)> {
    let mut acknowledged = Vec::new();
    let mut session = None;
    while !over.load(Ordering::Relaxed) {
        let Some(open) = &mut session else {
            session = Session::try_begin(address);
            continue;
        };
        match open.ask("INSERT INTO kept VALUES (1) RETURNING current_setting('port')") {
            Answer::Ready(_, Some(port)) => acknowledged.push((Instant::now(), port)),
            _ => session = None,
        }
    }
    acknowledged
}

#[test]
fn nobody_writes_to_an_old_primary_once_somebody_writes_to_the_new_one() {
    let _alone = heavy();
    let old = Postgres::start();
    let new = Postgres::replica_of(&old);
    old.ask("CREATE TABLE kept (value int)");
    let ports = [&old, &new].map(|server| server.address.port().to_string());
    let servers = [("pg1", old.address.to_string()), ("pg2", new.address.to_string())];
    let check = format!("kind = \"postgres\", user = \"it\", {CHECK}");
    let keys = "on_conflict = \"newest\"\non_role_change = \"fence\"\nqueue = {}";
    let body =
        body(&servers, &check, keys).replacen("role =", "protocol = \"postgres\"\nrole =", 1);
    let ringlane = Setup::of(&body).start();
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    wait_until("the replica to have the table", || {
        new.ask("SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == "1"
    });
    let (address, over) = (ringlane.address(), AtomicBool::new(false));
    let acknowledged: Vec<(Instant, String)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|_| scope.spawn(|| write(address, &over))).collect();
        let end = AtEnd(&over);
        let rows = |server: &Postgres| server.ask("SELECT count(*) FROM kept").parse().unwrap();
        wait_until("writes to the old primary", || rows(&old) > 100);
        new.promote();
        wait_until("the new primary", || all(&ringlane, "role")[1] == "primary");
        let before: u32 = rows(&new);
        wait_until("writes to the new primary", || rows(&new) > before + 100);
        drop(end);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let times = |port: &str| -> Vec<Instant> {
        let by_port = acknowledged.iter().filter(|(_, by)| by == port);
        by_port.map(|(at, _)| *at).collect()
    };
    let last = times(&ports[0]).into_iter().max().unwrap();
    let first = times(&ports[1]).into_iter().min().unwrap();
    assert!(last < first, "{:?} too late", last - first);
    println!("no write was acknowledged for {:?} between two primaries", first - last);
    ringlane.end();
}

#[test]
fn two_primaries_stop_all_writing_until_one_is_left() {
    let servers = [Redis::start(&[]), Redis::start(&[])];
    let addresses =
        [("r1", servers[0].address.to_string()), ("r2", servers[1].address.to_string())];
    let check = format!("kind = \"redis\", {CHECK}");
    let ringlane = Setup::of(&body(&addresses, &check, "")).start();
    wait_until("the conflict", || all(&ringlane, "in_conflict") == [true, true]);
    ringlane.wait_for_word("up primary in conflict");
    let metric = |server: &str| {
        ringlane.metrics()
            [&format!("ringlane_server_primary{{backend=\"db\",server=\"{server}\"}}")]
    };
    assert_eq!((metric("r1"), metric("r2")), (0.0, 0.0));
    follow(&servers[1], &servers[0]);
    wait_until("one primary", || all(&ringlane, "role") == ["primary", "replica"]);
    assert_eq!(redis::ask(ringlane.address(), &["SET", "a", "1"]), "OK");
    ringlane.end();
}

/// Makes a Redis server the replica of another one.
fn follow(replica: &Redis, primary: &Redis) {
    let (host, port) = (primary.address.ip().to_string(), primary.address.port().to_string());
    replica.ask(&["REPLICAOF", &host, &port]);
}

#[test]
fn redis_writes_follow_the_promoted_replica() {
    let secret = ["--requirepass", "open sesame", "--masterauth", "open sesame"];
    let mut primary = Redis::start(&secret);
    let replica = Redis::start(&secret);
    let auth = ["--no-auth-warning", "-a", "open sesame"];
    let ask = |redis: &Redis, words: &[&str]| redis.ask(&[&auth[..], words].concat());
    let (host, port) = (primary.address.ip().to_string(), primary.address.port().to_string());
    ask(&replica, &["REPLICAOF", &host, &port]);
    let servers = [("r1", primary.address.to_string()), ("r2", replica.address.to_string())];
    let password = "password = { env = \"CHECK_PASSWORD\" }";
    let check = format!("kind = \"redis\", {password}, {CHECK}");
    let ringlane = Setup::of(&body(&servers, &check, "max_lag = \"5s\""))
        .environment("CHECK_PASSWORD", "open sesame")
        .start();
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    let through = |words: &[&str]| redis::ask(ringlane.address(), &[&auth[..], words].concat());
    assert_eq!(through(&["SET", "kept", "1"]), "OK");
    wait_for("the replica to have it", || (ask(&replica, &["GET", "kept"]) == "1").then_some(()));
    primary.crash();
    wait_until("the primary to be down", || all(&ringlane, "state")[0] == "down");
    ask(&replica, &["REPLICAOF", "NO", "ONE"]);
    wait_until("the new primary", || all(&ringlane, "role")[1] == "primary");
    assert_eq!(through(&["GET", "kept"]), "1");
    assert_eq!(through(&["SET", "kept", "2"]), "OK");
    ringlane.end();
}

#[test]
fn mariadb_writes_follow_the_promoted_replica() {
    let _alone = heavy();
    let mut primary = Mariadb::start(1);
    let replica = Mariadb::start(2);
    replica.follow(&primary);
    let servers = [("m1", primary.address.to_string()), ("m2", replica.address.to_string())];
    let login = "user = \"monitor\", password = \"open sesame\"";
    let check = format!("kind = \"mysql\", {login}, {CHECK}");
    let ringlane = Setup::of(&body(&servers, &check, "max_lag = \"5s\"")).start();
    let (writes, reads) = (ringlane.address(), ringlane.binds("reads")[0].parse().unwrap());
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    wait_until("the replica to have it all", || all(&ringlane, "stale") == [false; 2]);
    mariadb::ask(writes, "CREATE DATABASE kept; CREATE TABLE kept.t (n INT)");
    mariadb::ask(writes, "INSERT INTO kept.t VALUES (1)");
    assert_eq!(mariadb::ask(reads, "SELECT @@server_id"), "2");
    let has_it = "SELECT count(*) FROM information_schema.tables WHERE table_name = 't'";
    wait_until("the table", || replica.ask(has_it) == "1");
    wait_until("the row", || replica.ask("SELECT count(*) FROM kept.t") == "1");

    // A replica whose applying thread has stopped says nothing of its lag, which is no lag of 0.
    replica.ask("STOP SLAVE SQL_THREAD");
    wait_until("the replica to be stale", || all(&ringlane, "stale") == [false, true]);
    replica.ask("START SLAVE SQL_THREAD");
    wait_until("the replica to be back", || all(&ringlane, "stale") == [false; 2]);

    primary.crash();
    wait_until("the primary to be down", || all(&ringlane, "state")[0] == "down");
    replica.promote();
    wait_until("the new primary", || all(&ringlane, "role")[1] == "primary");
    mariadb::ask(writes, "INSERT INTO kept.t VALUES (2)");
    assert_eq!(mariadb::ask(writes, "SELECT count(*), @@server_id FROM kept.t"), "2\t2");
    ringlane.end();
}

/// A session with Redis that is asked again and again.
struct Talk(TcpStream);

impl Talk {
    fn begin(ringlane: &Ringlane) -> Self {
        let mut talk = Self(TcpStream::connect(ringlane.address()).unwrap());
        talk.0.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(talk.is_answered());
        talk
    }

    fn is_answered(&mut self) -> bool {
        let mut answer = [0; 7];
        self.0.write_all(b"PING\r\n").is_ok()
            && self.0.read_exact(&mut answer).is_ok()
            && answer == *b"+PONG\r\n"
    }
}

#[test]
fn sessions_of_the_old_primary_are_fenced_though_it_still_answers() {
    let servers = [Redis::start(&[]), Redis::start(&[])];
    follow(&servers[1], &servers[0]);
    let addresses =
        [("r1", servers[0].address.to_string()), ("r2", servers[1].address.to_string())];
    let check = format!("kind = \"redis\", {CHECK}");
    let keys = "on_role_change = \"fence\"\non_conflict = \"newest\"";
    let ringlane = Setup::of(&body(&addresses, &check, keys)).start();
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    let mut old = Talk::begin(&ringlane);
    servers[1].ask(&["REPLICAOF", "NO", "ONE"]);
    wait_until("the old session to be ended", || !old.is_answered());
    assert!(Talk::begin(&ringlane).is_answered());
    assert_eq!(redis::ask(ringlane.address(), &["SET", "a", "1"]), "OK");
    assert_eq!(servers[1].ask(&["GET", "a"]), "1");
    let closes: Vec<_> = ringlane.log(1).iter().map(|record| record["close"].clone()).collect();
    assert!(closes.contains(&"KD".into()), "{closes:?}");
    ringlane.end();
}

#[test]
fn drained_sessions_end_when_they_fall_silent() {
    let servers = [Redis::start(&[]), Redis::start(&[])];
    follow(&servers[1], &servers[0]);
    let addresses =
        [("r1", servers[0].address.to_string()), ("r2", servers[1].address.to_string())];
    let check = format!("kind = \"redis\", {CHECK}");
    let keys = "on_role_change = \"drain\"\non_conflict = \"newest\"";
    let ringlane = Setup::of(&body(&addresses, &check, keys)).start();
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    let (mut busy, mut silent) = (Talk::begin(&ringlane), Talk::begin(&ringlane));
    servers[1].ask(&["REPLICAOF", "NO", "ONE"]);
    wait_until("the new primary", || all(&ringlane, "role") == ["primary", "primary"]);
    silent.0.set_nonblocking(true).unwrap();
    wait_until("the silent session to end", || {
        assert!(busy.is_answered(), "one that talks goes on");
        matches!(silent.0.read(&mut [0]), Ok(0))
    });
    assert!(busy.is_answered());
    drop(busy);
    ringlane.wait_until_idle();
    ringlane.end();
}

#[test]
fn a_check_that_may_not_log_in_says_so() {
    let redis = Redis::start(&["--requirepass", "open sesame"]);
    for (password, said) in [
        ("password = \"wrong\", ", "authentication failed"),
        ("", "NOAUTH"),
        ("password = { file = \"/nowhere/pass\" }, ", "cannot read the password in /nowhere/pass"),
        ("password = { env = \"NO_SUCH\" }, ", "the variable NO_SUCH"),
    ] {
        let check = format!("kind = \"redis\", {password}{CHECK}");
        let servers = [("r1", redis.address.to_string())];
        let ringlane = Setup::of(&body(&servers, &check, "")).start();
        wait_until("the check to fail", || all(&ringlane, "state") == ["down"]);
        let why = ringlane.status()["backends"][0]["servers"][0]["check"]["said"].clone();
        assert!(why.as_str().unwrap().to_uppercase().contains(&said.to_uppercase()), "{why}");
        ringlane.end();
    }
}
