//! Servers given by name, followed through a real DNS server while sessions run.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::client::{connect, greeting, round_trip};
use crate::harness::dns::Dns;
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::{wait_for, wait_until};

/// A server on each of these loopback addresses, all on one port; they greet with a, b, c, …
struct Machines {
    port: u16,
    echoes: Vec<Echo>,
}

impl Machines {
    fn start(count: u8) -> Self {
        // A port that was free once on addresses that nobody else uses is free on all of them.
        let SocketAddr::V4(first) = free_port() else { unreachable!("of the loopback network") };
        let third = first.ip().octets()[3];
        let address = |n| SocketAddr::from((Ipv4Addr::new(127, 1, third, n), first.port()));
        let echoes = (1..=count).zip(b'a'..).map(|(n, letter)| Echo::at(address(n), Some(letter)));
        Self { port: first.port(), echoes: echoes.collect() }
    }

    fn address(&self, letter: char) -> SocketAddr {
        self.echoes[usize::from(letter as u8 - b'a')].address
    }

    /// The record that gives `name` the addresses of these.
    fn record(&self, name: &str, letters: &str) -> Vec<String> {
        let record = |letter| format!("host-record={name},{}", self.address(letter).ip());
        letters.chars().map(record).collect()
    }
}

/// A field of each server of the first backend in `/status`, as text.
fn servers(ringlane: &Ringlane, field: &str) -> Vec<String> {
    let status = ringlane.status();
    let servers = status["backends"][0]["servers"].as_array().unwrap();
    let text = |server: &serde_json::Value| match &server[field] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    servers.iter().map(text).collect()
}

/// Waits until the slots of the first backend are at the servers of these letters; `-`: absent.
#[track_caller]
fn wait_for_slots(ringlane: &Ringlane, machines: &Machines, letters: &str) {
    let address = |letter| match letter {
        '-' => "null".to_owned(),
        letter => machines.address(letter).to_string(),
    };
    let wanted: Vec<String> = letters.chars().map(address).collect();
    wait_until(&format!("slots at {letters}"), || servers(ringlane, "address") == wanted);
}

/// Which servers so many sessions got, one after the other.
fn count(ringlane: &Ringlane, sessions: usize) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..sessions {
        *counts.entry(greeting(&mut connect(ringlane.address())).unwrap()).or_default() += 1;
    }
    counts
}

/// A session with the server of this letter.
fn session_at(ringlane: &Ringlane, letter: char) -> TcpStream {
    wait_for("a session with one server", || {
        let mut client = connect(ringlane.address());
        (greeting(&mut client).unwrap() == letter).then_some(client)
    })
}

fn metric(ringlane: &Ringlane, name: &str, labels: &str) -> f64 {
    ringlane.metrics()[&format!("ringlane_name_{name}{{{labels}}}")]
}

#[test]
fn addresses_come_and_go_and_a_session_at_one_that_went_lives_on() {
    let machines = Machines::start(3);
    let mut dns = Dns::with(&machines.record("web.test", "ab"));
    let mut setup = Setup::to(&[]).shards(2).global(&dns.resolver("30s"));
    setup.server(&format!("name = \"web\", address = \"web.test:{}\", slots = 3", machines.port));
    let ringlane = setup.start();
    assert_eq!(servers(&ringlane, "name"), ["web-1", "web-2", "web-3"]);
    wait_for_slots(&ringlane, &machines, "ab-");
    assert_eq!(servers(&ringlane, "state"), ["up", "up", "absent"]);
    let up = |slot| format!("ringlane_server_up{{backend=\"back\",server=\"web-{slot}\"}}");
    let metrics = ringlane.metrics();
    assert_eq!(metrics.get(&up(2)), Some(&1.0), "{metrics:#?}");
    assert_eq!(metrics.get(&up(3)), None, "a slot without an address is not down");
    assert_eq!(count(&ringlane, 20).into_keys().collect::<String>(), "ab");
    let (mut at_a, mut at_b) = (session_at(&ringlane, 'a'), session_at(&ringlane, 'b'));

    dns.answer(&machines.record("web.test", "b"));
    wait_for_slots(&ringlane, &machines, "-b-");
    let gone = format!(
        "server back/web-1 is absent (was at {}): web.test no longer lists this address",
        machines.address('a')
    );
    ringlane.wait_for_word(&gone);
    round_trip(&mut at_a, b"still here");
    assert_eq!(count(&ringlane, 20), BTreeMap::from([('b', 20)]));
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_ringlane"));
    ctl.args(["ctl", "--socket", path_str(&ringlane.admin_socket()), "status", "--wide"]);
    let table = String::from_utf8(ctl.output().unwrap().stdout).unwrap();
    let line = table.lines().find(|line| line.starts_with("back/web-1")).unwrap();
    assert!(
        line.contains("absent") && line.ends_with("web.test no longer lists this address"),
        "{table}"
    );

    dns.answer(&machines.record("web.test", "bc"));
    wait_for_slots(&ringlane, &machines, "-bc");
    assert_eq!(count(&ringlane, 20).into_keys().collect::<String>(), "bc");
    dns.answer(&machines.record("web.test", "abc"));
    wait_for_slots(&ringlane, &machines, "abc");
    let come = format!(
        "server back/web-1 is at {} (was absent): web.test resolved",
        machines.address('a')
    );
    assert_eq!(ringlane.said().iter().filter(|line| line.contains(&come)).count(), 2);
    let labels = "backend=\"back\",server=\"web\",name=\"web.test\"";
    assert_eq!(metric(&ringlane, "addresses", labels), 3.0);
    for session in [&mut at_a, &mut at_b] {
        round_trip(session, b"all the while");
    }
    drop((at_a, at_b));
    ringlane.wait_until_idle();
    assert!(ringlane.log_now().iter().all(|record| record["close"] == "--"));
    ringlane.end();
}

