//! Thousands of checked servers in one backend: what the control thread can do while it checks
//! them.
//!
//! Figures are printed; `docs/PERFORMANCE.md` says which ones to expect of a release build, and how
//! to run this alone. That the work does not grow with the square of the servers is a test of steps
//! in `health/src/tests.rs`.

use std::env;
use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::balancer::Setup;
use crate::harness::{AtEnd, heavy, pause, wait_until};

/// Servers, unless RINGLANE_IT_SERVERS says how many: a debug build has no time for many more.
const SERVERS: u32 = 1000;

/// Something that takes connections at every address of this machine, until it is told to stop.
fn accept(listener: TcpListener, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if listener.accept().is_err() {
            // PAUSE: polls a listener that does not block, for as long as the story lasts.
            pause(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_thousand_servers_are_checked_and_their_failure_is_seen() {
    let _alone = heavy();
    let servers = env::var("RINGLANE_IT_SERVERS").map_or(SERVERS, |count| count.parse().unwrap());
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut setup = Setup::to(&[]).backend("check = { kind = \"tcp\" }").shards(1);
    for number in 0..servers {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 80, 0, 1)) + number);
        setup.server(&format!("name = \"s{number}\", address = \"{address}:{port}\""));
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopped = AtEnd(&stop);
        let server = scope.spawn(|| accept(listener, &stop));
        let ringlane = setup.start();
        let in_state = |state: &str| {
            let status = ringlane.status();
            let all = status["backends"][0]["servers"].as_array().unwrap().iter();
            all.filter(|server| !server["check"].is_null() && server["state"] == state).count()
        };
        wait_until("every server to be checked", || in_state("up") == servers as usize);

        let mut figures = String::new();
        let (cpu, span) = (ringlane.process().cpu_time(), Duration::from_secs(3));
        // PAUSE: CPU time is measured over this time.
        pause(span);
        let share = (ringlane.process().cpu_time() - cpu).as_secs_f64() / span.as_secs_f64();
        let _ = write!(figures, "{servers} servers: {:.0} % of a core", share * 100.0);
        for page in ["/healthz", "/status", "/metrics"] {
            let begin = Instant::now();
            let (head, body) = ringlane.ask("GET", page);
            assert!(head.contains(" 200 ") && !body.is_empty(), "{head}");
            let _ = write!(figures, ", {page} {:.1?}", begin.elapsed());
        }

        stop.store(true, Ordering::Relaxed);
        server.join().unwrap();
        let begin = Instant::now();
        wait_until("every server to be seen down", || in_state("down") == servers as usize);
        println!("{figures}, all down after {:.1?}", begin.elapsed());
        ringlane.order(&format!("back/s{}", servers - 1), "drain");
        ringlane.end();
    });
}
