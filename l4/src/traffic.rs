//! What passes through a session: counted, and remembered as a sign of life.
//!
//! From it follow the session's timeouts, and what orders to end sessions mean for it now. Not
//! here: moving bytes (`pump`), acting on a deadline (`relay`).

use std::cell::{Cell, RefMut};
use std::fmt;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringlane_core::counters::{Cause, FrontendCounters, ServerCounters};
use ringlane_core::limits::PIPE_SIZE;
use ringlane_core::machine::Congestion;
use ringlane_core::machine::reactor::{Reactor, Stream};
use ringlane_core::settings::Backend;
use ringlane_shard::{Disposition, Seat, Session};

use crate::pipes::Pipes;
use crate::side::Side;
use crate::taps::Taps;
use crate::throttle::Throttle;
use crate::transactions::Tracker;

/// Signs of life of both sides that are no further apart belong to one exchange.
const SAME_EXCHANGE: Duration = Duration::from_millis(10);

/// What passes through a session.
pub(crate) struct Traffic<'a> {
    pub(crate) pipes: &'a Pipes,
    pub(crate) session: &'a Session,
    seat: Seat,
    pub(crate) taps: Option<Box<Taps>>,
    frontend: &'a FrontendCounters,
    pub(crate) server: &'a ServerCounters,
    /// Nanoseconds after accept of each side's last sign of life: half of what an `Instant` takes.
    alive: [Cell<u64>; 2],
    ended: [Cell<bool>; 2],
    /// Whether a pipe holds bytes of the client.
    held: Cell<bool>,
}

impl fmt::Debug for Traffic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traffic({:?})", self.session.bytes)
    }
}

impl<'a> Traffic<'a> {
    /// Nothing has passed yet, and both sides have just shown signs of life.
    pub(crate) fn new(
        pipes: &'a Pipes,
        session: &'a Session,
        seat: Seat,
        taps: Option<Box<Taps>>,
    ) -> Self {
        let counters = session.generation.counters();
        let now = since_accept(session);
        let server = counters.server(seat.server());
        Self {
            pipes,
            session,
            seat,
            taps,
            server,
            frontend: counters.frontend(session.frontend_id()),
            alive: [Cell::new(now), Cell::new(now)],
            ended: [Cell::new(false), Cell::new(false)],
            held: Cell::new(false),
        }
    }

    /// Bytes came from a side.
    pub(crate) fn received(&self, side: Side, bytes: usize) {
        let bytes = bytes as u64;
        let counts = &self.session.bytes;
        let (total, frontend, server) = match side {
            Side::Client => (&counts.from_client, &self.frontend.bytes_in, &self.server.bytes_in),
            Side::Server => (&counts.from_server, &self.frontend.bytes_out, &self.server.bytes_out),
        };
        total.set(total.get() + bytes);
        frontend.add(bytes);
        server.add(bytes);
        self.alive[side as usize].set(since_accept(self.session));
        if let Some(taps) = &self.taps {
            taps.received(&self.session.generation, side, bytes);
        }
    }

    /// Waits until more may come from a side.
    pub(crate) fn poll_may_receive(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        self.taps.as_ref().map_or(Poll::Ready(()), |taps| taps.poll_may_receive(side, cx))
    }

    /// How many bytes to splice at once.
    pub(crate) fn fill(&self) -> usize {
        self.taps.as_ref().map_or(PIPE_SIZE, |taps| taps.fill())
    }

    /// The bytes that came from a side.
    pub(crate) fn show(&self, side: Side, bytes: &[u8]) {
        if let Some(taps) = &self.taps {
            taps.show(side, bytes);
        }
    }

