//! One direction of a session: bytes from one side to the other until the end of the stream.
//!
//! Copying keeps at most one window of unsent bytes: the next receive is asked for when the last
//! buffer has been sent. It is polled by hand, since every session is two of these and what an async
//! function keeps for itself would be most of a session's memory. Bulk goes through `splice`.
//! Invariants: bytes leave in the order in which they came; the end of the stream is passed on only
//! after the last byte.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ringlane_core::machine::reactor::{Receiver, Sender, Stream};
use ringlane_core::machine::sys::Buffer;

use crate::path::PathChoice;
use crate::relay::{Side, Traffic};
use crate::splice::{Spliced, splice};

/// The side whose connection broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Broken(pub(crate) Side);

/// A direction of a session.
#[derive(Debug)]
pub(crate) struct Pump<'a> {
    way: Way<'a>,
    stage: Stage<'a>,
}

/// Where a direction goes and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    /// Which side the bytes come from.
    pub(crate) source: Side,
    /// Who is told of them.
    pub(crate) traffic: &'a Traffic<'a>,
    /// How they are carried.
    pub(crate) path: PathChoice,
    /// Whether the way to the sink has been made ready for bulk.
    eased: bool,
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

/// Both ends of a direction while it copies.
#[derive(Debug)]
pub(crate) struct Halves<'a> {
    pub(crate) receiver: Receiver<'a>,
    pub(crate) sender: Sender<'a>,
    /// Received, and not yet handed to the sender, which may still be busy.
    waiting: Option<Buffer>,
}

/// Why copying pauses.
enum Pause {
    /// The source has ended its stream.
    End,
    /// What comes is bulk.
    Bulk,
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
    /// A direction from what `source` has said already, and will say, to the other stream.
    pub(crate) fn new(
        source: Side,
        (receiver, waiting): (Receiver<'a>, Option<Buffer>),
        to: &'a Stream,
        traffic: &'a Traffic<'a>,
        path: PathChoice,
    ) -> Self {
        if let Some(said) = &waiting {
            traffic.received(source, said.len());
            traffic.saw(source, said.bytes());
        }
        let halves = Halves { receiver, sender: to.sender(), waiting };
        let way = Way { source, traffic, path, eased: false };
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

    /// Whether all that the source has said has been sent, as far as it has been received.
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

    /// Whether the source may have said something that has not been received.
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

    /// After the source's connection broke: passes on what it had said. Its end is not passed on, since
    /// it is none. Ready when nothing is left, or when the sink takes no more.
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
                    // A sink that broke meanwhile hears nothing more.
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
                            // It has told all that there was; the last of it may be under way.
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
                    // When both directions have ended the close that follows says so itself.
                    if !self.way.traffic.ended(self.way.source) {
                        // Fails only if the connection has gone, which its own receive tells better.
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
        let shard = self.way.traffic.shard;
        match shard.pipes.lease(|| shard.reactor.pipe()) {
            // Boxed: a session that never carries bulk should not hold room for it.
            Some(pipe) => {
                self.advance(|way, halves| Stage::Splicing(Box::pin(splice(way, halves, pipe))))
            }
            // No pipe to be had: what insists on splicing is copied rather than cut.
            None => self.way.path.refused(),
        }
    }
}

impl<'a> Halves<'a> {
    /// Copies until the stream ends or splicing would be cheaper.
    fn poll(&mut self, way: &mut Way<'a>, cx: &mut Context<'_>) -> Poll<Result<Pause, Broken>> {
        // Only what was sent before this: a send that fails later wakes the task again.
        self.sender.check().map_err(|_| way.sink_broken())?;
        loop {
            if self.waiting.is_some() {
                ready!(self.sender.poll_flush()).map_err(|_| way.sink_broken())?;
                self.send_waiting(way)?;
            }
            if way.path.wants_splice() {
                return Poll::Ready(Ok(Pause::Bulk));
            }
            ready!(way.traffic.poll_may_receive(way.source, cx));
            match ready!(self.receiver.poll_next()).map_err(|_| way.source_broken())? {
                Some(buffer) => self.received(way, buffer),
                None => return Poll::Ready(Ok(Pause::End)),
            }
        }
    }

    /// Receives and sends what is left of a connection that broke; ready when all of it is being sent.
    fn poll_last_words(&mut self, way: &mut Way<'a>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting.is_some()
                && (ready!(self.sender.poll_flush()).is_err() || self.send_waiting(way).is_err())
            {
                return Poll::Ready(());
            }
            ready!(way.traffic.poll_may_receive(way.source, cx));
            match ready!(self.receiver.poll_next()) {
                Ok(Some(buffer)) => self.received(way, buffer),
                Ok(None) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Takes a buffer, to be sent next.
    fn received(&mut self, way: &mut Way<'a>, buffer: Buffer) {
        way.path.received(buffer.has_backlog());
        if way.path.is_bulk() {
            way.ease_pacing(self.sender.stream());
        }
        way.traffic.received(way.source, buffer.len());
        way.traffic.saw(way.source, buffer.bytes());
        self.waiting = Some(buffer);
    }

    fn send_waiting(&mut self, way: &Way<'a>) -> Result<(), Broken> {
        let Some(buffer) = self.waiting.take() else { return Ok(()) };
        self.sender.start(buffer).map_err(|_| way.sink_broken())?;
        way.traffic.sent(way.source.other());
        Ok(())
    }

    /// Stops receiving and sends all that has come; whether the stream ended with it.
    pub(crate) async fn run_dry(&mut self, way: &mut Way<'a>) -> Result<bool, Broken> {
        while let Some(received) = self.receiver.remainder().await {
            match received {
                Ok(Some(buffer)) => self.received(way, buffer),
                Ok(None) => return Ok(true),
                Err(_) => {
                    // What came before is still under way.
                    self.sender.flush().await.map_err(|_| way.sink_broken())?;
                    return Err(way.source_broken());
                }
            }
            self.sender.flush().await.map_err(|_| way.sink_broken())?;
            self.send_waiting(way)?;
        }
        self.sender.flush().await.map_err(|_| way.sink_broken())?;
        Ok(false)
    }
}

impl Way<'_> {
    pub(crate) fn source_broken(&self) -> Broken {
        Broken(self.source)
    }

    pub(crate) fn sink_broken(&self) -> Broken {
        Broken(self.source.other())
    }

    /// Before bulk, once: pacing costs more than it gives on a short path.
    pub(crate) fn ease_pacing(&mut self, to: &Stream) {
        if !std::mem::replace(&mut self.eased, true) {
            let traffic = self.traffic;
            traffic.shard.ease_pacing(traffic.ids(), to, self.source.other());
        }
    }
}
