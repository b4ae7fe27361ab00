//! Which server a session gets, and what happens to it when servers refuse, vanish or never answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, connect_from, greeting, round_trip, try_round_trip};
use crate::harness::echo::{Echo, EchoProcess};
use crate::harness::server::{BlackHole, Nobody};
use crate::harness::{heavy, wait_until};

/// Sessions one after the other; the letters of the servers that they got.
fn letters(address: SocketAddr, sessions: usize) -> Vec<char> {
    let letter = || {
        let mut client = connect(address);
        let letter = greeting(&mut client).unwrap();
        round_trip(&mut client, b"hello");
        letter
    };
    (0..sessions).map(|_| letter()).collect()
}

fn count(letters: &[char]) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    letters.iter().for_each(|&letter| *counts.entry(letter).or_default() += 1);
    counts
}

/// Three servers that greet with a, b and c, and a balancer with these keys of its backend.
fn three(shards: usize, balance: &str, weights: [u32; 3]) -> (Vec<Echo>, Ringlane) {
    let servers: Vec<Echo> = ['a', 'b', 'c'].into_iter().map(Echo::greeting).collect();
    let mut setup = Setup::to(&[]).shards(shards).backend(&format!("balance = \"{balance}\""));
    for (server, weight) in servers.iter().zip(weights) {
        setup.server(&format!("address = \"{}\", weight = {weight}", server.address));
    }
    (servers, setup.start())
}

#[test]
fn round_robin_goes_by_weight_without_bursts() {
    let (_servers, ringlane) = three(1, "round_robin", [3, 2, 1]);
    let letters = letters(ringlane.address(), 60);
    assert_eq!(count(&letters), BTreeMap::from([('a', 30), ('b', 20), ('c', 10)]));
    for turn in letters.chunks(6) {
        assert_eq!(count(turn), BTreeMap::from([('a', 3), ('b', 2), ('c', 1)]), "{turn:?}");
        assert!(!turn.windows(3).any(|w| w == ['a', 'a', 'a']), "a burst: {turn:?}");
    }
    ringlane.end();
}

#[test]
fn least_conn_levels_sessions_across_shards() {
    let (_servers, ringlane) = three(2, "least_conn", [2, 1, 1]);
    let mut open = Vec::new();
    for _ in 0..80 {
        let mut client = connect(ringlane.address());
        open.push((greeting(&mut client).unwrap(), client));
    }
    assert_eq!(ringlane.servers("sessions_live"), [40, 20, 20]);
    // Who leaves makes room at the server that it leaves.
    open.retain(|(letter, _)| *letter != 'b');
    wait_until("b to be free", || ringlane.servers("sessions_live")[1] == 0);
    assert_eq!(letters(ringlane.address(), 1), ['b']);
    drop(open);
    ringlane.end();
}

#[test]
fn random_two_avoids_the_busiest_server() {
    let (_servers, ringlane) = three(2, "random_two", [1, 1, 1]);
    let open: Vec<_> = (0..300)
        .map(|_| {
            let mut client = connect(ringlane.address());
            greeting(&mut client).unwrap();
            client
        })
        .collect();
    let live = ringlane.servers("sessions_live");
    println!("random_two over three servers: {live:?}");
    assert_eq!(live.iter().sum::<u64>(), open.len() as u64);
    assert!(live.iter().all(|sessions| (80..=120).contains(sessions)), "{live:?}");
    drop(open);
    ringlane.end();
}

#[test]
fn source_keeps_a_client_with_its_server() {
    let (_servers, ringlane) = three(2, "source", [1, 1, 1]);
    let mut met = BTreeSet::new();
    for number in 1..=40 {
        let source = Ipv4Addr::new(127, 0, 4, number);
        let letter = || greeting(&mut connect_from(source, ringlane.address()).unwrap()).unwrap();
        let first = letter();
        assert!((0..4).all(|_| letter() == first), "{source} did not stay with {first}");
        met.insert(first);
    }
    assert_eq!(met.len(), 3, "every server has clients");
    ringlane.end();
}

