//! One direction of a session: bytes from one side to the other until the end of the stream.
//!
//! Copying keeps at most one window of unsent bytes: the next receive is asked for when the last
//! buffer has been sent. It is polled by hand, since every session is two of these and what an
//! async function keeps for itself would be most of a session's memory. Bulk goes through `splice`.
//! Invariants: bytes leave in the order in which they came; the end of the stream is passed on only
//! after the last byte.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ringlane_core::machine::reactor::{Sender, Stream};

use crate::copy::{Halves, Pause, Source, Way};
use crate::path::PathChoice;
use crate::side::{Broken, Side};
use crate::splice::{Spliced, splice};
use crate::traffic::Traffic;

/// A direction of a session.
#[derive(Debug)]
pub(crate) struct Pump<'a> {
    way: Way<'a>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Copying(Halves<'a>),
    Splicing(Pin<Box<dyn Future<Output = Result<Spliced<'a>, Broken>> + 'a>>),
    /// The source has ended, the last bytes are under way.
    Ending(Sender<'a>),
    Ended,
}

impl<'a> Stage<'a> {
    /// After splicing, at the end of the stream or before it.
    fn after(halves: Halves<'a>, ended: bool) -> Self {
        if ended { Self::Ending(halves.sender) } else { Self::Copying(halves) }
    }
}

impl fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copying(_) => "Copying",
            Self::Splicing(_) => "Splicing",
            Self::Ending(_) => "Ending",
            Self::Ended => "Ended",
        })
    }
}

impl<'a> Pump<'a> {
    /// A direction from the bytes of `side` to the other stream.
    pub(crate) fn new(
        side: Side,
        source: Source<'a>,
        to: &'a Stream,
        traffic: &'a Traffic<'a>,
        path: PathChoice,
    ) -> Self {
        let Source { receiver, read: waiting } = source;
        if let Some(read) = &waiting {
            traffic.received(side, read.len());
            traffic.show(side, read.bytes());
        }
        let halves = Halves { receiver, sender: to.sender(), waiting };
        let way = Way { source: side, traffic, path, eased: false };
        Self { way, stage: Stage::Copying(halves) }
    }

    /// Whether the source has ended its stream and the end was passed on.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Whether the source has ended its stream, be the last bytes under way or not.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending(_) | Stage::Ended)
    }

    /// Whether all that the source has sent has been passed on, as far as it has been received.
    pub(crate) fn has_sent_all(&mut self) -> bool {
        match &mut self.stage {
            Stage::Copying(halves) => {
                halves.waiting.is_none() && halves.sender.poll_flush().is_ready()
            }
            Stage::Splicing(_) => !self.way.traffic.holds(self.way.source),
            Stage::Ending(sender) => sender.poll_flush().is_ready(),
            Stage::Ended => true,
        }
    }

    /// Whether the source may have sent something that has not been received.
    pub(crate) fn may_have_unread(&self) -> bool {
        match &self.stage {
            Stage::Copying(halves) => halves.receiver.stream().is_readable(),
            Stage::Splicing(_) => true,
            Stage::Ending(_) | Stage::Ended => false,
        }
    }

    /// What a direction that copies sends to.
    pub(crate) fn sink(&self) -> Option<&'a Stream> {
        match &self.stage {
            Stage::Copying(halves) => Some(halves.sender.stream()),
            _ => None,
        }
    }

    /// After the source's connection broke: passes on what it had sent. Its end is not passed on,
    /// since it is none. Ready when nothing is left, or when the sink takes no more.
    pub(crate) fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.stage {
                Stage::Copying(halves) => {
                    ready!(halves.poll_last_words(&mut self.way, cx));
                    self.advance(|_, halves| Stage::Ending(halves.sender));
                }
                Stage::Splicing(splicing) => {
                    let spliced = ready!(splicing.as_mut().poll(cx));
                    self.stage = spliced.map_or(Stage::Ended, |Spliced { way, halves, ended }| {
                        self.way = way;
                        Stage::after(halves, ended)
                    });
                }
                Stage::Ending(sender) => {
                    // A sink that broke meanwhile gets nothing more.
                    let _ = ready!(sender.poll_flush());
                    self.stage = Stage::Ended;
                }
                Stage::Ended => return Poll::Ready(()),
            }
        }
    }

    /// Waits until nothing is under way to the sink while the direction copies.
    pub(crate) fn poll_flushed(&mut self) -> Poll<()> {
        match &mut self.stage {
            Stage::Copying(halves) if halves.waiting.is_none() => {
                halves.sender.poll_flush().map(drop)
            }
            _ => Poll::Pending,
        }
    }

    /// Pumps until the source ends its stream, and passes the end on. Ready ever after.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            match &mut self.stage {
                Stage::Copying(halves) => match ready!(halves.poll(&mut self.way, cx)) {
                    Ok(Pause::End) => self.advance(|_, halves| Stage::Ending(halves.sender)),
                    Ok(Pause::Bulk) => self.begin_to_splice(),
                    Err(broken) => {
                        if broken == self.way.source_broken() {
                            // All that there was has come; the last of it may be under way.
                            self.advance(|_, halves| Stage::Ending(halves.sender));
                        }
                        return Poll::Ready(Err(broken));
                    }
                },
                Stage::Splicing(splicing) => match ready!(splicing.as_mut().poll(cx)) {
                    Ok(Spliced { way, halves, ended }) => {
                        self.way = way;
                        self.stage = Stage::after(halves, ended);
                    }
                    Err(broken) => {
                        self.stage = Stage::Ended;
                        return Poll::Ready(Err(broken));
                    }
                },
                Stage::Ending(sender) => {
                    ready!(sender.poll_flush()).map_err(|_| self.way.sink_broken())?;
                    // When both directions have ended the close that follows is enough.
                    if !self.way.traffic.ended(self.way.source) {
                        // Fails only if the connection has gone, which its own receive reports
                        // better.
                        let _ = sender.stream().shutdown_write();
                    }
                    self.stage = Stage::Ended;
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    fn advance(&mut self, next: impl FnOnce(Way<'a>, Halves<'a>) -> Stage<'a>) {
        if let Stage::Copying(halves) = std::mem::replace(&mut self.stage, Stage::Ended) {
            self.stage = next(self.way, halves);
        }
    }

    fn begin_to_splice(&mut self) {
        let traffic = self.way.traffic;
        match traffic.pipes.lease(|| traffic.reactor().pipe()) {
            // Boxed: a session that never carries bulk should not hold room for it.
            Some((pipe, lease)) => self
                .advance(|way, halves| Stage::Splicing(Box::pin(splice(way, halves, pipe, lease)))),
            // No pipe to be had: what insists on splicing is copied rather than cut.
            None => self.way.path.refused(),
        }
    }
}
