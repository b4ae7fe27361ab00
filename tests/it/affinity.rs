//! Clients that return to the server that they had: over shards, past failures, until forgotten.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect_from, greeting};
use crate::harness::echo::{Echo, EchoProcess};
use crate::harness::server::BlackHole;
use crate::harness::{heavy, wait_until};

const PAGE: &str = "/v1/backends/back/affinity";

/// The server that a client of its own address gets.
fn letter(ringlane: &Ringlane, client: u8) -> char {
    let source = Ipv4Addr::new(127, 0, 1, client);
    greeting(&mut connect_from(source, ringlane.address()).unwrap()).unwrap()
}

fn metric(ringlane: &Ringlane, name: &str) -> f64 {
    ringlane.metrics()[&format!("ringlane_affinity_{name}{{backend=\"back\"}}")]
}

fn json(answer: &(String, String)) -> Value {
    serde_json::from_str(&answer.1).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[test]
fn a_client_keeps_its_server_on_every_shard_though_servers_take_turns() {
    let servers = ['a', 'b', 'c'].map(Echo::greeting);
    let setup = Setup::to(&servers.each_ref().map(|server| server.address)).shards(2);
    let ringlane = setup.backend("balance = \"round_robin\"\naffinity = {}").start();
    let mut seen = BTreeSet::new();
    for client in 1..=9 {
        let first = letter(&ringlane, client);
        seen.insert(first);
        for _ in 0..20 {
            assert_eq!(letter(&ringlane, client), first, "client {client}");
        }
    }
    assert_eq!(seen.len(), 3, "new clients are spread");
    assert_eq!(metric(&ringlane, "clients"), 9.0);
    assert_eq!(metric(&ringlane, "hits_total"), 180.0);
    assert_eq!(metric(&ringlane, "misses_total"), 9.0);
    ringlane.wait_until_idle();
    let log = ringlane.log(189);
    let used: BTreeSet<_> = log.iter().map(|record| record["shard"].as_u64()).collect();
    assert_eq!(used.len(), 2, "both shards had a part in it");
    ringlane.end();
}

#[test]
fn a_client_whose_server_is_gone_moves_and_stays() {
    let _alone = heavy();
    let mut servers = ['a', 'b', 'c'].map(EchoProcess::greeting);
    let setup = Setup::to(&servers.each_ref().map(|server| server.address)).shards(2);
    let ringlane = setup.backend("affinity = { ttl = \"1h\" }").start();
    let before: Vec<char> = (1..=6).map(|client| letter(&ringlane, client)).collect();
    let gone = before.iter().position(|letter| *letter == 'b').unwrap();
    servers[1].kill();
    let client = |index: usize| u8::try_from(index + 1).unwrap();
    let heir = letter(&ringlane, client(gone));
    assert_ne!(heir, 'b');
    for _ in 0..20 {
        assert_eq!(letter(&ringlane, client(gone)), heir);
    }
    for (index, letter) in before.iter().enumerate().filter(|(_, letter)| **letter != 'b') {
        assert_eq!(self::letter(&ringlane, client(index)), *letter, "the others don't move");
    }
    ringlane.end();
}

#[test]
fn a_drained_server_keeps_its_clients_and_one_in_maintenance_does_not() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let setup = Setup::to(&servers.each_ref().map(|server| server.address)).shards(2);
    let ringlane = setup.backend("affinity = {}").start();
    let clients: Vec<char> = (1..=4).map(|client| letter(&ringlane, client)).collect();
    let own = u8::try_from(clients.iter().position(|l| *l == 'a').unwrap() + 1).unwrap();
    ringlane.order("back/s1", "drain");
    assert_eq!(letter(&ringlane, own), 'a');
    for client in 10..20 {
        assert_eq!(letter(&ringlane, client), 'b', "new clients go elsewhere");
    }
    ringlane.order("back/s1", "maint");
    assert_eq!(letter(&ringlane, own), 'b');
    ringlane.order("back/s1", "ready");
    assert_eq!(letter(&ringlane, own), 'b', "it has moved for good");
    ringlane.end();
}

#[test]
fn clients_can_be_looked_up_and_forgotten() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let setup = Setup::to(&servers.each_ref().map(|server| server.address)).shards(2);
    let ringlane = setup.backend("affinity = { key = \"client_ip\", size = 1000 }").start();
    let letters: Vec<char> = (1..=5).map(|client| letter(&ringlane, client)).collect();
    let page = json(&ringlane.ask("GET", &format!("{PAGE}?entries=2")));
    assert_eq!((&page["clients"], &page["key"]), (&5.into(), &"client_ip".into()), "{page}");
    assert_eq!(page["entries"].as_array().unwrap().len(), 2, "{page}");
    assert!(page["entries"][0]["expires_in_seconds"].as_f64() > Some(1700.0), "{page}");
    let one = json(&ringlane.ask("GET", &format!("{PAGE}?key=127.0.1.1")));
    let name = if letters[0] == 'a' { "s1" } else { "s2" };
    assert_eq!(one["server"], name, "{one}");

    let forgotten = |query: &str| {
        json(&ringlane.ask("DELETE", &format!("{PAGE}{query}")))["forgotten"].as_u64()
    };
    assert_eq!(forgotten("?key=127.0.1.1"), Some(1));
    assert_eq!(forgotten("?key=127.0.1.1"), Some(0));
    assert!(ringlane.ask("GET", &format!("{PAGE}?key=127.0.1.1")).0.contains(" 404 "));
    assert_eq!(forgotten(""), Some(4));
    assert_eq!(metric(&ringlane, "clients"), 0.0);
    // Servers take turns again, so that sooner or later it gets the other one.
    wait_until("a client without a past to get another server", || {
        forgotten("");
        letter(&ringlane, 1) != letters[0]
    });
    for (query, status) in [("?key=nobody", " 400 "), ("?colour=red", " 400 ")] {
        let answer = ringlane.ask("GET", &format!("{PAGE}{query}"));
        assert!(answer.0.contains(status), "{answer:?}");
    }
    let unknown = ringlane.ask("GET", "/v1/backends/nowhere/affinity");
    assert!(unknown.0.contains(" 404 ") && unknown.1.contains("no backend"), "{unknown:?}");
    ringlane.end();
}

/// The first server is slow to accept, the second is tried beside it and never does: the client
/// belongs to the first.
#[test]
fn a_race_moves_no_client_to_the_server_that_lost_it() {
    let holes = [BlackHole::new(), BlackHole::new()];
    let ringlane = Setup::to(&[holes[0].address, holes[1].address])
        .shards(1)
        .frontend("timeout = { connect = \"1m\" }")
        .backend("race_after = \"20ms\"\naffinity = { key = \"client_ip\" }")
        .start();
    let client = connect_from(Ipv4Addr::new(127, 0, 1, 1), ringlane.address()).unwrap();
    wait_until("both to be tried", || ringlane.servers("sessions_live") == [1, 1]);
    let session = holes[0].accepts_one();
    wait_until("the race to be over", || ringlane.servers("sessions_live") == [1, 0]);
    let one = json(&ringlane.ask("GET", &format!("{PAGE}?key=127.0.1.1")));
    assert_eq!(one["server"], "s1", "{one}");
    drop((client, session));
    ringlane.end();
}
