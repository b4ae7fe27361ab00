//! Both directions of a session at once, its timeouts, and what its end means.
//!
//! Half-close is kept: a direction that ended leaves the other running, and a server that has ended
//! and been sent everything gives its place back. A broken side ends the session: what it had said
//! before is passed on, then the other side learns it as a reset. A side is alive while it sends or
//! takes bytes; one that does neither for its timeout ends the session, unless bytes of it wait in its
//! socket because this process was not running.

use std::cell::{Cell, RefMut};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringlane_core::counters::{Cause, FrontendCounters, Reason, ServerCounters};
use ringlane_core::ids::{FrontendId, ServerId};
use ringlane_core::limits::{LAST_LOOK, LAST_WORDS, PIPE_SIZE};
use ringlane_core::machine::reactor::{Receiver, Sleep, Stream};
use ringlane_core::machine::sys::Buffer;
use ringlane_core::settings::{Backend, Path, RoleWanted};

use crate::endings::Verdict;
use crate::extras::Extras;
use crate::greeting::Tracker;
use crate::path::PathChoice;
use crate::pump::{Broken, Pump};
use crate::session::Bytes;
use crate::shard::Shard;
use crate::throttle::Throttle;

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

    /// Whom a close is laid to when this side's connection broke.
    pub(crate) const fn cause(self) -> Cause {
        match self {
            Self::Client => Cause::Client,
            Self::Server => Cause::Server,
        }
    }

    /// As `cause`, when this side was silent for too long.
    const fn silence(self) -> Cause {
        match self {
            Self::Client => Cause::ClientTimeout,
            Self::Server => Cause::ServerTimeout,
        }
    }
}

/// What passes through a session: counted, and remembered as a sign of life.
pub(crate) struct Traffic<'a> {
    pub(crate) shard: &'a Shard,
    frontend_id: FrontendId,
    server_id: ServerId,
    /// What the session wants of its server.
    role: RoleWanted,
    extras: Option<Box<Extras>>,
    bytes: &'a Bytes,
    frontend: &'a FrontendCounters,
    server: &'a ServerCounters,
    alive: [Cell<Instant>; 2],
    ended: [Cell<bool>; 2],
    /// Whether a pipe holds bytes of the client.
    held: Cell<bool>,
}

impl fmt::Debug for Traffic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traffic({:?})", self.bytes)
    }
}

