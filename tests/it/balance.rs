//! Who gets a session by hash, by bandwidth and in order; the older policies are in `failover`.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, connect_from, greeting, try_round_trip};
use crate::harness::echo::{Echo, EchoProcess};
use crate::harness::{heavy, wait_until};

/// The servers that clients of 40 addresses get.
fn letters(ringlane: &Ringlane) -> String {
    let source = |client: u8| Ipv4Addr::new(127, 0, 1, client);
    (1..=40)
        .map(|client| connect_from(source(client), ringlane.address()).unwrap())
        .map(|mut client| greeting(&mut client).unwrap())
        .collect()
}

#[test]
fn by_hash_a_client_meets_one_server_and_others_keep_theirs_when_one_is_gone() {
    let _alone = heavy();
    for balance in ["maglev", "ring_hash", "source"] {
        let mut servers = ['a', 'b', 'c'].map(EchoProcess::greeting);
        let setup = Setup::to(&servers.each_ref().map(|server| server.address)).shards(2);
        let ringlane = setup.backend(&format!("balance = \"{balance}\"")).start();
        let before = letters(&ringlane);
        assert!("abc".chars().all(|letter| before.contains(letter)), "{balance}: {before}");
        for _ in 0..3 {
            assert_eq!(letters(&ringlane), before, "{balance}");
        }
        servers[2].kill();
        let without = letters(&ringlane);
        for (before, after) in before.chars().zip(without.chars()) {
            assert!(after != 'c' && (before == after || before == 'c'), "{balance}: {without}");
        }
        ringlane.end();
    }
}

#[test]
fn by_the_whole_client_each_of_its_ports_is_a_client_of_its_own() {
    let servers = ['a', 'b', 'c'].map(Echo::greeting);
    for (hash, is_by_port) in [("client", true), ("client_ip", false)] {
        let ringlane = Setup::to(&servers.each_ref().map(|server| server.address))
            .frontend("accept_proxy = true")
            .backend(&format!("balance = \"maglev\"\nhash = \"{hash}\""))
            .start();
        let letter = |port: u16| {
            let mut client = connect(ringlane.address());
            write!(client, "PROXY TCP4 192.0.2.1 192.0.2.9 {port} 80\r\n").unwrap();
            greeting(&mut client).unwrap()
        };
        let letters = || (4001..=4040).map(letter).collect::<String>();
        let first = letters();
        assert_eq!(letters(), first, "{hash}");
        let met = "abc".chars().filter(|letter| first.contains(*letter)).count();
        assert_eq!(met, if is_by_port { 3 } else { 1 }, "{hash}: {first}");
        ringlane.end();
    }
}

#[test]
fn bounded_load_spreads_one_client_over_servers() {
    let servers = ['a', 'b', 'c', 'd'].map(Echo::greeting);
    let setup = Setup::to(&servers.each_ref().map(|server| server.address)).shards(2);
    let ringlane = setup.backend("balance = \"maglev\"\nbounded_load = 1.25").start();
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..80 {
        let mut client = connect(ringlane.address());
        greeting(&mut client).unwrap();
        open.push(client);
    }
    let live = ringlane.servers("sessions_live");
    // 1.25 times 20.
    assert!(live.iter().sum::<u64>() == 80 && live.iter().all(|live| *live <= 25), "{live:?}");
    drop(open);
    ringlane.end();
}

#[test]
fn first_fills_servers_in_order() {
    let servers = ['a', 'b', 'c'].map(Echo::greeting);
    let mut setup = Setup::to(&[]).shards(2).backend("balance = \"first\"");
    for (server, room) in servers.iter().zip(["2", "3", "100"]) {
        setup.server(&format!("address = \"{}\", max_connections = {room}", server.address));
    }
    let ringlane = setup.start();
    let mut open = Vec::new();
    let mut next = || {
        let mut client = connect(ringlane.address());
        let letter = greeting(&mut client).unwrap();
        open.push(client);
        letter
    };
    let letters: String = (0..7).map(|_| next()).collect();
    assert_eq!(letters, "aabbbcc");
    drop(open.remove(0));
    wait_until("the first to have room", || ringlane.servers("sessions_live")[0] == 1);
    assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'a');
    drop(open);
    ringlane.end();
}

#[test]
fn least_bandwidth_avoids_the_server_that_carries_the_most() {
    let _alone = heavy();
    let servers = ['a', 'b'].map(Echo::greeting);
    let setup = Setup::to(&servers.each_ref().map(|server| server.address)).shards(2);
    let ringlane = setup.backend("balance = \"least_bandwidth\"").start();
    let session = || {
        let mut client = connect(ringlane.address());
        (greeting(&mut client).unwrap(), client)
    };
    let mut open: Vec<(char, TcpStream)> = (0..6).map(|_| session()).collect();
    assert_eq!(ringlane.servers("sessions_live"), [3, 3], "where no rate differs");
    let (letter, mut busy) = open.pop().unwrap();
    let (laden, other) = if letter == 'a' { (0, 'b') } else { (1, 'a') };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = vec![7; 65_536];
            while !stop.load(Ordering::Relaxed) {
                try_round_trip(&mut busy, &bytes).unwrap();
            }
        });
        wait_until("the rate to be known", || {
            ringlane.servers("bytes_per_second")[laden] > 100_000
        });
        for _ in 0..3 {
            let (letter, client) = session();
            assert_eq!(letter, other, "few bytes, though ever more sessions");
            open.push((letter, client));
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop((open, busy));
    ringlane.end();
}
