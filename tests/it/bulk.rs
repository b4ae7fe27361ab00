//! Bulk both ways at once: every byte arrives, in order, in the right session, on every path.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::connect;
use crate::harness::content::Content;
use crate::harness::heavy;
use crate::harness::server::Server;

/// Bytes each way over all sessions.
const BYTES: u64 = 1 << 30;

/// A server that sends one content while it expects another. The client says first which session
/// it is, and how many bytes go each way.
fn server() -> Server {
    Server::each(|mut stream| {
        let mut number = [0; 8];
        stream.read_exact(&mut number).unwrap();
        let session = u64::from_le_bytes(number);
        stream.read_exact(&mut number).unwrap();
        both_ways(stream, session, u64::from_le_bytes(number), |session| {
            (session * 2 + 1, session * 2)
        });
    })
}

fn client(address: SocketAddr, session: u64, bytes: u64) {
    let mut stream = connect(address);
    stream.write_all(&session.to_le_bytes()).unwrap();
    stream.write_all(&bytes.to_le_bytes()).unwrap();
    both_ways(stream, session, bytes, |session| (session * 2, session * 2 + 1));
}

/// Sends and expects at once; `seeds` gives what is sent and what is expected.
fn both_ways(stream: TcpStream, session: u64, bytes: u64, seeds: fn(u64) -> (u64, u64)) {
    let (sent, expected) = seeds(session);
    let stream = Arc::new(stream);
    let sender = Arc::clone(&stream);
    let sending = thread::spawn(move || {
        Content::new(sent).send(&mut &*sender, bytes).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    Content::new(expected).expect(&mut &*stream, bytes);
    sending.join().unwrap();
}

fn carry(path: &str, sessions: u64) -> Ringlane {
    let server = server();
    let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
    let address = ringlane.address();
    let begin = Instant::now();
    thread::scope(|scope| {
        for session in 0..sessions {
            scope.spawn(move || client(address, session, BYTES / sessions));
        }
    });
    let took = begin.elapsed().as_secs_f64();
    println!(
        "path {path}, {sessions} sessions: 1 GiB each way in {took:.2} s, {:.2} s of the balancer's CPU",
        ringlane.process().cpu_time().as_secs_f64()
    );
    ringlane.wait_until_idle();
    assert_eq!(ringlane.frontend("bytes_in"), BYTES + 16 * sessions);
    assert_eq!(ringlane.frontend("bytes_out"), BYTES);
    let log = ringlane.log(usize::try_from(sessions).unwrap());
    assert!(log.iter().all(|record| record["close"] == "--"), "{log:#?}");
    ringlane
}

#[test]
fn a_gibibyte_each_way_arrives_by_copy() {
    let _alone = heavy();
    for sessions in [1, 64] {
        let ringlane = carry("copy", sessions);
        assert_eq!(ringlane.shards("splice_entered"), [0, 0]);
        ringlane.end();
    }
}

#[test]
fn a_gibibyte_each_way_arrives_by_splice() {
    let _alone = heavy();
    for sessions in [1, 64] {
        let ringlane = carry("splice", sessions);
        assert!(ringlane.shards("splice_entered").iter().sum::<u64>() >= 2 * sessions);
        ringlane.end();
    }
}

#[test]
fn a_gibibyte_each_way_arrives_by_what_is_best() {
    let _alone = heavy();
    for sessions in [1, 64] {
        let ringlane = carry("auto", sessions);
        assert!(ringlane.shards("splice_entered").iter().sum::<u64>() > 0);
        ringlane.end();
    }
}