impl<'a> Traffic<'a> {
    /// Nothing has passed yet, and both sides have just been heard of.
    pub(crate) fn new(
        shard: &'a Shard,
        (frontend_id, server_id, role): (FrontendId, ServerId, RoleWanted),
        bytes: &'a Bytes,
        extras: Option<Box<Extras>>,
    ) -> Self {
        let now = shard.reactor.now();
        Self {
            shard,
            frontend_id,
            server_id,
            role,
            extras,
            bytes,
            frontend: shard.counters().frontend(frontend_id),
            server: shard.counters().server(server_id),
            alive: [Cell::new(now), Cell::new(now)],
            ended: [Cell::new(false), Cell::new(false)],
            held: Cell::new(false),
        }
    }

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
        if let Some(extras) = &self.extras {
            extras.received(self.shard, side, bytes);
        }
    }

    /// Waits until more may come from a side.
    pub(crate) fn poll_may_receive(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        self.extras.as_ref().map_or(Poll::Ready(()), |extras| extras.poll_may_receive(side, cx))
    }

    /// How many bytes to splice at once.
    pub(crate) fn fill(&self) -> usize {
        self.extras.as_ref().map_or(PIPE_SIZE, |extras| extras.fill())
    }

    /// What the bytes were.
    pub(crate) fn saw(&self, side: Side, bytes: &[u8]) {
        if let Some(extras) = &self.extras {
            extras.saw(side, bytes);
        }
    }

    fn tracker(&self) -> Option<RefMut<'_, Tracker>> {
        self.extras.as_ref()?.tracker()
    }

    /// Where the session came in, and its server.
    pub(crate) fn ids(&self) -> (FrontendId, ServerId) {
        (self.frontend_id, self.server_id)
    }

    /// A side took bytes.
    pub(crate) fn sent(&self, side: Side) {
        self.alive[side as usize].set(self.shard.reactor.now());
    }

    /// A side has ended its stream, which the other one learns now; whether that had ended before.
    pub(crate) fn ended(&self, side: Side) -> bool {
        self.ended[side as usize].set(true);
        self.sent(side.other());
        self.ended[side.other() as usize].get()
    }

    /// The side that goes on after the other one has ended.
    fn goes_on(&self) -> Option<Side> {
        match self.ended.each_ref().map(Cell::get) {
            [false, true] => Some(Side::Client),
            [true, false] => Some(Side::Server),
            _ => None,
        }
    }

    /// A pipe holds bytes of a side, or does not any more. Only the client's matter: when all of them
    /// have been sent, the server may have done its part.
    pub(crate) fn hold(&self, side: Side, holds: bool) {
        if side == Side::Client {
            self.held.set(holds);
        }
    }

    /// Whether a pipe may hold bytes of a side.
    pub(crate) fn holds(&self, side: Side) -> bool {
        side == Side::Server || self.held.get()
    }

    /// The server has nothing more to do for this session: gives its place back, once.
    fn leave_server(&self) {
        if !self.bytes.server_left.replace(true) {
            self.shard.leave_server(self.server_id);
        }
    }

    /// When a side that stays silent has been silent for too long, and which one. Where both fell
    /// silent after the same exchange the client's timeout goes first, as in HAProxy.
    fn deadline(&self) -> (Instant, Cause) {
        let idle = self.idle_deadline();
        let alive = self.alive[0].get().max(self.alive[1].get());
        let Some(Verdict::Drained(at, _)) = self.verdict() else { return idle };
        let drained = match self.tracker() {
            Some(tracker) if !tracker.is_opaque() => tracker.is_idle().then_some(at),
            _ => Some(at.max(alive + self.backend().drain_idle)),
        };
        drained.filter(|at| *at < idle.0).map_or(idle, |at| (at, Cause::Killed))
    }

    /// What is configured for its server.
    fn backend(&self) -> &Backend {
        let snapshot = &self.shard.snapshot;
        snapshot.backend(snapshot.server(self.server_id).backend)
    }

    /// What was said of sessions like this one since it began.
    fn verdict(&self) -> Option<Verdict> {
        let said = self.shard.endings.said();
        if said == self.bytes.begun.get() {
            return None;
        }
        // Differs from session to session, which is all it must do.
        let mark = (self.bytes as *const Bytes).addr() as u32;
        let like_this = (self.server_id, self.role);
        let verdict = self.shard.endings.verdict(like_this, self.bytes.begun.get(), mark);
        if verdict.is_none() {
            // What did not mean this session never will.
            self.bytes.begun.set(said);
        }
        verdict
    }

    /// As `deadline`, for the configured timeouts.
    fn idle_deadline(&self) -> (Instant, Cause) {
        let timeout = &self.shard.snapshot.frontend(self.frontend_id).timeout;
        // Who is made to wait is not silent.
        let throttle = self.extras.as_ref().and_then(|extras| extras.throttle.as_ref());
        let waits = throttle.map(Throttle::waits_until);
        let alive = |side: Side| {
            let alive = self.alive[side as usize].get();
            waits.map_or(alive, |until| until.max(alive))
        };
        let client = alive(Side::Client) + timeout.client;
        let server = alive(Side::Server) + timeout.server;
        if let (Some(fin), Some(side)) = (timeout.fin, self.goes_on()) {
            return ((alive(side) + fin).min(client).min(server), side.silence());
        }
        if client <= server + SAME_EXCHANGE {
            (client.min(server), Cause::ClientTimeout)
        } else {
            (server, Cause::ServerTimeout)
        }
    }
}

/// The parts of a session's task, so that a byte in one direction costs nothing in the other.
const UP: u8 = 1;
const DOWN: u8 = 2;

/// Both directions of a session: relays until both have finished or something ends it. A future by
/// hand, as an async function would keep its arguments in every session once more.
pub(crate) struct Relay<'a> {
    up: Pump<'a>,
    down: Pump<'a>,
    timer: Sleep,
    traffic: &'a Traffic<'a>,
    /// The side whose connection broke, while its last words are passed on.
    broken: Option<Side>,
    /// Whether the sockets have been looked at since a side was found silent for too long.
    looked: bool,
}

/// What ended a session before both sides had finished.
pub(crate) enum End {
    /// A side's connection broke.
    Broken(Broken),
    /// A side was silent for too long.
    Silent(Cause),
    /// It was idle and its server is drained, or the shard stops.
    Drained(Reason),
    /// Its server is not what it was.
    Fenced {
        /// Whether the client has been told in its protocol.
        told: bool,
        /// What its server is instead.
        why: Reason,
    },
}

