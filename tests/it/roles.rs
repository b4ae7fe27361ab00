//! Replicated databases: writes go to the primary, reads to replicas that are not behind.

use std::io::{Read, Write};

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::client::connect;
use crate::harness::member::{CHECK, all, writes_and_reads};
use crate::harness::postgres::{self, Postgres};
use crate::harness::redis::{self, Redis};
use crate::harness::talk::{Database, Talk};
use crate::harness::{heavy, wait_for, wait_until};

#[test]
fn postgresql_writes_go_to_the_primary_and_reads_avoid_stale_replicas() {
    let _alone = heavy();
    let primary = Postgres::start();
    let replicas = [Postgres::replica_of(&primary), Postgres::replica_of(&primary)];
    primary.ask("CREATE TABLE kept (id serial, value int)");
    let servers = [
        ("pg1", primary.address.to_string()),
        ("pg2", replicas[0].address.to_string()),
        ("pg3", replicas[1].address.to_string()),
    ];
    let check = format!("kind = \"postgres\", user = \"it\", {CHECK}");
    let ringlane = Setup::of(&writes_and_reads(&servers, &check, "max_lag = \"4s\"")).start();
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
    ringlane.end();
}

#[test]
fn two_primaries_stop_all_writing_until_one_is_left() {
    let servers = [Redis::start(&[]), Redis::start(&[])];
    let addresses =
        [("r1", servers[0].address.to_string()), ("r2", servers[1].address.to_string())];
    let check = format!("kind = \"redis\", {CHECK}");
    let ringlane = Setup::of(&writes_and_reads(&addresses, &check, "")).start();
    wait_until("the conflict", || all(&ringlane, "in_conflict") == [true, true]);
    ringlane.wait_for_word("up primary in conflict");
    let metric = |server: &str| {
        ringlane.metrics()
            [&format!("ringlane_server_primary{{backend=\"db\",server=\"{server}\"}}")]
    };
    assert_eq!((metric("r1"), metric("r2")), (0.0, 0.0));
    servers[1].follow(servers[0].address);
    wait_until("one primary", || all(&ringlane, "role") == ["primary", "replica"]);
    assert_eq!(redis::ask(ringlane.address(), &["SET", "a", "1"]), "OK");
    ringlane.end();
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
    let ringlane = Setup::of(&writes_and_reads(&servers, &check, "max_lag = \"5s\""))
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

/// A session with Redis that is answered.
fn begin(ringlane: &Ringlane) -> Talk {
    let mut talk = Talk::try_begin(Database::Redis, ringlane.address()).unwrap();
    assert_eq!(talk.ask("PING").unwrap(), "PONG");
    talk
}

#[test]
fn sessions_of_the_old_primary_are_fenced_though_it_still_answers() {
    let servers = [Redis::start(&[]), Redis::start(&[])];
    servers[1].follow(servers[0].address);
    let addresses =
        [("r1", servers[0].address.to_string()), ("r2", servers[1].address.to_string())];
    let check = format!("kind = \"redis\", {CHECK}");
    let keys = "on_role_change = \"fence\"\non_conflict = \"newest\"";
    let ringlane = Setup::of(&writes_and_reads(&addresses, &check, keys)).start();
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    let mut old = begin(&ringlane);
    servers[1].ask(&["REPLICAOF", "NO", "ONE"]);
    wait_until("the old session to be ended", || old.ask("PING").is_none());
    // The new primary is open as soon as every shard has ended what it had to.
    wait_until("the new primary to be open", || {
        let talk = Talk::try_begin(Database::Redis, ringlane.address());
        talk.is_some_and(|mut talk| talk.ask("PING").as_deref() == Some("PONG"))
    });
    assert_eq!(redis::ask(ringlane.address(), &["SET", "a", "1"]), "OK");
    assert_eq!(servers[1].ask(&["GET", "a"]), "1");
    let closes: Vec<_> = ringlane.log(1).iter().map(|record| record["close"].clone()).collect();
    assert!(closes.contains(&"KD".into()), "{closes:?}");
    assert!(ringlane.log(1).iter().any(|record| record["reason"] == "demoted"));
    ringlane.wait_for_word("1 fenced because the server is no longer the primary");
    ringlane.end();
}

#[test]
fn drained_sessions_end_when_they_fall_silent() {
    let servers = [Redis::start(&[]), Redis::start(&[])];
    servers[1].follow(servers[0].address);
    let addresses =
        [("r1", servers[0].address.to_string()), ("r2", servers[1].address.to_string())];
    let check = format!("kind = \"redis\", {CHECK}");
    let keys = "on_role_change = \"drain\"\non_conflict = \"newest\"";
    let ringlane = Setup::of(&writes_and_reads(&addresses, &check, keys)).start();
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    let (mut busy, mut silent) = (begin(&ringlane), connect(ringlane.address()));
    silent.write_all(b"PING\r\n").unwrap();
    silent.read_exact(&mut [0; 7]).unwrap();
    servers[1].ask(&["REPLICAOF", "NO", "ONE"]);
    wait_until("the new primary", || all(&ringlane, "role") == ["primary", "primary"]);
    silent.set_nonblocking(true).unwrap();
    wait_until("the silent session to end", || {
        assert_eq!(busy.ask("PING").unwrap(), "PONG", "one that talks goes on");
        matches!(silent.read(&mut [0]), Ok(0))
    });
    assert_eq!(busy.ask("PING").unwrap(), "PONG");
    drop(busy);
    ringlane.wait_until_idle();
    ringlane.end();
}

#[test]
fn reads_go_to_the_primary_while_no_replica_is_left() {
    let mut servers = [Redis::start(&[]), Redis::start(&[])];
    servers[1].follow(servers[0].address);
    let addresses =
        [("r1", servers[0].address.to_string()), ("r2", servers[1].address.to_string())];
    let check = format!("kind = \"redis\", {CHECK}");
    let keys = "on_role_change = \"fence\"\non_down = \"fence\"";
    let body = writes_and_reads(&addresses, &check, keys)
        .replace("role = \"replica\"", "role = \"replica_or_primary\"");
    let ringlane = Setup::of(&body).start();
    let reads = ringlane.binds("reads")[0].parse().unwrap();
    let port = |server: &Redis| server.address.port().to_string();
    let reader = |server: &Redis| {
        let mut talk = Talk::try_begin(Database::Redis, reads).unwrap();
        assert_eq!(talk.ask("CONFIG GET port"), Some(port(server)));
        talk
    };
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    wait_until("the replica to serve", || all(&ringlane, "state") == ["up", "up"]);
    assert_eq!(all(&ringlane, "takes_writes"), [true, false]);
    for _ in 0..4 {
        reader(&servers[1]);
    }
    servers[1].crash();
    wait_until("the replica to be down", || all(&ringlane, "state")[1] == "down");
    // At once: the loss of a replica closes the primary not for a moment.
    for _ in 0..20 {
        reader(&servers[0]);
    }
    servers[1].run();
    servers[1].follow(servers[0].address);
    wait_until("the replica to be back", || all(&ringlane, "role")[1] == "replica");
    let mut stays = reader(&servers[1]);
    servers[0].crash();
    wait_until("the primary to be down", || all(&ringlane, "state")[0] == "down");
    servers[1].ask(&["REPLICAOF", "NO", "ONE"]);
    wait_until("the new primary", || all(&ringlane, "takes_writes")[1] == true);
    assert_eq!(stays.ask("CONFIG GET port"), Some(port(&servers[1])), "it is not fenced");
    drop((stays, reader(&servers[1])));
    ringlane.wait_until_idle();
    ringlane.end();
}

#[test]
fn the_password_of_a_check_may_be_a_systemd_credential() {
    let redis = Redis::start(&["--requirepass", "open sesame"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("redis-pass"), "open sesame\n").unwrap();
    let check = format!("kind = \"redis\", password = {{ credential = \"redis-pass\" }}, {CHECK}");
    let servers = [("r1", redis.address.to_string())];
    let ringlane = Setup::of(&writes_and_reads(&servers, &check, ""))
        .environment("CREDENTIALS_DIRECTORY", path_str(folder.path()))
        .start();
    wait_until("the role", || all(&ringlane, "role") == ["primary"]);
    ringlane.end();
}

#[test]
fn a_check_that_may_not_log_in_says_so() {
    let redis = Redis::start(&["--requirepass", "open sesame"]);
    for (password, said) in [
        ("password = \"wrong\", ", "authentication failed"),
        ("", "NOAUTH"),
        (
            "password = { file = \"/nowhere/pass\" }, ",
            "cannot read the password from /nowhere/pass",
        ),
        ("password = { env = \"NO_SUCH\" }, ", "environment variable NO_SUCH"),
        (
            "password = { credential = \"no-such\" }, ",
            "cannot read the password from /nowhere/no-such",
        ),
    ] {
        let check = format!("kind = \"redis\", {password}{CHECK}");
        let servers = [("r1", redis.address.to_string())];
        let ringlane = Setup::of(&writes_and_reads(&servers, &check, ""))
            .environment("CREDENTIALS_DIRECTORY", "/nowhere")
            .start();
        wait_until("the check to fail", || all(&ringlane, "state") == ["down"]);
        let why = ringlane.status()["backends"][0]["servers"][0]["check"]["said"].clone();
        assert!(why.as_str().unwrap().to_uppercase().contains(&said.to_uppercase()), "{why}");
        ringlane.end();
    }
}