#[test]
fn a_backup_serves_only_while_nobody_else_does() {
    let (nobody, main, backup) = (Nobody::new(), Echo::greeting('m'), Echo::greeting('b'));
    let backup_keys = format!("address = \"{}\", backup = true", backup.address);
    let mut setup = Setup::to(&[main.address]);
    setup.server(&backup_keys);
    let ringlane = setup.start();
    assert_eq!(count(&letters(ringlane.address(), 10)), BTreeMap::from([('m', 10)]));
    ringlane.end();
    let mut setup = Setup::to(&[nobody.address]);
    setup.server(&backup_keys);
    let ringlane = setup.start();
    assert_eq!(count(&letters(ringlane.address(), 10)), BTreeMap::from([('b', 10)]));
    ringlane.end();
}

#[test]
fn a_server_killed_in_mid_load_takes_only_its_own_sessions_with_it() {
    const SESSIONS: usize = 30;
    let _alone = heavy();
    let mut servers: Vec<EchoProcess> =
        ['a', 'b', 'c'].into_iter().map(EchoProcess::greeting).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let ringlane = Setup::to(&addresses).frontend(r#"timeout = { connect = "2s" }"#).start();
    let address = ringlane.address();
    let (stop, trips) = (AtomicBool::new(false), AtomicU64::new(0));
    let clients: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let mut client = connect(address);
            (greeting(&mut client).unwrap(), client)
        })
        .collect();
    let ended: Vec<(char, bool)> = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|(letter, mut client)| {
                let (stop, trips) = (&stop, &trips);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match try_round_trip(&mut client, &[1; 500]) {
                            Ok(()) => trips.fetch_add(1, Ordering::Relaxed),
                            Err(error) => {
                                assert_ne!(error.kind(), ErrorKind::WouldBlock, "left hanging");
                                return (letter, false);
                            }
                        };
                    }
                    (letter, true)
                })
            })
            .collect();
        wait_until("load", || trips.load(Ordering::Relaxed) > 2000);
        servers[1].kill();
        let begin = Instant::now();
        assert_eq!(count(&letters(address, 20)).get(&'b'), None, "new sessions go elsewhere");
        println!("20 sessions after the kill took {:?}", begin.elapsed());
        let so_far = trips.load(Ordering::Relaxed);
        wait_until("the others to go on", || trips.load(Ordering::Relaxed) > so_far + 2000);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ended.iter().filter(|(letter, _)| *letter == 'b').count(), SESSIONS / 3);
    for (letter, survived) in ended {
        assert_eq!(survived, letter != 'b', "a session of {letter}");
    }
    ringlane.wait_until_idle();
    let mut cut = 0;
    for record in ringlane.log(SESSIONS + 20) {
        // A killed process resets what it had not read and finishes the rest.
        let close = record["close"].as_str().unwrap();
        let allowed: &[&str] = if record["server"] == "s2" { &["SD", "--"] } else { &["--"] };
        assert!(allowed.contains(&close), "{record}");
        cut += usize::from(record["server"] == "s2");
    }
    assert_eq!(cut, SESSIONS / 3);
    assert_eq!(ringlane.metrics()["ringlane_server_up{backend=\"back\",server=\"s2\"}"], 0.0);
    ringlane.end();
}

