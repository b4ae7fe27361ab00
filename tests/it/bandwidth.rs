//! How fast sessions may go: each by itself, and all of a backend together.
//!
//! What is asserted is the least time that bytes must take at their rate. No machine is too slow
//! for that.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::connect;
use crate::harness::content::Content;
use crate::harness::echo::Echo;
use crate::harness::heavy;

const WAITS: &str = "ringlane_bandwidth_waits_total{backend=\"back\"}";

fn start(path: &str, limits: &str) -> (Echo, Ringlane) {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend(&format!("path = \"{path}\""))
        .backend(&format!("bandwidth = {{ {limits} }}"))
        .start();
    (echo, ringlane)
}

/// Sends so many bytes to an echo, and expects them back, in each of some sessions; how long all
/// took.
fn carry(address: SocketAddr, sessions: u64, bytes: u64) -> Duration {
    let begin = Instant::now();
    thread::scope(|scope| {
        for session in 0..sessions {
            scope.spawn(move || {
                let stream = Arc::new(connect(address));
                let sender = Arc::clone(&stream);
                let sending = thread::spawn(move || {
                    Content::new(session).send(&mut &*sender, bytes).unwrap();
                    sender.shutdown(Shutdown::Write).unwrap();
                });
                Content::new(session).expect(&mut &*stream, bytes);
                sending.join().unwrap();
            });
        }
    });
    begin.elapsed()
}

#[test]
fn a_session_goes_no_faster_than_it_may() {
    let _alone = heavy();
    for path in ["copy", "splice"] {
        let (_echo, ringlane) = start(path, "per_session = \"8Mbit\"");
        // A million bytes each way at a million per second, but for the first burst.
        let took = carry(ringlane.address(), 2, 1_000_000);
        println!("path {path}: 1 MB each way at 8Mbit in {took:?}");
        assert!(took > Duration::from_millis(900), "{took:?}");
        assert!(ringlane.metrics()[WAITS] > 0.0);
        ringlane.wait_until_idle();
        assert_eq!(ringlane.frontend("sessions_failed"), 0);
        ringlane.end();
    }
}

#[test]
fn the_sessions_of_a_backend_share_what_it_has() {
    let _alone = heavy();
    for path in ["copy", "splice"] {
        let (_echo, ringlane) = start(path, "per_backend = \"16Mbit\"");
        let took = carry(ringlane.address(), 4, 500_000);
        println!("path {path}: 4 times 500 kB each way at 16Mbit in {took:?}");
        assert!(took > Duration::from_millis(900), "{took:?}");
        ringlane.wait_until_idle();
        assert_eq!(ringlane.frontend("sessions_failed"), 0);
        ringlane.end();
    }
}

#[test]
fn who_is_made_to_wait_is_not_silent() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address])
        .frontend("timeout = { idle = \"500ms\" }")
        .backend("bandwidth = { per_session = \"64kbit\" }")
        .start();
    // What is above the burst takes two seconds in parts of 16 KiB: longer than the timeout.
    carry(ringlane.address(), 1, 96 * 1024);
    ringlane.wait_until_idle();
    assert_eq!(ringlane.log(1)[0]["close"], "--");
    ringlane.end();
}
