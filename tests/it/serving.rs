//! Databases that answer and do not serve: they load, copy, catch up, or follow a primary of old.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::connect;
use crate::harness::member::{CHECK, all, writes_and_reads};
use crate::harness::postgres::{self, Postgres};
use crate::harness::redis::Redis;
use crate::harness::server::Server;
use crate::harness::{heavy, wait_until};

fn watched(server: SocketAddr, keys: &str) -> Ringlane {
    let check = format!("check = {{ {keys}, {CHECK} }}");
    Setup::to(&[server]).backend(&check).start()
}

fn falls_for(ringlane: &Ringlane, server: usize, why: &str) {
    wait_until(why, || {
        let said = ringlane.server_field(server, "/check");
        ringlane.server_field(server, "/state") == "down"
            && said["said"].as_str().is_some_and(|said| said.contains(why))
    });
}

#[test]
fn a_redis_that_loads_its_data_is_down_until_it_has_it() {
    let mut redis = Redis::start(&["--enable-debug-command", "yes"]);
    redis.ask(&["DEBUG", "POPULATE", "20000", "key", "100"]);
    redis.ask(&["SAVE"]);
    redis.crash();
    redis.run_with(&["--key-load-delay", "500", "--loading-process-events-interval-bytes", "2048"]);
    let ringlane = watched(redis.address, "kind = \"redis\"");
    falls_for(&ringlane, 0, "load");
    redis.ask(&["CONFIG", "SET", "key-load-delay", "0"]);
    redis.crash();
    redis.run();
    wait_until("the rise", || ringlane.server_field(0, "/role") == "primary");
    ringlane.end();
}

