//! Both directions of a session at once, its timeouts, and what its end means.
//!
//! Half-close is kept: a direction that ended leaves the other running, and a server that has ended
//! and been sent everything gives its place back. A broken side ends the session: what it had sent
//! before is passed on, then the other side gets a reset. A side is alive while it sends or
//! takes bytes; one that does neither for its timeout ends the session, unless bytes of it wait in
//! its socket because this process was not running.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ringlane_core::counters::{Cause, Reason};
use ringlane_core::limits::{LAST_LOOK, LAST_WORDS};
use ringlane_core::machine::reactor::{Sleep, Stream};
use ringlane_core::settings::Path;
use ringlane_shard::Disposition;

use crate::copy::Source;
use crate::path::PathChoice;
use crate::pump::Pump;
use crate::side::{Broken, Side};
use crate::traffic::Traffic;

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
        /// Whether the client got an error in its protocol.
        explained: bool,
        /// What its server is instead.
        why: Reason,
    },
}

impl<'a> Relay<'a> {
    /// A relay between two connected sides.
    pub(crate) fn new(client: Source<'a>, server: &'a Stream, traffic: &'a Traffic<'a>) -> Self {
        // Bytes that are spliced can't be looked at.
        let looks = traffic.taps.as_ref().is_some_and(|taps| taps.look());
        let path = if looks { Path::Copy } else { traffic.session.frontend().path };
        let path = PathChoice::new(path);
        let stream = client.receiver.stream();
        let answers = Source { receiver: server.receiver(), read: None };
        Self {
            down: Pump::new(Side::Server, answers, stream, traffic, path),
            up: Pump::new(Side::Client, client, server, traffic, path),
            timer: traffic.reactor().sleep_until(traffic.deadline().0),
            traffic,
            broken: None,
            looked: false,
        }
    }

    /// Runs both directions to their ends, unless one breaks or a side is silent for too long. The
    /// deadline moves with every byte; the timer does not: it is looked at when it fires.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let reactor = self.traffic.reactor();
        let disposition = self.traffic.disposition();
        if let Some(Disposition::Fenced(why)) = disposition {
            // Before anything more passes.
            let explained = self.say_farewell(why);
            return Poll::Ready(Err(End::Fenced { explained, why }));
        }
        if disposition == Some(Disposition::Stopped) {
            self.say_farewell(Reason::Stopped);
            return Poll::Ready(Err(End::Drained(Reason::Stopped)));
        }
        if self.broken.is_none()
            && let Err(Broken(side)) = self.poll_ways(cx)
        {
            self.broken = Some(side);
            self.traffic.sent(side.other());
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
        let may_be_idle = disposition.is_some() && self.traffic.tracker().is_some();
        if !may_be_idle && !hurries && !reactor.has_other_news() {
            return Poll::Pending;
        }
        if disposition.is_some() {
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
            let Some(Disposition::Drained(_, why)) = disposition.filter(|_| cause == Cause::Killed)
            else {
                if self.may_have_unread() {
                    Pin::new(&mut self.timer).postpone(reactor.now() + LAST_LOOK);
                    continue;
                }
                return Poll::Ready(Err(End::Silent(self.silent(cause))));
            };
            if self.traffic.tracker().is_some() {
                let patience = self.traffic.idle_deadline().0;
                if self.down.poll_flushed().is_pending() && reactor.now() < patience {
                    // The client gets its last answer first.
                    Pin::new(&mut self.timer).postpone(patience);
                    continue;
                }
                self.say_farewell(why);
            }
            return Poll::Ready(Err(End::Drained(why)));
        }
        Poll::Pending
    }

    /// Polls the directions that have news.
    fn poll_ways(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        let reactor = self.traffic.reactor();
        if let Some(Poll::Ready(ended)) = reactor.poll_part(UP, || self.up.poll(cx)) {
            ended?;
        }
        if let Some(Poll::Ready(ended)) = reactor.poll_part(DOWN, || self.down.poll(cx)) {
            ended?;
        }
        Ok(())
    }

    /// A side's connection broke: what it had sent reaches the other one, as long as that takes it.
    fn poll_last_words(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let way = match side {
            Side::Client => &mut self.up,
            Side::Server => {
                self.traffic.leave_server();
                &mut self.down
            }
        };
        if way.poll_last_words(cx).is_pending() {
            while Pin::new(&mut self.timer).poll(cx).is_ready() {
                let until = self.traffic.alive(side.other()) + LAST_WORDS;
                if until <= self.traffic.reactor().now() {
                    return Poll::Ready(Err(End::Broken(Broken(side))));
                }
                Pin::new(&mut self.timer).postpone(until);
            }
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

    /// Before a side is given up for its silence, once: whether it has perhaps not been silent,
    /// since its bytes wait in its socket.
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

    /// Sends the client the error by which its protocol ends a session, where that is possible.
    fn say_farewell(&mut self, why: Reason) -> bool {
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
