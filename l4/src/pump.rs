//! One direction of a session: bytes from one side to the other until the end of the stream.
//!
//! Copying keeps at most one window of unsent bytes: the next receive is asked for when the last
//! buffer has been sent. Splicing keeps at most a pipe. Invariants: bytes leave in the order in which
//! they came; the end of the stream is passed on only after the last byte; a pipe goes back to the
//! pool only when it is empty.

use std::io;
use std::time::Duration;

use ringlane_core::limits::{PIPE_SIZE, SPLICE_BUDGET};
use ringlane_core::reactor::{Failed, First, Receiver, Sender, Stream, first};
use ringlane_core::snapshot::FrontendId;
use ringlane_core::sys::{Buffer, Interest, Pipe};

use crate::path::PathChoice;
use crate::relay::{Side, Traffic};
use crate::shard::Shard;

/// How long a direction that ran dry keeps its pipe.
const SPLICE_LINGER: Duration = Duration::from_millis(20);

/// A direction of a session.
pub(crate) struct Pump<'a> {
    /// The shard that it runs on.
    pub(crate) shard: &'a Shard,
    /// The frontend that its session came in by.
    pub(crate) frontend: FrontendId,
    /// Which side the bytes come from.
    pub(crate) source: Side,
    /// Where the bytes come from.
    pub(crate) from: &'a Stream,
    /// Where the bytes go.
    pub(crate) to: &'a Stream,
    /// Who is told of them.
    pub(crate) traffic: &'a Traffic<'a>,
    /// How they are carried.
    pub(crate) path: PathChoice,
    /// Whether the way to the sink has been made ready for bulk.
    pub(crate) eased: bool,
}

/// The side whose connection broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Broken(pub(crate) Side);

/// Why splicing ended well.
enum SpliceEnd {
    /// The stream has ended.
    Stream,
    /// What comes is too little for it.
    Backlog,
}

impl Pump<'_> {
    /// Pumps until the source ends its stream, and passes the end on.
    pub(crate) async fn run(&mut self) -> Result<(), Broken> {
        let (mut receiver, mut sender) = (self.from.receiver(), self.to.sender());
        loop {
            // Boxed: a session that never carries bulk should not hold room for it in its task.
            if self.path.wants_splice() && Box::pin(self.splice(&mut receiver, &mut sender)).await?
            {
                break;
            }
            match receiver.next_for(&mut sender).await {
                Ok(Some(buffer)) => self.forward(buffer, &mut sender).await?,
                Ok(None) => break,
                Err(Failed::Receiving) => return Err(Broken(self.source)),
                Err(Failed::Sending) => return Err(Broken(self.source.other())),
            }
        }
        sender.flush().await.map_err(|_| Broken(self.source.other()))?;
        // When both directions have ended the close that follows says so itself.
        if !self.traffic.ended(self.source) {
            // Fails only if the connection has gone, which its own receive tells better.
            let _ = self.to.shutdown_write();
        }
        Ok(())
    }

    async fn forward(&mut self, buffer: Buffer, sender: &mut Sender) -> Result<(), Broken> {
        let bytes = buffer.len();
        self.path.received(buffer.has_backlog());
        if self.path.is_bulk() {
            self.ease_pacing();
        }
        self.traffic.received(self.source, bytes);
        sender.send(buffer).await.map_err(|_| Broken(self.source.other()))?;
        self.traffic.sent(self.source.other());
        Ok(())
    }

    /// Splices for as long as it pays; `true` at the end of the stream.
    async fn splice(
        &mut self,
        receiver: &mut Receiver,
        sender: &mut Sender,
    ) -> Result<bool, Broken> {
        let shard = self.shard;
        let Some((mut pipe, lease)) = shard.pipes.lease(|| shard.reactor.pipe()) else {
            // No pipe to be had: what insists on splicing is copied rather than cut.
            self.path.switched();
            return Ok(false);
        };
        while let Some(received) = receiver.remainder().await {
            match received.map_err(|_| Broken(self.source))? {
                Some(buffer) => self.forward(buffer, sender).await?,
                None => return Ok(true),
            }
        }
        sender.flush().await.map_err(|_| Broken(self.source.other()))?;
        self.path.switched();
        self.shard.counters().splice_entered.add(1);
        self.ease_pacing();
        let end = self.splice_through(&mut pipe).await?;
        self.shard.counters().splice_left.add(1);
        self.path.switched();
        lease.give_back(pipe);
        Ok(matches!(end, SpliceEnd::Stream))
    }

    /// Before bulk, once: pacing costs more than it gives on a short path.
    fn ease_pacing(&mut self) {
        if !std::mem::replace(&mut self.eased, true) {
            self.shard.ease_pacing(self.frontend, self.to, self.source.other());
        }
    }

    async fn splice_through(&mut self, pipe: &mut Pipe) -> Result<SpliceEnd, Broken> {
        let mut budget = SPLICE_BUDGET;
        loop {
            match self.from.splice_into(pipe, PIPE_SIZE) {
                Ok(0) => return Ok(SpliceEnd::Stream),
                Ok(bytes) => {
                    self.path.filled(bytes);
                    self.traffic.received(self.source, bytes);
                    budget = budget.saturating_sub(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.path.wants_copy() || !self.wait_for_bytes().await? {
                        return Ok(SpliceEnd::Backlog);
                    }
                    budget = SPLICE_BUDGET;
                    continue;
                }
                Err(_) => return Err(Broken(self.source)),
            }
            self.empty(pipe).await?;
            if budget == 0 {
                self.shard.reactor.yield_now().await;
                budget = SPLICE_BUDGET;
            }
        }
    }

    /// Waits for the source; `false` if it stays silent for long enough to give the pipe back.
    async fn wait_for_bytes(&self) -> Result<bool, Broken> {
        let ready = self.from.ready(Interest::Readable);
        let waited = if self.path.may_copy() {
            first(ready, self.shard.reactor.sleep(SPLICE_LINGER)).await
        } else {
            First::Left(ready.await)
        };
        match waited {
            First::Left(ready) => ready.map(|()| true).map_err(|_| Broken(self.source)),
            First::Right(()) => Ok(false),
        }
    }

    /// Moves everything that is in the pipe to the sink.
    async fn empty(&self, pipe: &mut Pipe) -> Result<(), Broken> {
        let sink = self.source.other();
        while pipe.held() > 0 {
            match self.to.splice_from(pipe) {
                // A pipe that gives nothing though it holds something would be asked for ever.
                Ok(0) => return Err(Broken(sink)),
                Ok(_) => self.traffic.sent(sink),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.to.ready(Interest::Writable).await.map_err(|_| Broken(sink))?;
                }
                Err(_) => return Err(Broken(sink)),
            }
        }
        Ok(())
    }
}
