//! Copying in one direction: a buffer received, the same buffer sent.
//!
//! Not here: when to splice instead (`path`), what follows an end (`pump`).

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use ringlane_core::machine::reactor::{Receiver, Sender, Stream};
use ringlane_core::machine::sys::Buffer;

use crate::path::PathChoice;
use crate::side::{Broken, Side};
use crate::traffic::Traffic;

/// Where the bytes of a direction come from.
pub(crate) struct Source<'a> {
    pub(crate) receiver: Receiver<'a>,
    /// What has been received already.
    pub(crate) read: Option<Buffer>,
}

/// Where a direction goes and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    /// Which side the bytes come from.
    pub(crate) source: Side,
    /// Where they are counted.
    pub(crate) traffic: &'a Traffic<'a>,
    /// How they are carried.
    pub(crate) path: PathChoice,
    /// Whether the way to the sink has been made ready for bulk.
    pub(crate) eased: bool,
}

/// Both ends of a direction while it copies.
#[derive(Debug)]
pub(crate) struct Halves<'a> {
    pub(crate) receiver: Receiver<'a>,
    pub(crate) sender: Sender<'a>,
    /// Received, and not yet handed to the sender, which may still be busy.
    pub(crate) waiting: Option<Buffer>,
}

/// Why copying pauses.
pub(crate) enum Pause {
    /// The source has ended its stream.
    End,
    /// What comes is bulk.
    Bulk,
}

impl<'a> Halves<'a> {
    /// Copies until the stream ends or splicing would be cheaper.
    pub(crate) fn poll(
        &mut self,
        way: &mut Way<'a>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Pause, Broken>> {
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

    /// Receives and sends what is left of a connection that broke; ready when all of it is being
    /// sent.
    pub(crate) fn poll_last_words(&mut self, way: &mut Way<'a>, cx: &mut Context<'_>) -> Poll<()> {
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
        way.traffic.show(way.source, buffer.bytes());
        self.waiting = Some(buffer);
    }

    pub(crate) fn send_waiting(&mut self, way: &Way<'a>) -> Result<(), Broken> {
        let Some(buffer) = self.waiting.take() else { return Ok(()) };
        self.sender.start(buffer).map_err(|_| way.sink_broken())?;
        way.traffic.sent(way.source.other());
        Ok(())
    }

    /// Stops receiving and sends all that has come; whether the stream ended with it.
    pub(crate) async fn run_dry(&mut self, way: &mut Way<'a>) -> Result<bool, Broken> {
        loop {
            // What has come already is not paid for either.
            poll_fn(|cx| way.traffic.poll_may_receive(way.source, cx)).await;
            let Some(received) = self.receiver.remainder().await else { break };
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
            self.traffic.ease_pacing(self.source.other(), to);
        }
    }
}
