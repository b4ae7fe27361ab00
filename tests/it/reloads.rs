//! The configuration changes while sessions live: nothing that stays is touched.
//!
//! Not here: load beside reloads at scale (`cargo xtask bench reload`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, greeting, round_trip, session, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::{wait_for, wait_until};

/// One frontend "front" and one backend "back", with lines for each and servers as written.
fn body(front: &str, back: &str, servers: &[(&str, SocketAddr)]) -> String {
    let server =
        |(name, at): &(&str, SocketAddr)| format!("{{ name = \"{name}\", address = \"{at}\" }}");
    let servers: Vec<String> = servers.iter().map(server).collect();
    format!(
        "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nbackend = \"back\"\n{front}\n\
         [[backend]]\nname = \"back\"\n{back}\nserver = [{}]\n",
        servers.join(", ")
    )
}

/// One more frontend at an address, for the same backend.
fn frontend(name: &str, at: SocketAddr) -> String {
    format!("[[frontend]]\nname = \"{name}\"\nbind = \"{at}\"\nbackend = \"back\"\n")
}

/// Asks every frontend, backend and server of the status.
fn generation(ringlane: &Ringlane) -> u64 {
    ringlane.status()["generation"].as_u64().unwrap()
}

#[test]
fn servers_limits_and_listeners_change_and_no_session_ends() {
    let echoes = [Echo::start(), Echo::start(), Echo::start()];
    let [s1, s2, s3] = echoes.each_ref().map(|echo| echo.address);
    let (port, other) = (free_port(), free_port());
    let first =
        body("max_connections = 100", "", &[("s1", s1), ("s2", s2)]) + &frontend("old", port);
    let ringlane = Setup::of(&first).start();
    let address = ringlane.address();
    let mut held: Vec<TcpStream> =
        (0..20).map(|n| session(if n % 2 == 0 { address } else { port })).collect();

    // s1 goes, s3 comes; the port of "old" is that of "new", which also listens elsewhere.
    let second = body("max_connections = 50", "", &[("s3", s3), ("s2", s2)])
        + &frontend("new", port)
        + &frontend("newer", other);
    let said = ringlane.reload(&second);
    assert!(said.contains("generation 2 is served"), "{said}");
    held.iter_mut().for_each(|held| round_trip(held, b"still here"));
    assert_eq!(ringlane.address(), address, "port 0 keeps the port that it got");
    for at in [address, port, other] {
        session(at);
    }
    let status = ringlane.status();
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(names(&status["frontends"]), ["front", "new", "newer"]);
    assert_eq!(names(&status["backends"][0]["servers"]), ["s3", "s2"]);
    assert_eq!(status["frontends"][0]["sessions_max"], 50);
    assert_eq!(ringlane.frontend("sessions_live"), 10, "those of before are counted");

    // The third takes both ports away again.
    ringlane.reload(&body("", "", &[("s3", s3)]));
    held.iter_mut().for_each(|held| round_trip(held, b"still here"));
    for gone in [port, other] {
        wait_until("the port to be closed", || TcpStream::connect(gone).is_err());
    }
    session(address);
    drop(held);
    // Each record has the names of its own configuration.
    let log = ringlane.log(24);
    let of = |key: &str, name: &str| log.iter().filter(|record| record[key] == name).count();
    assert_eq!([of("frontend", "old"), of("frontend", "new"), of("frontend", "newer")], [10, 1, 1]);
    assert!(of("server", "s1") > 0 && log.iter().all(|record| record["close"] == "--"), "{log:#?}");
    ringlane.end();
}

#[test]
fn a_refused_reload_changes_nothing_and_names_every_reason() {
    let echo = Echo::start();
    let good = body("", "", &[("s1", echo.address)]);
    let ringlane = Setup::of(&good).start();
    let mut held = session(ringlane.address());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (text, words) in [
        ("[[frontend]\n".to_owned(), &["ringlane.toml:"][..]),
        (good.replace("name = \"back\"", "name = \"b\""), &["back"]),
        (good.clone() + &frontend("more", taken), &["more", "another program listens there"]),
    ] {
        let error = ringlane.try_reload(&text).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let other = ringlane.config(&good).replace("shards = 2", "shards = 1\nuser = \"nobody\"");
    let error = ringlane.try_reload_whole(&other).unwrap_err();
    assert!(error.contains("shards 2 → 1") && error.contains("user none → nobody"), "{error}");
    assert_eq!(generation(&ringlane), 1);
    round_trip(&mut held, b"still here");
    drop(held);
    session(ringlane.address());
    ringlane.wait_for_word("reload refused, configuration 1 goes on: ");
    ringlane.end();
}

#[test]
fn sighup_reads_the_file_again() {
    let [a, b] = ['a', 'b'].map(Echo::greeting);
    let ringlane = Setup::of(&body("", "", &[("s1", a.address)])).start();
    assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'a');
    ringlane.write_config(&body("", "", &[("s1", b.address)]));
    ringlane.signal(Signal::SIGHUP);
    ringlane.wait_for_word("SIGHUP: configuration 2 is served");
    assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'b', "it has another address");
    ringlane.end();
}