#[test]
fn the_last_good_answer_is_kept_while_dns_is_away() {
    let machines = Machines::start(2);
    let mut dns = Dns::with(&machines.record("web.test", "a"));
    let mut setup = Setup::to(&[]).global(&dns.resolver("1ms"));
    setup.server(&format!("name = \"web\", address = \"web.test:{}\"", machines.port));
    let ringlane = setup.start();
    wait_for_slots(&ringlane, &machines, "a");
    dns.fall_silent();
    let labels = "backend=\"back\",server=\"web\",name=\"web.test\"";
    wait_until("several failures", || metric(&ringlane, "failures_total", labels) >= 3.0);
    assert_eq!(count(&ringlane, 5), BTreeMap::from([('a', 5)]));
    let said = ringlane.said();
    let told = said.iter().filter(|line| line.contains("web.test cannot be resolved"));
    assert_eq!(told.count(), 1, "failures in a row are said once: {said:#?}");
    dns.answer(&machines.record("web.test", "b"));
    wait_for_slots(&ringlane, &machines, "b");
    ringlane.wait_for_word("web.test resolves again");
    assert_eq!(count(&ringlane, 5), BTreeMap::from([('b', 5)]));
    ringlane.end();
}

#[test]
fn a_name_that_is_unknown_at_first_comes_later_and_goes_after_its_time() {
    let machines = Machines::start(1);
    let mut dns = Dns::with(&[]);
    let mut setup = Setup::to(&[]).global(&dns.resolver("1500ms"));
    setup.server(&format!("name = \"web\", address = \"web.test:{}\"", machines.port));
    let ringlane = setup.start();
    ringlane.wait_for_word("web.test cannot be resolved (no such name); no server is available");
    assert_eq!(servers(&ringlane, "state"), ["absent"]);
    assert!(greeting(&mut connect(ringlane.address())).is_err(), "nobody to serve it");
    dns.answer(&machines.record("web.test", "a"));
    wait_for_slots(&ringlane, &machines, "a");
    let mut session = session_at(&ringlane, 'a');
    dns.answer(&[]);
    ringlane.wait_for_word("its last addresses stay in use for 1.5s");
    wait_for_slots(&ringlane, &machines, "-");
    ringlane.wait_for_word("): web.test has no address: no such name");
    round_trip(&mut session, b"still here");
    assert!(greeting(&mut connect(ringlane.address())).is_err());
    drop(session);
    ringlane.end();
}

#[test]
fn srv_records_give_ports_weights_and_backups() {
    let servers_of = ['a', 'b', 'c'].map(Echo::greeting);
    let record = |n: usize, priority: u16, weight: u16| {
        let port = servers_of[n].address.port();
        format!("srv-host=_db._tcp.test,one.test,{port},{priority},{weight}")
    };
    let mut records = vec!["host-record=one.test,127.0.0.1".to_owned()];
    records.extend([record(0, 1, 30), record(1, 1, 10), record(2, 5, 10)]);
    let mut dns = Dns::with(&records);
    let mut setup = Setup::to(&[]).shards(1).global(&dns.resolver("30s"));
    setup.server("name = \"db\", address = \"srv:_db._tcp.test\", slots = 4");
    let ringlane = setup.start();
    let present = || servers(&ringlane, "address").iter().filter(|a| *a != "null").count();
    wait_until("three servers", || present() == 3);
    assert_eq!(count(&ringlane, 40), BTreeMap::from([('a', 30), ('b', 10)]));
    let backups = servers(&ringlane, "backup");
    assert_eq!(backups.iter().filter(|backup| *backup == "true").count(), 1);
    ringlane.order("back/db-1", "drain");
    let drained = servers(&ringlane, "address")[0] == servers_of[0].address.to_string();
    let left = if drained { 'b' } else { 'a' };
    assert_eq!(count(&ringlane, 10), BTreeMap::from([(left, 10)]));
    ringlane.order("back/db-1", "ready");
    records[1] = record(0, 1, 10);
    dns.answer(&records);
    wait_until("new weights", || {
        servers(&ringlane, "weight").iter().filter(|weight| *weight == "1000").count() >= 3
    });
    // Turns that were taken under the old weights may leave one more to either.
    let shares = count(&ringlane, 40);
    assert!(shares.values().all(|share| (19..=21).contains(share)), "{shares:?}");
    assert_eq!(shares.len(), 2, "{shares:?}");
    dns.answer(&[records[0].clone(), records[3].clone()]);
    wait_until("one server", || present() == 1);
    assert_eq!(count(&ringlane, 5), BTreeMap::from([('c', 5)]));
    ringlane.end();
}

