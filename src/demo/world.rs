//! The demo's thread: servers and clients in one tokio runtime, and the clock of the play.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::clients::{CLIENTS, Seen, client};
use super::report::{Second, accepted, header};
use super::servers::{DemoServer, DemoServers, NAMES};
use crate::control::traffic::Traffic;
use crate::control::{Life, Running, Stage};

/// When a server goes away, in seconds.
const GONE_AT: u64 = 5;
/// When it comes back.
const BACK_AT: u64 = 10;
/// Which one.
const VICTIM: usize = 1;

/// What came out in the end.
pub(super) struct Total {
    pub(super) failed: u64,
}

/// Plays until the time is over or the balancer drains, then lets the balancer drain.
pub(super) fn run(
    running: &Running,
    servers: DemoServers,
    frontend: SocketAddr,
    time: Option<Duration>,
) -> Result<Total, String> {
    let outcome = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))
        .and_then(|runtime| {
            runtime.block_on(LocalSet::new().run_until(play(
                &running.life,
                &running.traffic,
                servers,
                frontend,
                time,
            )))
        });
    running.life.drain();
    outcome
}

async fn play(
    life: &Life,
    traffic: &Traffic,
    servers: DemoServers,
    frontend: SocketAddr,
    time: Option<Duration>,
) -> Result<Total, String> {
    let (mut servers, addresses) =
        servers.start().map_err(|error| format!("cannot start the servers: {error}"))?;
    let seen = Seen::new().map_err(|error| format!("cannot make a histogram: {error}"))?;
    for _ in 0..CLIENTS {
        tokio::task::spawn_local(client(frontend, Rc::clone(&seen)));
    }
    print(&header());
    let mut ticker = Ticker::new(traffic, &seen);
    let seconds = time.map_or(u64::MAX, |time| time.as_secs());
    for second in 1..=seconds {
        tokio::time::sleep_until(ticker.began + Duration::from_secs(second)).await;
        if life.stage() >= Stage::Draining {
            break;
        }
        print(&ticker.tick(second).line());
        match second {
            GONE_AT => {
                servers[VICTIM] = None;
                print(&format!("      server {} goes away", NAMES[VICTIM]));
            }
            BACK_AT => {
                let server = DemoServer::restart(addresses[VICTIM]).await.map_err(|error| {
                    format!("cannot start server {} again: {error}", NAMES[VICTIM])
                })?;
                servers[VICTIM] = Some(server);
                print(&format!("      server {} is back", NAMES[VICTIM]));
            }
            _ => {}
        }
    }
    let (opened, failed) = (seen.opened.get(), seen.failed.get());
    print(&format!(
        "{opened} sessions opened, {failed} new sessions failed, {} ended with their server",
        seen.cut.get()
    ));
    Ok(Total { failed })
}

/// Takes the difference between one second and the next.
struct Ticker<'a> {
    traffic: &'a Traffic,
    seen: &'a Seen,
    began: tokio::time::Instant,
    opened: u64,
    failed: u64,
    bytes: u64,
    accepted: Vec<u64>,
}

impl<'a> Ticker<'a> {
    fn new(traffic: &'a Traffic, seen: &'a Seen) -> Self {
        let began = tokio::time::Instant::now();
        let accepted = accepted(traffic);
        Self { traffic, seen, began, opened: 0, failed: 0, bytes: 0, accepted }
    }

    fn tick(&mut self, second: u64) -> Second {
        let seen = self.seen;
        let since = |last: &mut u64, now: u64| now - std::mem::replace(last, now);
        let accepted = accepted(self.traffic);
        let before = std::mem::replace(&mut self.accepted, accepted);
        let mut round_trips = seen.round_trips.borrow_mut();
        let line = Second {
            at: Duration::from_secs(second),
            live: self.traffic.gauges.common.process.live(),
            opened: since(&mut self.opened, seen.opened.get()),
            failed: since(&mut self.failed, seen.failed.get()),
            bytes: since(&mut self.bytes, seen.bytes.get()),
            p50: round_trips.value_at_quantile(0.5),
            p99: round_trips.value_at_quantile(0.99),
            servers: self.accepted.iter().zip(before).map(|(now, then)| now - then).collect(),
        };
        round_trips.reset();
        line
    }
}

/// A line for the person who watches; a closed terminal is no reason to stop.
fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