#[test]
fn no_connection_is_refused_or_lost_while_listeners_come_and_go() {
    const CLIENTS: usize = 4;
    const RELOADS: usize = 40;
    let echo = Echo::start();
    let extra = free_port();
    let plain = body("", "", &[("s1", echo.address), ("s2", echo.address)]);
    let ringlane = Setup::of(&plain).start();
    let (address, stop) = (ringlane.address(), AtomicBool::new(false));
    let (begun, connections) = (Barrier::new(CLIENTS + 1), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut held = session(address);
                begun.wait();
                while !stop.load(Ordering::Relaxed) {
                    round_trip(&mut held, b"of long standing");
                    round_trip(&mut connect(address), b"new");
                    connections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        begun.wait();
        for n in 0..RELOADS {
            let text = match n % 4 {
                0 => plain.clone() + &frontend("extra", extra),
                // The same address under another name.
                1 => plain.clone() + &frontend("renamed", extra),
                2 => body("tcp = { user_timeout = \"5s\" }", "", &[("s2", echo.address)]),
                _ => plain.clone(),
            };
            ringlane.reload(&text);
            if n % 4 < 2 {
                session(extra);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(connections.into_inner() > 0);
    assert_eq!(generation(&ringlane), 1 + RELOADS as u64);
    ringlane.wait_until_idle();
    let log = ringlane.log_now();
    assert!(log.iter().all(|record| record["close"] == "--"), "{log:#?}");
    ringlane.end();
}

#[test]
fn a_hundred_reloads_leave_no_descriptor_thread_or_configuration_behind() {
    let echo = Echo::start();
    let texts = [
        body("", "check = { kind = \"tcp\", interval = \"1s\" }", &[("s1", echo.address)]),
        body("max_connections = 7", "queue = {}", &[("s2", echo.address), ("s1", echo.address)]),
    ];
    let ringlane = Setup::of(&texts[0]).start();
    // The first few make what stays.
    (0..4).for_each(|n| drop(ringlane.reload(&texts[n % 2])));
    let before = (ringlane.descriptors_at_rest(), ringlane.process().threads());
    for n in 0..100 {
        session(ringlane.address());
        ringlane.reload(&texts[n % 2]);
    }
    // Checks in progress hold a descriptor.
    wait_until("no more descriptors than before", || ringlane.descriptors_at_rest() <= before.0);
    assert_eq!(ringlane.process().threads(), before.1);
    wait_until("one configuration to be left", || {
        ringlane.metrics()["ringlane_generations_live"] == 1.0
    });
    ringlane.end();
}

#[test]
fn a_configuration_lives_as_long_as_its_last_session() {
    let echo = Echo::start();
    let text = body("", "", &[("s1", echo.address)]);
    let ringlane = Setup::of(&text).start();
    let held = session(ringlane.address());
    ringlane.reload(&text);
    ringlane.reload(&text);
    wait_until("the one without sessions to go", || {
        ringlane.metrics()["ringlane_generations_live"] == 2.0
    });
    drop(held);
    wait_until("the last session's to go", || {
        ringlane.metrics()["ringlane_generations_live"] == 1.0
    });
    ringlane.end();
}

#[test]
fn counts_go_on_and_least_conn_is_even_with_long_sessions_of_before() {
    let echoes = [Echo::start(), Echo::start()];
    let [s1, s2] = echoes.each_ref().map(|echo| echo.address);
    let least = "balance = \"least_conn\"";
    let ringlane = Setup::of(&body("", least, &[("s1", s1)])).start();
    let held: Vec<TcpStream> = (0..100).map(|_| session(ringlane.address())).collect();
    let before = ringlane.metrics();
    ringlane.reload(&body("", least, &[("s2", s2), ("s1", s1)]));
    let after = ringlane.metrics();
    for (name, value) in before.iter().filter(|(name, _)| name.contains("_total")) {
        let now = after.get(name).copied().unwrap_or_else(|| panic!("{name} is gone"));
        assert!(now >= *value, "{name} went from {value} to {now}");
    }
    // The new one is filled up first.
    let more: Vec<TcpStream> = (0..100).map(|_| session(ringlane.address())).collect();
    assert_eq!(ringlane.servers("sessions_live"), [100, 100]);
    drop((held, more));
    ringlane.end();
}

#[test]
fn clients_return_to_their_server_after_the_list_was_reordered() {
    let servers = ['a', 'b', 'c'].map(Echo::greeting);
    let [a, b, c] = servers.each_ref().map(|server| server.address);
    let affinity = "affinity = {}";
    let ringlane = Setup::of(&body("", affinity, &[("a", a), ("b", b), ("c", c)])).start();
    let letter = || greeting(&mut connect(ringlane.address())).unwrap();
    let mine = letter();
    let others: Vec<_> = [("c", c), ("a", a), ("b", b)].into();
    ringlane.reload(&body("", affinity, &others));
    assert!((0..6).all(|_| letter() == mine), "the order has changed");
    let kept: Vec<_> = others.into_iter().filter(|(name, _)| **name == mine.to_string()).collect();
    ringlane.reload(&body("", affinity, &[("new", free_port()), kept[0]]));
    assert!((0..6).all(|_| letter() == mine), "others are gone");
    ringlane.end();
}

#[test]
fn a_session_in_a_queue_gets_a_server_that_was_added_meanwhile() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let [a, b] = servers.each_ref().map(|server| server.address);
    let full = |more: &str| {
        format!(
            "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nbackend = \"back\"\n\
             [[backend]]\nname = \"back\"\nqueue = {{ timeout = \"60s\" }}\n\
             server = [{{ name = \"a\", address = \"{a}\", max_connections = 1 }}{more}]\n"
        )
    };
    let ringlane = Setup::of(&full("")).start();
    let mut holds = connect(ringlane.address());
    assert_eq!(greeting(&mut holds).unwrap(), 'a');
    let mut waits = connect(ringlane.address());
    let is_waiting = || ringlane.status()["backends"][0]["queue"]["sessions_live"] == 1;
    wait_until("a session to wait", is_waiting);
    ringlane
        .reload(&full(&format!(", {{ name = \"b\", address = \"{b}\", max_connections = 1 }}")));
    assert_eq!(greeting(&mut waits).unwrap(), 'b');
    // And the place of one that ends goes to one of the newest configuration.
    let mut last = connect(ringlane.address());
    wait_until("another one to wait", is_waiting);
    ringlane
        .reload(&full(&format!(", {{ name = \"b\", address = \"{b}\", max_connections = 1 }}")));
    drop(holds);
    assert_eq!(greeting(&mut last).unwrap(), 'a');
    drop((waits, last));
    ringlane.end();
}

#[test]
fn sessions_of_a_removed_server_end_as_on_drain_says() {
    let echoes = [Echo::start(), Echo::start()];
    let [gone, stays] = echoes.each_ref().map(|echo| echo.address);
    for (on_drain, ends) in [("keep", false), ("fence", true), ("drain", true)] {
        let back = format!("on_drain = \"{on_drain}\"\nbalance = \"first\"");
        let text = |servers: &[(&str, SocketAddr)]| body("", &back, servers);
        let ringlane = Setup::of(&text(&[("gone", gone), ("stays", stays)])).start();
        let mut held = session(ringlane.address());
        ringlane.reload(&text(&[("stays", stays)]));
        if ends {
            let left = held.read(&mut [0]);
            assert!(matches!(left, Ok(0) | Err(_)), "{on_drain}: {left:?}");
            let record = &ringlane.log(1)[0];
            assert_eq!((&record["server"], &record["reason"]), (&"gone".into(), &"drained".into()));
        } else {
            round_trip(&mut held, b"still here");
        }
        session(ringlane.address());
        drop(held);
        ringlane.end();
    }
}

#[test]
fn an_added_server_takes_no_session_before_its_first_check() {
    let (good, never) = (Echo::greeting('g'), free_port());
    let check = "check = { kind = \"tcp\", interval = \"200ms\" }";
    let ringlane = Setup::of(&body("", check, &[("good", good.address)])).start();
    wait_until("the first check", || ringlane.server_field(0, "/check/ok") == true);
    // Nothing listens there: a session that chose it would have to try again.
    ringlane.reload(&body("", check, &[("never", never), ("good", good.address)]));
    let log = || ringlane.log_now();
    for _ in 0..20 {
        assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'g');
    }
    wait_until("the check of the new one", || ringlane.server_field(0, "/check/ok") == false);
    ringlane.wait_until_idle();
    assert!(log().iter().all(|record| record["retries"] == 0), "{:#?}", log());
    ringlane.end();
}

#[test]
fn a_raised_limit_lets_those_in_that_wait_at_the_gate() {
    let echo = Echo::start();
    let text = |max| body(&format!("max_connections = {max}"), "", &[("s1", echo.address)]);
    let ringlane = Setup::of(&text(1)).start();
    let mut first = session(ringlane.address());
    let mut second = connect(ringlane.address());
    wait_for("it to wait", || {
        let waited = ringlane.metrics()["ringlane_shard_accepts_paused_total{shard=\"0\"}"]
            + ringlane.metrics()["ringlane_shard_accepts_paused_total{shard=\"1\"}"];
        (waited > 0.0).then_some(())
    });
    ringlane.reload(&text(2));
    round_trip(&mut second, b"let in");
    ringlane.reload(&text(1));
    round_trip(&mut first, b"still here");
    round_trip(&mut second, b"still here");
    drop((first, second));
    ringlane.end();
}

#[test]
fn orders_of_operators_hold_until_the_file_orders_something_else() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let [a, b] = servers.each_ref().map(|server| server.address);
    let ringlane = Setup::of(&body("", "", &[("a", a), ("b", b)])).start();
    ringlane.order("back/a", "maint");
    let letters = || -> String {
        (0..6).map(|_| greeting(&mut connect(ringlane.address())).unwrap()).collect()
    };
    assert_eq!(letters(), "bbbbbb");
    ringlane.reload(&body("max_connections = 9", "", &[("b", b), ("a", a)]));
    assert_eq!(letters(), "bbbbbb", "the order holds");
    let with_state = |state: &str| {
        body("", "", &[("b", b), ("a", a)])
            .replace("{ name = \"a\"", &format!("{{ name = \"a\", state = \"{state}\""))
    };
    ringlane.reload(&with_state("drain"));
    assert_eq!(ringlane.server_field(1, "/admin"), "drain", "the file orders another state");
    ringlane.reload(&with_state("ready"));
    assert!(letters().contains('a'));
    ringlane.end();
}

#[test]
fn an_order_whose_body_comes_after_a_reload_is_for_the_new_configuration() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let [a, b] = servers.each_ref().map(|server| server.address);
    let ringlane = Setup::of(&body("", "", &[("a", a), ("b", b)])).start();
    let order = r#"{"state":"maint"}"#;
    let mut stream = UnixStream::connect(ringlane.admin_socket()).unwrap();
    let head = "POST /v1/backends/back/servers/a HTTP/1.1\r\nHost: ringlane\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n", order.len()).unwrap();
    ringlane.reload(&body("", "", &[("b", b), ("a", a)]));
    stream.write_all(order.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ringlane.server_field(1, "/admin"), "maint");
    let letters: String =
        (0..4).map(|_| greeting(&mut connect(ringlane.address())).unwrap()).collect();
    assert_eq!(letters, "bbbb");
    ringlane.end();
}

