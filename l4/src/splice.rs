//! One direction's bulk: the kernel moves it from socket to pipe to socket, and no byte is copied.
//!
//! Synchronous `splice(2)` driven by readiness, as a ring would hand each one to a worker thread.
//! Splicing keeps at most a pipe of unsent bytes. Invariants: nothing is spliced before what was
//! received otherwise has been sent; a pipe goes back to the pool only when it is empty; the end of
//! the stream is never taken from a splice, which gives 0 and "would block" in front of urgent data
//! too, but by the receive that copying begins with. Next: `path` decides when to begin and when to
//! end.

use std::future::poll_fn;
use std::io::ErrorKind::{InvalidInput, OutOfMemory, Unsupported, WouldBlock};
use std::time::Duration;

use ringlane_core::limits::SPLICE_BUDGET;
use ringlane_core::machine::reactor::{First, Retry, Stream, first};
use ringlane_core::machine::sys::{Interest, Pipe};

use crate::copy::{Halves, Way};
use crate::pipes::Lease;
use crate::side::Broken;

/// How long a direction that ran dry keeps its pipe.
const SPLICE_LINGER: Duration = Duration::from_millis(20);

/// What is left of a direction when splicing has ended well.
pub(crate) struct Spliced<'a> {
    pub(crate) way: Way<'a>,
    pub(crate) halves: Halves<'a>,
    /// Whether the stream has ended; else what comes is too little for splicing.
    pub(crate) ended: bool,
}

/// Splices for as long as it pays.
pub(crate) async fn splice<'a>(
    mut way: Way<'a>,
    mut halves: Halves<'a>,
    mut pipe: Pipe,
    lease: Lease<'a>,
) -> Result<Spliced<'a>, Broken> {
    let ended = halves.run_dry(&mut way).await?;
    way.path.switched();
    if !ended {
        let counters = &way.traffic.session.generation.shard.counters;
        counters.splice_entered.add(1);
        way.ease_pacing(halves.sender.stream());
        splice_through(&mut way, &halves, &mut pipe).await?;
        counters.splice_left.add(1);
        way.path.switched();
    }
    lease.give_back(pipe);
    Ok(Spliced { way, halves, ended })
}

/// Splices until copying is cheaper, or the only way to go on.
async fn splice_through(
    way: &mut Way<'_>,
    halves: &Halves<'_>,
    pipe: &mut Pipe,
) -> Result<(), Broken> {
    let (from, to) = (halves.receiver.stream(), halves.sender.stream());
    let mut retry = Retry::default();
    let mut budget = SPLICE_BUDGET;
    let fill = way.traffic.fill();
    loop {
        poll_fn(|cx| way.traffic.poll_may_receive(way.source, cx)).await;
        match from.splice_into(pipe, fill) {
            Ok(0) => {
                way.path.step_over();
                return Ok(());
            }
            Ok(bytes) => {
                retry.moved();
                way.path.filled(bytes);
                way.traffic.received(way.source, bytes);
                budget = budget.saturating_sub(bytes);
            }
            Err(error) if error.kind() == WouldBlock => {
                if retry.is_fruitless() {
                    way.path.step_over();
                    return Ok(());
                }
                if way.path.wants_copy() || !wait_for_bytes(way, from, &mut retry).await? {
                    return Ok(());
                }
                budget = SPLICE_BUDGET;
                continue;
            }
            // Of the call and not of the connection: what can't be spliced is copied.
            Err(error) if matches!(error.kind(), InvalidInput | Unsupported | OutOfMemory) => {
                way.path.refused();
                return Ok(());
            }
            Err(_) => return Err(way.source_broken()),
        }
        way.traffic.hold(way.source, true);
        empty(way, pipe, to).await?;
        way.traffic.hold(way.source, false);
        if budget == 0 {
            way.traffic.reactor().yield_now().await;
            budget = SPLICE_BUDGET;
        }
    }
}

/// Waits for the source; `false` if it stays silent for long enough to give the pipe back.
async fn wait_for_bytes(way: &Way<'_>, from: &Stream, retry: &mut Retry) -> Result<bool, Broken> {
    let ready = retry.wait(from, Interest::Readable);
    let waited = if way.path.may_copy() {
        first(ready, way.traffic.reactor().sleep(SPLICE_LINGER)).await
    } else {
        First::Left(ready.await)
    };
    match waited {
        First::Left(ready) => ready.map(|()| true).map_err(|_| way.source_broken()),
        First::Right(()) => Ok(false),
    }
}

/// Moves everything that is in the pipe to the sink.
async fn empty(way: &Way<'_>, pipe: &mut Pipe, to: &Stream) -> Result<(), Broken> {
    let mut retry = Retry::default();
    while pipe.held() > 0 {
        match to.splice_from(pipe) {
            // A pipe that gives nothing though it holds something would be asked for ever.
            Ok(0) => return Err(way.sink_broken()),
            Ok(_) => {
                retry.moved();
                way.traffic.sent(way.source.other());
            }
            Err(error) if error.kind() == WouldBlock => {
                retry.wait(to, Interest::Writable).await.map_err(|_| way.sink_broken())?;
            }
            Err(_) => return Err(way.sink_broken()),
        }
    }
    Ok(())
}
