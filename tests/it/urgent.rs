//! Urgent data (`MSG_OOB`) in the middle of bulk: the byte itself is not relayed, everything before
//! and behind it is, and no shard spins meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::harness::balancer::Setup;
use crate::harness::client::connect;
use crate::harness::content::Content;
use crate::harness::server::Server;
use crate::harness::{heavy, pause};

/// Bytes of a round, which has an urgent byte in its middle.
const ROUND: u64 = 6 << 20;

const ROUNDS: u64 = 3;

/// How long a session that is idle is watched, and the processor time that the balancer may use
/// then.
const WATCHED: Duration = Duration::from_millis(1500);
const IDLE_MAX: Duration = Duration::from_millis(300);

/// Sends a round with an urgent byte in it.
fn shout(stream: &mut TcpStream, seed: u64) {
    Content::new(seed).send(stream, ROUND / 2).unwrap();
    assert_eq!(SockRef::from(&*stream).send_out_of_band(b"!").unwrap(), 1);
    Content::new(seed).send(stream, ROUND / 2).unwrap();
}

/// Receives a round without its urgent byte.
fn hear(stream: &mut TcpStream, seed: u64) {
    for _ in 0..2 {
        Content::new(seed).expect(&mut (&mut *stream).take(ROUND / 2), ROUND / 2);
    }
}

/// Each round is heard before the next one, so that there is one urgent byte at a time: of an older
/// one that nobody has read the kernel makes ordinary data.
fn rounds(path: &str) {
    let server = Server::each(|mut stream| {
        for round in 0..ROUNDS {
            hear(&mut stream, round);
            shout(&mut stream, round + ROUNDS);
        }
        stream.write_all(b"bye").unwrap();
        let mut last = Vec::new();
        stream.read_to_end(&mut last).unwrap();
        assert_eq!(last, b"goodbye", "behind an urgent byte and before the end");
        stream.write_all(b"heard").unwrap();
    });
    let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
    let mut client = connect(ringlane.address());
    for round in 0..ROUNDS {
        shout(&mut client, round);
        hear(&mut client, round + ROUNDS);
    }
    let mut bye = [0; 3];
    client.read_exact(&mut bye).unwrap();
    assert_eq!(&bye, b"bye");
    // Two bytes that leave an urgent one between them and the end.
    client.write_all(b"good").unwrap();
    SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"bye").unwrap();
    let (before, begin) = (ringlane.process().cpu_time(), Instant::now());
    // PAUSE: the CPU time of a silent session is measured over this time.
    pause(WATCHED);
    let used = ringlane.process().cpu_time() - before;
    println!("{path}: {used:?} of processor time in {:?} of silence", begin.elapsed());
    assert!(used < IDLE_MAX, "{path}: the balancer used {used:?} while its session was idle");
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"heard");
    let record = &ringlane.log(1)[0];
    assert_eq!(record["close"], "--", "{path}");
    assert_eq!(record["bytes_in"], ROUNDS * ROUND + 7, "{path}");
    assert_eq!(record["bytes_out"], ROUNDS * ROUND + 8, "{path}");
    ringlane.end();
}

#[test]
fn urgent_bytes_in_bulk_are_stepped_over() {
    let _alone = heavy();
    for path in ["auto", "splice", "copy"] {
        rounds(path);
    }
}

/// The stream ends behind the mark before anybody reads it: all of it arrives, then the end.
#[test]
fn a_stream_that_ends_behind_an_urgent_byte_arrives_to_its_end() {
    let _alone = heavy();
    for path in ["auto", "splice", "copy"] {
        let server = Server::each(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(all.len().to_string().as_bytes()).unwrap();
        });
        let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
        let clients = (0..4).map(|_| {
            let address = ringlane.address();
            thread::spawn(move || {
                let mut client = connect(address);
                shout(&mut client, 1);
                client.shutdown(Shutdown::Write).unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                answer
            })
        });
        for client in clients.collect::<Vec<_>>() {
            assert_eq!(client.join().unwrap(), ROUND.to_string(), "{path}");
        }
        let log = ringlane.log(4);
        assert!(log.iter().all(|record| record["close"] == "--"), "{path}: {log:#?}");
        ringlane.end();
    }
}