#[test]
fn a_redis_that_copies_all_of_its_primary_is_down_until_it_has_it() {
    let _alone = heavy();
    let primary = Redis::start(&[
        "--enable-debug-command",
        "yes",
        "--rdb-key-save-delay",
        "500",
        "--repl-diskless-sync",
        "yes",
    ]);
    primary.ask(&["DEBUG", "POPULATE", "20000", "key", "100"]);
    let replica = Redis::start(&[]);
    let ringlane = watched(replica.address, "kind = \"redis\"");
    wait_until("the rise", || ringlane.server_field(0, "/role") == "primary");
    replica.follow(primary.address);
    falls_for(&ringlane, 0, "full synchronization");
    primary.ask(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    wait_until("the rise", || ringlane.server_field(0, "/state") == "up");
    ringlane.end();
}

#[test]
fn a_redis_whose_old_data_nobody_may_have_is_down() {
    // Nobody listens on port 1.
    let replica = Redis::start(&["--replica-serve-stale-data", "no"]);
    let ringlane = watched(replica.address, "kind = \"redis\"");
    wait_until("the rise", || ringlane.server_field(0, "/role") == "primary");
    replica.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    falls_for(&ringlane, 0, "Link with MASTER is down");
    ringlane.end();
}

#[test]
fn a_redis_of_a_failed_cluster_is_down() {
    let redis = Redis::start(&["--cluster-enabled", "yes"]);
    let ringlane = watched(redis.address, "kind = \"redis\"");
    falls_for(&ringlane, 0, "cluster_state:fail");
    redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_until("the rise", || ringlane.server_field(0, "/state") == "up");
    ringlane.end();
}

/// What a MySQL says of itself: names and values.
type Variables = Arc<Mutex<Vec<(&'static str, &'static str)>>>;

/// Just as much of MySQL as a check needs (MySQL internals manual, "Client/Server Protocol").
fn mysql(variables: &Variables) -> Server {
    let variables = Arc::clone(variables);
    Server::each(move |mut stream| {
        // Protocol 4.1 with secure authentication by the native password, which is not looked at.
        let mut greeting = b"\x0a8.0.40\0\x01\0\0\0abcdefgh\0".to_vec();
        greeting.extend(b"\x00\x82\x2d\x02\0\x08\0\x15\0\0\0\0\0\0\0\0\0\0");
        greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
        let ok = [0, 0, 0, 2, 0, 0, 0];
        if send(&mut stream, 0, &greeting).is_none() || packet(&mut stream).is_none() {
            return;
        }
        send(&mut stream, 2, &ok);
        while let Some(query) = packet(&mut stream) {
            let query = String::from_utf8_lossy(&query).into_owned();
            if query.contains("SHOW GLOBAL VARIABLES") {
                let rows = variables.lock().unwrap().clone();
                table(&mut stream, &rows);
            } else if query.contains("SHOW STATUS") {
                table(&mut stream, &[("Threads_connected", "1")]);
            } else {
                send(&mut stream, 1, &ok);
            }
        }
    })
}

fn packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

fn send(stream: &mut TcpStream, number: u8, body: &[u8]) -> Option<()> {
    let len = (body.len() as u32).to_le_bytes();
    stream.write_all(&[&len[..3], &[number], body].concat()).ok()
}

/// Sends a table of two columns.
fn table(stream: &mut TcpStream, rows: &[(&str, &str)]) {
    let eof = [0xFE, 0, 0, 2, 0];
    let word = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let mut number = 0;
    let mut next = |body: &[u8]| {
        number += 1;
        send(stream, number, body);
    };
    next(&[2]);
    for name in ["Variable_name", "Value"] {
        let mut column =
            [word("def"), word(""), word(""), word(""), word(name), word(name)].concat();
        // Utf8, 255 bytes at most, a string.
        column.extend([12, 33, 0, 255, 0, 0, 0, 253, 0, 0, 0, 0, 0]);
        next(&column);
    }
    next(&eof);
    for (name, value) in rows {
        next(&[word(name), word(value)].concat());
    }
    next(&eof);
}

#[test]
fn a_mysql_that_is_offline_and_a_galera_node_without_its_cluster_are_down() {
    const GOOD: [(&str, &str); 2] = [("read_only", "OFF"), ("max_connections", "151")];
    let variables: Variables = Arc::new(Mutex::new(GOOD.to_vec()));
    let server = mysql(&variables);
    let ringlane = watched(server.address, "kind = \"mysql\", user = \"monitor\"");
    let says = |more: &[(&'static str, &'static str)]| {
        *variables.lock().unwrap() = [&GOOD[..], more].concat();
    };
    let rises = || wait_until("the rise", || ringlane.server_field(0, "/role") == "primary");
    rises();
    says(&[("offline_mode", "ON")]);
    falls_for(&ringlane, 0, "offline_mode");
    says(&[("offline_mode", "OFF"), ("wsrep_on", "OFF")]);
    rises();
    ringlane.end();
}

/// What is said of each server of `writes_and_reads`.
fn diverged(ringlane: &Ringlane) -> Vec<serde_json::Value> {
    all(ringlane, "diverged")
}

#[test]
fn a_postgres_replica_that_follows_an_old_primary_serves_no_reads() {
    let _alone = heavy();
    let old = Postgres::start();
    let (new, replica) = (Postgres::replica_of(&old), Postgres::replica_of(&old));
    let servers = [
        ("pg1", old.address.to_string()),
        ("pg2", new.address.to_string()),
        ("pg3", replica.address.to_string()),
    ];
    let check = format!("kind = \"postgres\", user = \"it\", {CHECK}");
    let keys = "on_conflict = \"newest\"";
    let ringlane = Setup::of(&writes_and_reads(&servers, &check, keys)).start();
    let reads: SocketAddr = ringlane.binds("reads")[0].parse().unwrap();
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica", "replica"]);
    assert_eq!(postgres::ask(reads, "SELECT pg_is_in_recovery()"), "t");
    new.promote();
    wait_until("the replica to be lost", || diverged(&ringlane) == [false, false, true]);
    assert_eq!(all(&ringlane, "takes_writes"), [false, true, false]);
    assert!(connect(reads).read(&mut [0]).map_or(true, |read| read == 0), "nobody may be read");
    ringlane.wait_for_word("server db/pg3 is up replica diverged (was up replica)");
    ringlane.wait_for_word("server db/pg2 is up primary in conflict taking the writes");
    replica.follow(new.address);
    wait_until("the replica to be back", || diverged(&ringlane) == [false; 3]);
    let port = replica.address.port().to_string();
    assert_eq!(postgres::ask(reads, "SHOW port"), port);
    ringlane.end();
}

#[test]
fn a_postgres_that_starts_up_is_down() {
    let primary = Postgres::start();
    let mut replica = Postgres::replica_of(&primary);
    replica.set("hot_standby=off");
    let ringlane = watched(replica.address, "kind = \"postgres\", user = \"it\"");
    wait_until("the rise", || ringlane.server_field(0, "/role") == "replica");
    replica.crash();
    replica.run_without_waiting();
    falls_for(&ringlane, 0, "FATAL: the database system is not accepting connections");
    ringlane.end();
}