    /// What follows its transactions.
    pub(crate) fn tracker(&self) -> Option<RefMut<'_, Tracker>> {
        self.taps.as_ref()?.tracker()
    }

    /// Before bulk to a side: takes its connection off a pacing congestion control, if the
    /// configuration leaves the choice open and the path is short.
    pub(crate) fn ease_pacing(&self, side: Side, stream: &Stream) {
        let congestion = match side {
            Side::Client => &self.session.frontend().congestion,
            Side::Server => &self.backend().congestion,
        };
        if *congestion == Congestion::Auto {
            // What can't be changed stays as the host has it.
            let _ = stream.leave_pacing_on_a_short_path();
        }
    }

    /// When a side last showed a sign of life.
    pub(crate) fn alive(&self, side: Side) -> Instant {
        self.session.accepted() + Duration::from_nanos(self.alive[side as usize].get())
    }

    /// A side took bytes.
    pub(crate) fn sent(&self, side: Side) {
        self.alive[side as usize].set(since_accept(self.session));
    }

    /// A side has ended its stream, which the other one learns now; whether that had ended before.
    pub(crate) fn ended(&self, side: Side) -> bool {
        self.ended[side as usize].set(true);
        if side == Side::Client && !self.ended[Side::Server as usize].get() {
            self.session.note_client_ended_first();
        }
        self.sent(side.other());
        self.ended[side.other() as usize].get()
    }

    /// The side that goes on after the other one has ended.
    pub(crate) fn goes_on(&self) -> Option<Side> {
        match self.ended.each_ref().map(Cell::get) {
            [false, true] => Some(Side::Client),
            [true, false] => Some(Side::Server),
            _ => None,
        }
    }

    /// A pipe holds bytes of a side, or does not any more. Only the client's matter: when all of
    /// them have been sent, the server may have done its part.
    pub(crate) fn hold(&self, side: Side, holds: bool) {
        if side == Side::Client {
            self.held.set(holds);
        }
    }

    /// Whether a pipe may hold bytes of a side.
    pub(crate) fn holds(&self, side: Side) -> bool {
        side == Side::Server || self.held.get()
    }

    /// The executor.
    pub(crate) fn reactor(&self) -> &'a Reactor {
        self.session.generation.reactor()
    }

    /// How long its server's first byte may take, where that is watched.
    pub(crate) fn first_byte_limit(&self) -> Option<Duration> {
        self.session.generation.server(self.seat.server()).first_byte_limit()
    }

    /// The percentage of segments sent again above which it is lossy, where that is watched.
    pub(crate) fn loss_limit(&self) -> Option<u32> {
        self.session.generation.server(self.seat.server()).loss_limit()
    }

    /// The server has nothing more to do for this session: gives its place back.
    pub(crate) fn leave_server(&self) {
        self.seat.leave();
    }

    /// When a side that stays silent has been silent for too long, and which one. Where both fell
    /// silent after the same exchange the client's timeout goes first, as in HAProxy.
    pub(crate) fn deadline(&self) -> (Instant, Cause) {
        let idle = self.idle_deadline();
        let alive = self.alive(Side::Client).max(self.alive(Side::Server));
        let Some(Disposition::Drained(at, _)) = self.disposition() else { return idle };
        let drained = match self.tracker() {
            Some(tracker) if !tracker.is_opaque() => tracker.is_idle().then_some(at),
            _ => Some(at.max(alive + self.backend().drain_idle)),
        };
        drained.filter(|at| *at < idle.0).map_or(idle, |at| (at, Cause::Killed))
    }

    /// What is configured for its server.
    fn backend(&self) -> &Backend {
        self.session.generation.backend_of(self.seat.server())
    }

    /// What orders to end sessions mean for it now.
    pub(crate) fn disposition(&self) -> Option<Disposition> {
        self.seat.disposition(self.session.role(), self.session.mark())
    }

    /// As `deadline`, for the configured timeouts.
    pub(crate) fn idle_deadline(&self) -> (Instant, Cause) {
        let timeout = &self.session.frontend().timeout;
        // A side that is throttled is not silent.
        let throttle = self.taps.as_ref().and_then(|taps| taps.throttle.as_ref());
        let waits = throttle.map(Throttle::waits_until);
        let alive = |side: Side| {
            let alive = self.alive(side);
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

/// Nanoseconds from accept until now: enough for 584 years.
fn since_accept(session: &Session) -> u64 {
    let elapsed = session.generation.now().saturating_duration_since(session.accepted());
    elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
}
