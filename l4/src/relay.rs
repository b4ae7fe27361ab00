//! Both directions of a session at once, its timeouts, and what its end means.
//!
//! Half-close is kept: a direction that ended leaves the other running. A broken side ends the
//! session at once and the other side learns it as a reset. A side is alive while it sends or takes
//! bytes; one that does neither for its timeout ends the session.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringlane_core::close::{Cause, Close};
use ringlane_core::counters::{FrontendCounters, ServerCounters};
use ringlane_core::reactor::{Sleep, Stream};
use ringlane_core::snapshot::{FrontendId, ServerId, Timeout};

use crate::path::PathChoice;
use crate::pump::{Broken, Pump};
use crate::session::Bytes;
use crate::shard::Shard;

/// Signs of life of both sides that are no further apart belong to one exchange.
const SAME_EXCHANGE: Duration = Duration::from_millis(10);

/// A side of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    const fn cause(self) -> Cause {
        match self {
            Self::Client => Cause::Client,
            Self::Server => Cause::Server,
        }
    }
}

/// What passes through a session: counted, and remembered as a sign of life.
pub(crate) struct Traffic<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) frontend_id: FrontendId,
    bytes: &'a Bytes,
    frontend: &'a FrontendCounters,
    server: &'a ServerCounters,
    alive: [Cell<Instant>; 2],
    ended: [Cell<bool>; 2],
}

impl fmt::Debug for Traffic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traffic({:?})", self.bytes)
    }
}

impl Traffic<'_> {
    /// Bytes came from a side.
    pub(crate) fn received(&self, side: Side, bytes: usize) {
        let bytes = bytes as u64;
        let (total, frontend, server) = match side {
            Side::Client => {
                (&self.bytes.from_client, &self.frontend.bytes_in, &self.server.bytes_in)
            }
            Side::Server => {
                (&self.bytes.from_server, &self.frontend.bytes_out, &self.server.bytes_out)
            }
        };
        total.set(total.get() + bytes);
        frontend.add(bytes);
        server.add(bytes);
        self.alive[side as usize].set(self.shard.reactor.now());
    }

    /// A side took bytes.
    pub(crate) fn sent(&self, side: Side) {
        self.alive[side as usize].set(self.shard.reactor.now());
    }

    /// A side has ended its stream; whether the other one had before.
    pub(crate) fn ended(&self, side: Side) -> bool {
        self.ended[side as usize].set(true);
        self.ended[side.other() as usize].get()
    }

    /// When a side that stays silent has been silent for too long, and which one. Where both fell
    /// silent after the same exchange the client's timeout goes first, as in HAProxy.
    fn deadline(&self, timeout: &Timeout) -> (Instant, Cause) {
        let client = self.alive[Side::Client as usize].get() + timeout.client;
        let server = self.alive[Side::Server as usize].get() + timeout.server;
        if client <= server + SAME_EXCHANGE {
            (client.min(server), Cause::ClientTimeout)
        } else {
            (server, Cause::ServerTimeout)
        }
    }
}

/// Relays between two connected sides until both have finished or something ends the session.
pub(crate) async fn relay(
    shard: &Shard,
    (client, server): (&Stream, &Stream),
    (frontend_id, server_id): (FrontendId, ServerId),
    bytes: &Bytes,
) -> Close {
    let now = shard.reactor.now();
    let frontend = shard.snapshot.frontend(frontend_id);
    let traffic = Traffic {
        shard,
        frontend_id,
        bytes,
        frontend: shard.counters().frontend(frontend_id),
        server: shard.counters().server(server_id),
        alive: [Cell::new(now), Cell::new(now)],
        ended: [Cell::new(false), Cell::new(false)],
    };
    let path = PathChoice::new(frontend.path);
    let mut relay = Relay {
        up: Pump::new(Side::Client, (client, server), &traffic, path),
        down: Pump::new(Side::Server, (server, client), &traffic, path),
        timer: shard.reactor.sleep_until(traffic.deadline(&frontend.timeout).0),
        timeout: &frontend.timeout,
        traffic: &traffic,
    };
    match std::future::poll_fn(|cx| relay.poll(cx)).await {
        Ok(()) => Close::NORMAL,
        Err(End::Broken(Broken(side))) => {
            match side {
                Side::Client => server.reset_on_close(),
                Side::Server => client.reset_on_close(),
            }
            Close::data(side.cause())
        }
        Err(End::Silent(cause)) => Close::data(cause),
    }
}

/// Both directions of a session.
struct Relay<'a> {
    up: Pump<'a>,
    down: Pump<'a>,
    timer: Sleep,
    timeout: &'a Timeout,
    traffic: &'a Traffic<'a>,
}

enum End {
    Broken(Broken),
    Silent(Cause),
}

impl Relay<'_> {
    /// Runs both directions to their ends, unless one breaks or a side is silent for too long. The
    /// deadline moves with every byte; the timer does not: it is looked at when it fires.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let up = self.up.poll(cx).map_err(End::Broken)?;
        let down = self.down.poll(cx).map_err(End::Broken)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        while Pin::new(&mut self.timer).poll(cx).is_ready() {
            let (at, cause) = self.traffic.deadline(self.timeout);
            if at <= self.traffic.shard.reactor.now() {
                return Poll::Ready(Err(End::Silent(cause)));
            }
            Pin::new(&mut self.timer).postpone(at);
        }
        Poll::Pending
    }
}
