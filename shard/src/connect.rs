//! From an accepted client to a connected server: choose, connect, and on failure choose again.
//!
//! The first choice may have to wait its turn (`queue`). Every server gets one attempt while
//! another is left; when all have failed the session waits a moment for another to come up and then
//! begins again, in the queue with all others where there is one, else for as long as the connect
//! timeout lasts. A server that this machine has no port or route left for, or whose socket options
//! the kernel refuses, is passed over and not held against the server; if no other is left, or
//! descriptors or memory ran out, the session ends. Next: `dial`, which makes one
//! attempt, and `race`, which makes two at once.

use std::time::{Duration, Instant};

use ringlane_core::counters::{Cause, Close, Phase};
use ringlane_core::ids::ServerId;
use ringlane_core::machine::reactor::Stream;

use crate::choose::take;
use crate::dial::{Failure, attempt};
use crate::queue::{self, Unseated, WaitPlace};
use crate::race::race;
use crate::seat::Seat;
use crate::trail::{Seeker, micros};
use crate::waiting::{Left, Waiting};

/// Attempts that a session makes in all, as HAProxy's default `retries 3`.
const CONNECT_ATTEMPTS: u32 = 4;

/// Servers that a session passes over since this machine can't connect to them: more would only
/// confirm it. Then the session ends (`RC`).
const PASSED_OVER_MAX: u32 = 64;

/// The pause after every server has failed once, as in HAProxy.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often a session looks in that pause whether there is another server by now.
const RETRY_LOOK: Duration = Duration::from_millis(50);

/// Connects a session to a server, at which it then has a seat, unless its client leaves before;
/// `place` is the one that it has in the queue already.
///
/// # Errors
/// How the session ends, or that it goes on with another configuration.
pub(crate) async fn connect(
    seeker: &Seeker<'_>,
    waiting: &Waiting<'_, '_>,
    place: Option<Box<WaitPlace>>,
) -> Result<(Stream, Seat), Unseated> {
    let connected = waiting.unless_gone(connect_in_turn(seeker, waiting, place)).await;
    let left = || Close { cause: Cause::Client, phase: seeker.trail.phase() };
    let (stream, seat) = connected.unwrap_or_else(|Left| Err(left().into()))?;
    let took = micros(seeker.generation.now().saturating_duration_since(seeker.since));
    seeker.trail.connected(took);
    seeker.generation.shard.counters.connect_time.record(took);
    Ok((stream, seat))
}

async fn connect_in_turn(
    seeker: &Seeker<'_>,
    waiting: &Waiting<'_, '_>,
    place: Option<Box<WaitPlace>>,
) -> Result<(Stream, Seat), Unseated> {
    let trail = seeker.trail;
    let mut tried: Vec<ServerId> = Vec::new();
    let mut seat = queue::occupy(seeker, waiting, place).await?;
    trail.enter(Phase::Connect);
    let until = seeker.generation.now() + seeker.timeout;
    // Attempts that reached a server and failed, and why the last one did.
    let (mut failed, mut last_cause) = (0, None);
    let mut passed_over = 0;
    loop {
        let id = seat.server();
        trail.seated(id);
        let outcome = match seeker.generation.backend(seeker.backend).race_after {
            None => attempt(seeker, id, waiting).await.map(|stream| (stream, seat)),
            Some(after) => {
                let reactor = seeker.generation.reactor();
                reactor.brief(race(seeker, seat, after, waiting)).await
            }
        };
        match outcome {
            Ok((stream, seat)) => {
                trail.seated(seat.server());
                return Ok((stream, seat));
            }
            Err(Failure::Exhausted) => {
                trail.failed(id);
                return Err(Close::connect(Cause::Resource).into());
            }
            Err(Failure::Impossible) => passed_over += 1,
            Err(Failure::Server(cause)) => (failed, last_cause) = (failed + 1, Some(cause)),
        }
        trail.failed(id);
        tried.push(id);
        if failed == CONNECT_ATTEMPTS || passed_over == PASSED_OVER_MAX {
            return Err(Close::connect(last_cause.unwrap_or(Cause::Resource)).into());
        }
        seat = match take(seeker, &tried) {
            Some(seat) => seat,
            None => {
                // This machine can't connect to any.
                let cause = last_cause.ok_or(Close::connect(Cause::Resource))?;
                // Boxed, as most sessions never get here.
                let again = begin_again(seeker, &tried, cause, until, waiting);
                let seat = Box::pin(again).await?;
                trail.enter(Phase::Connect);
                tried.clear();
                seat
            }
        };
        trail.retry();
    }
}

/// Takes a place when every server has failed, the last one for this cause: at another one as soon
/// as there is one, such as a replica that is promoted, and after a pause at any, in the queue with
/// all others.
async fn begin_again(
    seeker: &Seeker<'_>,
    tried: &[ServerId],
    cause: Cause,
    until: Instant,
    waiting: &Waiting<'_, '_>,
) -> Result<Seat, Unseated> {
    let generation = seeker.generation;
    let has_queue = generation.gauges().queue(seeker.backend).is_some();
    let resume = generation.now() + RETRY_PAUSE;
    if resume > until && !has_queue {
        return Err(Close::connect(cause).into());
    }
    waiting.watch();
    while generation.now() < resume {
        generation.reactor().sleep(RETRY_LOOK).await;
        // Sessions in the queue came later.
        if let Some(seat) = take(seeker, tried) {
            return Ok(seat);
        }
        if generation.successor(seeker.frontend, seeker.backend).is_some() {
            return Err(Unseated::Reconfigured(None));
        }
    }
    if has_queue {
        return queue::occupy(seeker, waiting, None).await;
    }
    take(seeker, &[]).ok_or_else(|| Close::connect(cause).into())
}