#[test]
fn checks_follow_a_server_to_its_new_address() {
    let machines = Machines::start(2);
    let mut dns = Dns::with(&machines.record("web.test", "a"));
    let check =
        "check = { kind = \"tcp\", interval = \"100ms\", timeout = \"30s\", fall = 1, rise = 1 }";
    let mut setup = Setup::to(&[]).backend(check).global(&dns.resolver("30s"));
    setup.server(&format!("name = \"web\", address = \"web.test:{}\"", machines.port));
    let ringlane = setup.start();
    let is = |state: &str| servers(&ringlane, "state") == [state];
    wait_until("a good check", || {
        ringlane.status()["backends"][0]["servers"][0]["check"]["ok"] == true
    });
    // Nobody listens there.
    dns.answer(&["host-record=web.test,127.1.255.1".to_owned()]);
    wait_until("the check to fail there", || is("down"));
    dns.answer(&machines.record("web.test", "b"));
    wait_until("the server to be up again", || is("up"));
    wait_for_slots(&ringlane, &machines, "b");
    assert_eq!(count(&ringlane, 5), BTreeMap::from([('b', 5)]));
    ringlane.end();
}

#[test]
fn the_machines_own_files_are_followed() {
    let machines = Machines::start(2);
    let mut setup = Setup::to(&[]);
    let (hosts, resolv_conf) = (setup.path("hosts"), setup.path("resolv.conf"));
    let line = |letter| format!("{} web.test\n", machines.address(letter).ip());
    fs::write(&hosts, line('a')).unwrap();
    // A DNS server that never gets asked: what is in the one file is not looked for further.
    fs::write(&resolv_conf, "nameserver 192.0.2.1\n").unwrap();
    let mount = format!(
        "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$@\"",
        path_str(&hosts),
        path_str(&resolv_conf)
    );
    setup.server(&format!("name = \"web\", address = \"web.test:{}\"", machines.port));
    let inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let ringlane = setup.through(&inside).start();
    wait_for_slots(&ringlane, &machines, "a");
    fs::write(&hosts, line('b')).unwrap();
    wait_for_slots(&ringlane, &machines, "b");
    assert_eq!(count(&ringlane, 5), BTreeMap::from([('b', 5)]));
    ringlane.end();
}

/// A DNS server of the old kind: it answers with this code where there is more than a question, as
/// EDNS has it, and else that every name is at 127.0.0.1.
fn without_edns(code: u8, question_too: bool) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let asked = &buffer[..len];
            let name = 12 + asked[12..].iter().position(|&byte| byte == 0).unwrap();
            let question = &asked[12..name + 5];
            let has_more = asked[10..12] != [0, 0];
            let is_a = question.ends_with(&[0, 1, 0, 1]);
            let mut answer = asked[..2].to_vec();
            answer.extend([0x81, if has_more { 0x80 | code } else { 0x80 }]);
            answer.extend([0, u8::from(!has_more || question_too), 0, u8::from(!has_more && is_a)]);
            answer.extend([0; 4]);
            if !has_more || question_too {
                answer.extend(question);
            }
            if !has_more && is_a {
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    address
}

#[test]
fn a_dns_server_that_knows_no_edns_is_asked_without_it() {
    let echo = Echo::start();
    for (code, question_too) in [(1, true), (4, true), (1, false)] {
        let dns = without_edns(code, question_too);
        let setup = Setup::to(&[])
            .global(&format!("resolver = {{ servers = [\"{dns}\"], timeout = \"1s\" }}"));
        let mut setup = setup;
        setup.server(&format!("address = \"db.test:{}\"", echo.address.port()));
        let ringlane = setup.start();
        let expected = format!("127.0.0.1:{}", echo.address.port());
        wait_until("the address", || servers(&ringlane, "address") == [expected.clone()]);
        ringlane.end();
    }
}