#[test]
fn earlier_texts_are_kept_and_served_again_as_a_new_generation() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let [a, b] = servers.each_ref().map(|server| server.address);
    let ringlane = Setup::of(&body("", "", &[("s1", a)])).start();
    ringlane.reload(&body("", "", &[("s1", b)]));
    let letter = || greeting(&mut connect(ringlane.address())).unwrap();
    assert_eq!(letter(), 'b');
    let history = ringlane.ctl(&["history"]).unwrap();
    assert!(history.contains("start") && history.lines().count() == 2, "{history}");
    let error = ringlane.ctl(&["rollback", "1", "--expect", "1"]).unwrap_err();
    assert!(error.contains("generation 1 was expected, but 2 is served"), "{error}");
    ringlane.ctl(&["rollback", "1", "--expect", "2"]).unwrap();
    assert_eq!((letter(), generation(&ringlane)), ('a', 3));
    let error = ringlane.ctl(&["rollback", "99"]).unwrap_err();
    assert!(error.contains("99 is not kept"), "{error}");
    // A file that is not the one of the start, and a plan, which changes nothing.
    let file = ringlane.write_file("other.toml", &ringlane.config(&body("", "", &[("s1", b)])));
    let plan = ringlane.ctl(&["plan", "--file", &file]).unwrap();
    assert!(plan.contains("generation 3 → 4"), "{plan}");
    assert_eq!((letter(), generation(&ringlane)), ('a', 3));
    ringlane.ctl(&["reload", "--file", &file]).unwrap();
    assert_eq!(letter(), 'b');
    ringlane.end();
}

#[test]
fn many_reloads_at_once_are_served_one_after_the_other_or_together() {
    let echo = Echo::start();
    let text = body("", "", &[("s1", echo.address)]);
    let ringlane = Arc::new(Setup::of(&text).start());
    let mut held = session(ringlane.address());
    thread::scope(|scope| {
        for _ in 0..8 {
            let ringlane = Arc::clone(&ringlane);
            scope.spawn(move || ringlane.ctl(&["reload"]).unwrap());
        }
        for _ in 0..20 {
            ringlane.signal(Signal::SIGHUP);
        }
    });
    assert!((2..=29).contains(&generation(&ringlane)), "{}", generation(&ringlane));
    assert!(try_round_trip(&mut held, b"still here").is_ok());
    drop(held);
    Arc::into_inner(ringlane).unwrap().end();
}