impl<'a> Relay<'a> {
    /// A relay between two connected sides; `said` is what the client has said already.
    pub(crate) fn new(
        (client, said): (Receiver<'a>, Option<Buffer>),
        server: &'a Stream,
        traffic: &'a Traffic<'a>,
    ) -> Self {
        let shard = traffic.shard;
        // What is spliced is not seen.
        let path = if traffic.extras.as_ref().is_some_and(|extras| extras.sees()) {
            Path::Copy
        } else {
            shard.snapshot.frontend(traffic.frontend_id).path
        };
        let path = PathChoice::new(path);
        let stream = client.stream();
        Self {
            down: Pump::new(Side::Server, (server.receiver(), None), stream, traffic, path),
            up: Pump::new(Side::Client, (client, said), server, traffic, path),
            timer: shard.reactor.sleep_until(traffic.deadline().0),
            traffic,
            broken: None,
            looked: false,
        }
    }

    /// Runs both directions to their ends, unless one breaks or a side is silent for too long. The
    /// deadline moves with every byte; the timer does not: it is looked at when it fires.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let reactor = &self.traffic.shard.reactor;
        let verdict = self.traffic.verdict();
        if let Some(Verdict::Fenced(why)) = verdict {
            // Before anything more passes.
            let told = self.tell(why);
            return Poll::Ready(Err(End::Fenced { told, why }));
        }
        if verdict == Some(Verdict::Stopped) {
            self.tell(Reason::Stopped);
            return Poll::Ready(Err(End::Drained(Reason::Stopped)));
        }
        if self.broken.is_none()
            && let Err(Broken(side)) = self.poll_ways(cx)
        {
            self.broken = Some(side);
            Pin::new(&mut self.timer).postpone(reactor.now() + LAST_WORDS);
        }
        if let Some(side) = self.broken {
            return self.poll_last_words(side, cx);
        }
        let hurries = match (self.up.has_ended(), self.down.has_ended()) {
            (true, true) => return Poll::Ready(Ok(())),
            (false, false) if !self.down.is_ending() => false,
            _ => self.half_closed(),
        };
        // A session whose transactions are followed may have become idle with what has just passed.
        let may_be_idle = verdict.is_some() && self.traffic.tracker().is_some();
        if !may_be_idle && !hurries && !reactor.has_other_news() {
            return Poll::Pending;
        }
        if verdict.is_some() {
            let deadline = self.traffic.deadline().0;
            Pin::new(&mut self.timer).postpone(deadline);
        }
        while Pin::new(&mut self.timer).poll(cx).is_ready() {
            let (at, cause) = self.traffic.deadline();
            if at > reactor.now() {
                self.looked = false;
                Pin::new(&mut self.timer).postpone(at);
                continue;
            }
            let Some(Verdict::Drained(_, why)) = verdict.filter(|_| cause == Cause::Killed) else {
                if self.may_have_unread() {
                    Pin::new(&mut self.timer).postpone(reactor.now() + LAST_LOOK);
                    continue;
                }
                return Poll::Ready(Err(End::Silent(self.silent(cause))));
            };
            if self.traffic.tracker().is_some() {
                let patience = self.traffic.idle_deadline().0;
                if self.down.poll_flushed().is_pending() && reactor.now() < patience {
                    // The client shall have its last answer before it is told.
                    Pin::new(&mut self.timer).postpone(patience);
                    continue;
                }
                self.tell(why);
            }
            return Poll::Ready(Err(End::Drained(why)));
        }
        Poll::Pending
    }

    /// Polls the directions that have news.
    fn poll_ways(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        let reactor = &self.traffic.shard.reactor;
        if let Some(Poll::Ready(ended)) = reactor.poll_part(UP, || self.up.poll(cx)) {
            ended?;
        }
        if let Some(Poll::Ready(ended)) = reactor.poll_part(DOWN, || self.down.poll(cx)) {
            ended?;
        }
        Ok(())
    }

    /// A side's connection broke: what it had said reaches the other one, in bounded time.
    fn poll_last_words(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let way = match side {
            Side::Client => &mut self.up,
            Side::Server => {
                self.traffic.leave_server();
                &mut self.down
            }
        };
        if way.poll_last_words(cx).is_pending() && Pin::new(&mut self.timer).poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(End::Broken(Broken(side))))
    }

    /// A side has ended: gives the server's place back if it is that and has been sent everything.
    /// Whether the other side has less time from now on.
    fn half_closed(&mut self) -> bool {
        if self.down.is_ending() && self.up.has_sent_all() {
            self.traffic.leave_server();
        }
        let deadline = self.traffic.deadline().0;
        let hurries = deadline < self.timer.deadline() && !self.looked;
        if hurries {
            Pin::new(&mut self.timer).postpone(deadline);
        }
        hurries
    }

    /// Before a side is given up for its silence, once: whether it has perhaps not been silent, since
    /// what it said waits in its socket.
    fn may_have_unread(&mut self) -> bool {
        !std::mem::replace(&mut self.looked, true)
            && (self.up.may_have_unread() || self.down.may_have_unread())
    }

    /// Which silence ends the session. A side that has ended is silent by right, unless it does not
    /// take what it is sent.
    fn silent(&mut self, cause: Cause) -> Cause {
        let (side, way) = match self.traffic.goes_on() {
            None => return cause,
            Some(Side::Client) => (Side::Client, &mut self.up),
            Some(Side::Server) => (Side::Server, &mut self.down),
        };
        if way.has_sent_all() { side.silence() } else { side.other().silence() }
    }

    /// Tells the client in its protocol that the session ends here, where that is possible.
    fn tell(&mut self, why: Reason) -> bool {
        let farewell = self.traffic.tracker().and_then(|tracker| tracker.farewell(why));
        let Some(farewell) = farewell else { return false };
        self.down.poll_flushed().is_ready()
            && self.down.sink().is_some_and(|client| {
                client.send_few(&farewell).is_ok_and(|sent| sent == farewell.len())
            })
    }
}

impl Future for Relay<'_> {
    type Output = Result<(), End>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_end(cx)
    }
}