#[test]
fn a_server_that_does_not_answer_costs_at_most_the_connect_timeout() {
    let (hole, echo) = (BlackHole::new(), Echo::greeting('e'));
    let ringlane = Setup::to(&[hole.address, echo.address])
        .frontend(r#"timeout = { connect = "300ms" }"#)
        .start();
    let address = ringlane.address();
    let letters: Vec<char> = thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = connect(address);
                    let letter = greeting(&mut client).unwrap();
                    round_trip(&mut client, b"hello");
                    letter
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(count(&letters), BTreeMap::from([('e', 20)]));
    let log = ringlane.log(20);
    let waited = log.iter().map(|record| record["connect_us"].as_u64().unwrap()).max().unwrap();
    println!("the longest way round a server that does not answer: {} ms", waited / 1000);
    assert!(log.iter().any(|record| record["retries"] == 1), "somebody met it");
    for record in &log {
        let (retries, connect) = (record["retries"].as_u64(), record["connect_us"].as_u64());
        assert!(retries == Some(0) || connect >= Some(300_000), "{record}");
        // Ten times of what is expected, for a machine that is busy.
        assert!(connect < Some(3_000_000), "{record}");
        assert!(retries <= Some(1) && record["close"] == "--", "{record}");
    }
    let failed = ringlane.servers("connects_timed_out");
    assert!(failed[0] >= 1 && failed[1] == 0, "{failed:?}");
    ringlane.end();
}

#[test]
fn a_session_that_nobody_takes_ends_and_says_why() {
    for (refuses, code) in [(true, "SC"), (false, "sC")] {
        let (nobody, hole) = (Nobody::new(), BlackHole::new());
        let address = if refuses { nobody.address } else { hole.address };
        let ringlane = Setup::to(&[address]).frontend(r#"timeout = { connect = "200ms" }"#).start();
        let mut client = connect(ringlane.address());
        let begin = Instant::now();
        let ended = greeting(&mut client).unwrap_err();
        assert_ne!(ended.kind(), ErrorKind::WouldBlock);
        println!("{code}: a client is told after {:?}", begin.elapsed());
        let record = &ringlane.log(1)[0];
        assert_eq!((&record["close"], &record["bytes_in"]), (&code.into(), &0.into()), "{record}");
        assert_eq!(ringlane.frontend("sessions_failed"), 1);
        ringlane.end();
    }
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let nobody = Nobody::new();
    let address = nobody.address;
    let echo = Echo::greeting('e');
    let ringlane = Setup::to(&[address, echo.address]).start();
    assert_eq!(count(&letters(ringlane.address(), 4)), BTreeMap::from([('e', 4)]));
    let up = || ringlane.metrics()["ringlane_server_up{backend=\"back\",server=\"s1\"}"];
    assert_eq!(up(), 0.0);
    let listener = nobody.becomes_somebody();
    wait_until("the first server to be tried again", || {
        letters_of_either(ringlane.address());
        up() == 1.0
    });
    drop(listener);
    ringlane.end();
}

/// A session that may end at a server that only listens.
fn letters_of_either(address: SocketAddr) {
    let mut client = connect(address);
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let _ = greeting(&mut client);
}

#[test]
fn a_server_that_is_slow_to_accept_loses_the_race() {
    let (hole, echo) = (BlackHole::new(), Echo::greeting('e'));
    let ringlane = Setup::to(&[hole.address, echo.address])
        .shards(1)
        .frontend("timeout = { connect = \"1m\" }")
        .backend("race_after = \"20ms\"")
        .start();
    for _ in 0..6 {
        assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'e');
    }
    ringlane.wait_until_idle();
    let won = ringlane.metrics()["ringlane_server_races_won_total{backend=\"back\",server=\"s2\"}"];
    assert_eq!(won, 3.0, "every other session was to go into the hole");
    assert_eq!(ringlane.servers("sessions_live"), [0, 0]);
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    let log = ringlane.log(6);
    assert!(log.iter().all(|record| record["server"] == "s2" && record["retries"] == 0), "{log:?}");
    ringlane.end();
}

#[test]
fn a_race_begins_after_the_time_that_most_connects_take() {
    let (hole, echo) = (BlackHole::new(), Echo::greeting('e'));
    let ringlane = Setup::to(&[hole.address, echo.address])
        .shards(1)
        // Sessions from before the first measurement are still in the hole at the end.
        .global("drain_timeout = \"100ms\"")
        .frontend("timeout = { connect = \"1m\" }")
        .backend("race_after = \"p95\"")
        .start();
    ringlane.order("back/s1", "maint");
    for _ in 0..20 {
        assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'e');
    }
    ringlane.order("back/s1", "ready");
    let won = "ringlane_server_races_won_total{backend=\"back\",server=\"s2\"}";
    wait_until("a race to be won", || {
        letters_of_either(ringlane.address());
        ringlane.metrics()[won] > 0.0
    });
    ringlane.end();
}
