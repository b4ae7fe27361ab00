//! Drains that wait for the end of a transaction: MySQL's and Redis's, seen from their bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::connect;
use crate::harness::mariadb::Mariadb;
use crate::harness::program::{bound_to_us, find};
use crate::harness::redis::Redis;
use crate::harness::{heavy, wait_until};

fn start(protocol: &str, address: std::net::SocketAddr) -> Ringlane {
    let frontend = format!("protocol = \"{protocol}\"");
    Setup::to(&[address]).frontend(&frontend).backend("on_drain = \"drain\"").start()
}

#[test]
fn a_redis_session_in_a_transaction_outlives_a_drain_until_it_is_over() {
    let redis = Redis::start(&[]);
    let ringlane = start("redis", redis.address);
    let mut busy = connect(ringlane.address());
    let mut idle = connect(ringlane.address());
    let say = |stream: &mut std::net::TcpStream, words: &[u8], answer: &[u8]| {
        stream.write_all(words).unwrap();
        let mut got = vec![0; answer.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, answer);
    };
    say(&mut idle, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
    say(&mut busy, b"*1\r\n$5\r\nMULTI\r\n", b"+OK\r\n");
    ringlane.order("back/s1", "drain");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "the idle one has ended");
    say(&mut busy, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n7\r\n", b"+QUEUED\r\n");
    assert_eq!(ringlane.live(), 1);
    say(&mut busy, b"*1\r\n$4\r\nEXEC\r\n", b"*1\r\n+OK\r\n");
    assert_eq!(busy.read(&mut [0]).unwrap(), 0, "and now this one");
    assert_eq!(redis.ask(&["GET", "a"]), "7");
    ringlane.end();
}

/// MariaDB's own client, which is told what to ask line by line.
struct Client {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    fn begin(ringlane: &Ringlane) -> Self {
        let port = format!("--port={}", ringlane.address().port());
        let mut child = bound_to_us()
            .arg(find("mariadb", "mariadb-client"))
            .args(["--no-defaults", "--user=it", "--host=127.0.0.1", &port])
            .args(["-N", "-B", "--unbuffered", "--skip-reconnect"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, asks, answers: BufReader::new(answers) }
    }

    /// The line that comes for what gives one.
    fn ask(&mut self, words: &str) -> String {
        writeln!(self.asks, "{words}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn end(mut self) {
        drop(self.asks);
        self.child.wait().unwrap();
    }
}

#[test]
fn a_mariadb_session_in_a_transaction_outlives_a_drain_until_it_is_over() {
    let _alone = heavy();
    let mariadb = Mariadb::start(1);
    mariadb.ask("create database shop; create table shop.kept (n int) engine = innodb");
    let ringlane = start("mysql", mariadb.address);
    let (mut busy, mut idle) = (Client::begin(&ringlane), Client::begin(&ringlane));
    assert_eq!(idle.ask("select 'there';"), "there");
    assert_eq!(busy.ask("start transaction; insert into shop.kept values (7); select 'in';"), "in");
    ringlane.order("back/s1", "drain");
    wait_until("the idle one to end", || ringlane.live() == 1);
    assert_eq!(busy.ask("insert into shop.kept values (8); select 'still in';"), "still in");
    assert_eq!(ringlane.live(), 1);
    // What comes after the commit may be too late.
    writeln!(busy.asks, "commit;").unwrap();
    wait_until("the other one to end", || ringlane.live() == 0);
    assert_eq!(mariadb.ask("select count(*) from shop.kept"), "2");
    busy.end();
    idle.end();
    ringlane.end();
}
