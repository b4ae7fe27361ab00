//! Clients that send garbage, vanish, or never say anything: by the thousand, and nothing breaks.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;

use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, connect_from, read_to_end, reset, round_trip, session};
use crate::harness::content::Content;
use crate::harness::echo::Echo;
use crate::harness::server::Server;
use crate::harness::{heavy, wait_until};

const CLIENTS: u8 = 8;
const EACH: usize = 500;

/// Many clients at once that each do the same many times, from addresses of their own.
fn swarm(ringlane: &Ringlane, each: impl Fn(TcpStream, usize) + Sync) {
    let address = ringlane.address();
    thread::scope(|scope| {
        for client in 1..=CLIENTS {
            let each = &each;
            scope.spawn(move || {
                for turn in 0..EACH {
                    let source = Ipv4Addr::new(127, 0, 5, client);
                    each(connect_from(source, address).unwrap(), turn);
                }
            });
        }
    });
}

/// The balancer is as it was: it serves, holds nothing, and its accounts are right.
fn expect_unharmed(ringlane: Ringlane, descriptors: usize) {
    round_trip(&mut session(ringlane.address()), b"still here");
    ringlane.wait_until_idle();
    let process = ringlane.process();
    wait_until("the descriptors to come back", || process.descriptors() <= descriptors);
    let sessions = ringlane.frontend("sessions");
    let log = ringlane.log(usize::try_from(sessions).unwrap());
    let dropped: u64 = ringlane.shards("log_records_dropped").iter().sum();
    assert_eq!((log.len() as u64, dropped), (sessions, 0), "one line per session");
    // Who connects and leaves without a byte is a check or a scan, whether it resets or not.
    let says_nothing = |record: &&Value| {
        let bytes = [&record["bytes_in"], &record["bytes_out"]];
        bytes == [0, 0] && (record["close"] == "--" || record["close"] == "CD")
    };
    let (empty, rest): (Vec<_>, Vec<_>) = log.iter().partition(says_nothing);
    let failed = rest.iter().filter(|record| record["close"] != "--").count();
    assert_eq!(ringlane.frontend("sessions_empty"), empty.len() as u64);
    assert_eq!(ringlane.frontend("sessions_failed"), failed as u64);
    for (field, total) in [("bytes_in", "bytes_in"), ("bytes_out", "bytes_out")] {
        let logged: u64 = log.iter().map(|record| record[field].as_u64().unwrap()).sum();
        assert_eq!(logged, ringlane.frontend(total), "{field}");
    }
    ringlane.end();
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let _alone = heavy();
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    drop(session(ringlane.address()));
    let descriptors = ringlane.descriptors_at_rest();
    swarm(&ringlane, |mut client, turn| match turn % 5 {
        0 => reset(client),
        1 => drop(client),
        2 => {
            let _ = client.write_all(&[0xff; 3000]);
            reset(client);
        }
        3 => {
            // Gone with answers on their way.
            let _ = client.write_all(&[0; 30_000]);
        }
        _ => {
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.read(&mut [0; 16]);
        }
    });
    expect_unharmed(ringlane, descriptors);
}

#[test]
fn servers_that_vanish_leave_nothing_behind() {
    let _alone = heavy();
    let server = Server::each(|mut stream| {
        let mut kind = [0];
        if stream.read_exact(&mut kind).is_err() {
            return;
        }
        match kind[0] {
            0 => reset(stream),
            1 => {}
            2 => {
                let _ = stream.write_all(&[0xff; 30_000]);
                reset(stream);
            }
            3 => {
                let _ = stream.shutdown(Shutdown::Write);
            }
            // An echo of what `expect_unharmed` says.
            first => {
                let _ = stream.write_all(&[first]);
                let mut buffer = [0; 100];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..read]);
                }
            }
        }
    });
    let ringlane = Setup::to(&[server.address]).start();
    drop(session(ringlane.address()));
    let descriptors = ringlane.descriptors_at_rest();
    swarm(&ringlane, |mut client, turn| {
        let _ = client.write_all(&[u8::try_from(turn % 4).unwrap()]);
        let _ = client.read_to_end(&mut Vec::new());
    });
    expect_unharmed(ringlane, descriptors);
}

#[test]
fn bulk_that_is_cut_in_the_middle_leaves_nothing_behind() {
    let _alone = heavy();
    const BYTES: u64 = 8 << 20;
    for path in ["copy", "splice", "auto"] {
        let server = Server::each(|mut stream| {
            let mut kind = [0];
            if stream.read_exact(&mut kind).is_err() {
                return;
            }
            if kind == *b"h" {
                let _ = stream.write_all(b"h");
                let mut buffer = [0; 100];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..read]);
                }
            } else {
                let _ = Content::new(3).send(&mut stream, BYTES);
            }
        });
        let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
        drop(session(ringlane.address()));
        let idle_pipes = 2 * 64 * 2;
        let descriptors = ringlane.descriptors_at_rest() + idle_pipes;
        let address = ringlane.address();
        thread::scope(|scope| {
            for turn in 0..16 {
                scope.spawn(move || {
                    for cut in 0..10_usize {
                        let mut client = connect(address);
                        client.write_all(b"x").unwrap();
                        let mut some = vec![0; 1 + (cut * 300_000)];
                        client.read_exact(&mut some).unwrap();
                        if turn % 2 == 0 { reset(client) } else { drop(client) }
                    }
                });
            }
        });
        expect_unharmed(ringlane, descriptors);
    }
}

#[test]
fn garbage_is_carried_like_anything_else() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 256.256.256.256 0.0.0.0 99999 -1\r\n",
        b"\x16\x03\x01\xff\xff\x01\x00",
        b"\r\n\r\n\x0d\x0a\x51\x55\x49\x54\x0a\xff\xff",
        &[0; 70_000],
    ];
    for bytes in garbage {
        let mut client = connect(ringlane.address());
        client.write_all(bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(read_to_end(&mut client) == bytes);
    }
    // The admin API gets its share.
    for bytes in garbage {
        let mut client = connect(ringlane.admin_http());
        let _ = client.write_all(bytes);
        let _ = client.shutdown(Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
    }
    assert!(ringlane.is_healthy());
    ringlane.wait_until_idle();
    ringlane.end();
}

#[test]
fn clients_that_say_nothing_hold_up_nobody() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let address = ringlane.address();
    let mute: Vec<_> = (0..1000).map(|_| connect(address)).collect();
    (0..100).for_each(|_| drop(session(address)));
    wait_until("the mute ones to be there", || ringlane.live() == 1000);
    drop(mute);
    ringlane.wait_until_idle();
    ringlane.end();
}
