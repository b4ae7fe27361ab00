//! Checks that log in: every way that a database asks for a password, and what is said of bad ones.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::certificates::Authority;
use crate::harness::checked::{all_say, checked};
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::redis::Redis;
use crate::harness::wait_until;

/// Lines of `pg_hba.conf`: who is asked for what.
const RULES: &[&str] = &[
    "host all trusted all trust",
    "host all old all md5",
    "host all new all scram-sha-256",
    "hostssl all secure all scram-sha-256",
];

const USERS: &str = "CREATE ROLE trusted LOGIN; SET password_encryption = 'md5'; \
    CREATE ROLE old LOGIN PASSWORD 'open sesame'; SET password_encryption = 'scram-sha-256'; \
    CREATE ROLE new LOGIN PASSWORD 'open sesame'; CREATE ROLE secure LOGIN PASSWORD 'open sesame'";

#[test]
fn postgres_asks_for_passwords_in_many_ways() {
    let authority = Authority::new();
    let postgres = Postgres::guarded(&authority.issue("pg", "DNS:pg.lan", 20), RULES);
    postgres.ask(USERS);
    let wrong = "password authentication failed";
    all_say(
        postgres.address,
        "postgres",
        &[
            ("user = \"trusted\"", "up", ""),
            ("user = \"old\", password = \"open sesame\"", "up", ""),
            ("user = \"old\", password = \"open barley\"", "down", wrong),
            ("user = \"new\", password = \"open sesame\"", "up", ""),
            ("user = \"new\", password = \"open barley\"", "down", wrong),
            ("user = \"new\"", "down", "password"),
            ("user = \"nobody\"", "down", "pg_hba.conf"),
            ("user = \"trusted\", database = \"nothing\"", "down", "does not exist"),
        ],
    );
    let ringlane = checked(postgres.address, "kind = \"postgres\", user = \"trusted\"");
    assert_eq!(ringlane.server_field(0, "/role"), "primary");
    ringlane.end();
}

#[test]
fn postgres_is_logged_in_to_over_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let postgres = Postgres::guarded(&authority.issue("pg", "DNS:pg.lan", 20), RULES);
    postgres.ask(USERS);
    let login = "user = \"secure\", password = \"open sesame\"";
    let over = |tls: &str| format!("{login}, tls = \"require\"{tls}");
    let ca_of = |authority: &Authority| format!("ca = {:?}", path_str(&authority.certificate()));
    let (ca, not_ca) = (ca_of(&authority), ca_of(&other));
    all_say(
        postgres.address,
        "postgres",
        &[
            (login, "down", "pg_hba.conf"),
            (&over(""), "up", ""),
            (&format!("{login}, tls = \"prefer\""), "up", ""),
            (&over(&format!(", {ca}")), "up", ""),
            (&over(&format!(", {ca}, server_name = \"pg.lan\"")), "up", ""),
            (&over(&format!(", {ca}, server_name = \"pg2.lan\"")), "down", "not valid for pg2.lan"),
            (&over(&format!(", {not_ca}")), "down", "unknown issuer"),
        ],
    );
    let clear = Postgres::start();
    all_say(
        clear.address,
        "postgres",
        &[
            ("user = \"it\", tls = \"require\"", "down", "does not support TLS"),
            ("user = \"it\", tls = \"prefer\"", "up", ""),
        ],
    );
}

#[test]
fn redis_knows_users_and_tls() {
    let redis =
        Redis::start(&["--user", "monitor", "on", ">sesame", "+info", "--user", "default", "off"]);
    all_say(
        redis.address,
        "redis",
        &[
            ("user = \"monitor\", password = \"sesame\"", "up", ""),
            ("user = \"monitor\", password = \"barley\"", "down", "cannot log in"),
            ("", "down", "NOAUTH"),
        ],
    );
    let authority = Authority::new();
    let redis = Redis::over_tls(&authority.issue("redis", "DNS:redis.lan", 20));
    let ca = format!("tls = \"require\", ca = {:?}", path_str(&authority.certificate()));
    all_say(
        redis.address,
        "redis",
        &[
            ("tls = \"require\"", "up", ""),
            (&format!("{ca}, server_name = \"redis.lan\""), "up", ""),
            (
                &format!("{ca}, server_name = \"other.lan\""),
                "down",
                "not valid for other.lan, only for redis.lan",
            ),
            ("", "down", ""),
        ],
    );
}

#[test]
fn mariadb_knows_passwords_and_tls() {
    let authority = Authority::new();
    let mariadb = Mariadb::with_certificate(&authority.issue("maria", "DNS:maria.lan", 20));
    mariadb.ask("CREATE USER secure@'%' IDENTIFIED BY 'open sesame' REQUIRE SSL");
    let login = "user = \"secure\", password = \"open sesame\"";
    let ca = format!("{login}, tls = \"require\", ca = {:?}", path_str(&authority.certificate()));
    all_say(
        mariadb.address,
        "mysql",
        &[
            ("user = \"monitor\", password = \"open sesame\"", "up", ""),
            ("user = \"monitor\", password = \"open barley\"", "down", "Access denied"),
            ("user = \"nobody\"", "down", "Access denied"),
            (login, "down", "Access denied"),
            (&format!("{login}, tls = \"require\""), "up", ""),
            (&format!("{login}, tls = \"prefer\""), "up", ""),
            (&ca, "down", "not valid for name"),
            (&format!("{ca}, server_name = \"maria.lan\""), "up", ""),
            (&format!("{ca}, server_name = \"other.lan\""), "down", ""),
        ],
    );
}

/// A balancer with a check that soon gives up.
fn impatient(server: SocketAddr, keys: &str) -> Ringlane {
    let check =
        format!("check = {{ {keys}, interval = \"50ms\", timeout = \"1s\", rise = 2, fall = 2 }}");
    Setup::to(&[server]).backend(&check).start()
}

/// The server is stopped and continued by `signal`; the check follows.
fn falls_and_rises(ringlane: &Ringlane, signal: impl Fn(Signal)) {
    wait_until("the role", || ringlane.server_field(0, "/role") == "primary");
    signal(Signal::SIGSTOP);
    wait_until("the fall", || ringlane.server_field(0, "/state") == "down");
    assert_eq!(ringlane.server_field(0, "/changes/0/reason"), "no answer within 1s");
    assert_eq!(ringlane.server_field(0, "/role"), "unknown");
    signal(Signal::SIGCONT);
    wait_until("the rise", || ringlane.server_field(0, "/role") == "primary");
    assert_eq!(ringlane.server_field(0, "/state"), "up");
}

#[test]
fn a_database_that_hangs_falls_and_rises_again() {
    let mariadb = Mariadb::start(1);
    let login = "kind = \"mysql\", user = \"monitor\", password = \"open sesame\"";
    let ringlane = impatient(mariadb.address, login);
    falls_and_rises(&ringlane, |signal| mariadb.signal(signal));
    ringlane.end();
    let redis = Redis::start(&[]);
    let ringlane = impatient(redis.address, "kind = \"redis\"");
    falls_and_rises(&ringlane, |signal| redis.signal(signal));
    ringlane.end();
}
