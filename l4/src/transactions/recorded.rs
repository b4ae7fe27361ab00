//! Sessions of real clients with real servers, as they were recorded: the trackers must say of each
//! moment what was true of it.
//!
//! A line is `c` or `s` and what the client or the server said, or `=` and what is true when both
//! are silent: `idle`, `busy`, or `opaque` from there on.

use super::{Tracker, mysql, redis};

fn play(recorded: &str, start: impl Fn() -> Tracker) {
    for piece in [1, 7, usize::MAX] {
        let mut tracker = start();
        for (number, line) in recorded.lines().enumerate() {
            let (kind, rest) = line.split_once(' ').unwrap();
            match kind {
                "c" => bytes(rest).chunks(piece).for_each(|bytes| tracker.client(bytes)),
                "s" => bytes(rest).chunks(piece).for_each(|bytes| tracker.server(bytes)),
                "=" => {
                    let said = (tracker.is_idle(), tracker.is_opaque());
                    let truth = (rest == "idle", rest == "opaque");
                    assert_eq!(said, truth, "line {}, pieces of {piece}: {tracker:?}", number + 1);
                }
                _ => assert_eq!(kind, "#", "line {}", number + 1),
            }
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
    digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
}

fn mysql(recorded: &str) {
    play(recorded, || Tracker::Mysql(mysql::Tracker::default()));
}

fn redis(recorded: &str) {
    play(recorded, || Tracker::Redis(redis::Tracker::default()));
}

#[test]
fn mariadb_and_its_own_client() {
    mysql(include_str!("recorded/mariadb-client.txt"));
}

#[test]
fn mariadb_and_its_own_client_compressed() {
    mysql(include_str!("recorded/mariadb-compressed.txt"));
}

#[test]
fn mariadb_and_connector_python_with_prepared_statements() {
    mysql(include_str!("recorded/mariadb-connector.txt"));
}

#[test]
fn mariadb_and_pymysql() {
    mysql(include_str!("recorded/mariadb-pymysql.txt"));
}

#[test]
fn mariadb_with_cursors_and_commands_sent_ahead() {
    mysql(include_str!("recorded/mariadb-raw.txt"));
}

#[test]
fn mariadb_without_eof_packets() {
    mysql(include_str!("recorded/mariadb-raw-ok.txt"));
}

#[test]
fn redis_in_resp2() {
    redis(include_str!("recorded/redis2.txt"));
}

#[test]
fn redis_in_resp3_with_tracking() {
    redis(include_str!("recorded/redis3.txt"));
}

#[test]
fn redis_in_lines_of_text() {
    redis(include_str!("recorded/redis-inline.txt"));
}
