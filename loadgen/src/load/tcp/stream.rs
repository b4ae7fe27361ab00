//! Bulk: streams of bytes up, down, or both ways at once, compared with what was sent if asked.
//!
//! Down: an [`Order`] to a source, which sends what it says and closes. Up: bytes to a sink, a
//! half-close, and a [`Receipt`] in return. Both: bytes to an echo server and back, a half-close,
//! and the end of the stream in return. So every direction ends with a half-close that must arrive.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use monoio::io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use xxhash_rust::xxh3::Xxh3;

use crate::content::{CHUNK, Content, ORDER_SIZE, Order, Receipt};
use crate::load::Direction;
use crate::load::kept::Exchanged;
use crate::load::lane::{Lane, Session};
use crate::load::turns::Turn;

/// One stream's share of the work.
#[derive(Clone, Debug)]
struct Share {
    lane: Rc<Lane>,
    content: Content,
    /// Bytes each way; `u64::MAX` for until the time is over.
    bytes: u64,
    seed: u64,
    checksum: bool,
}

/// Starts this thread's streams.
pub(in crate::load) fn start(
    lane: &Rc<Lane>,
    sessions: Vec<Session>,
    direction: Direction,
    bytes: Option<u64>,
    checksum: bool,
) {
    let total = bytes.map(|bytes| lane.share(bytes));
    let streams = sessions.len() as u64;
    for (nth, session) in (0..).zip(sessions) {
        let bytes = total.map_or(u64::MAX, |t| t / streams + u64::from(nth < t % streams));
        let seed = ((lane.index as u64) << 32) + nth;
        let content = Content::new(seed);
        let share = Share { lane: Rc::clone(lane), content, bytes, seed, checksum };
        lane.spawn(stream(share, session, direction));
    }
}

async fn stream(share: Share, session: Session, direction: Direction) {
    let turn = Turn { intended: None, sent: Instant::now() };
    let result = match direction {
        Direction::Up => up(&share, session).await,
        Direction::Down => down(&share, session).await,
        Direction::Both => both(&share, session).await,
    };
    match result {
        Ok(()) => share.lane.answered(turn, Exchanged { operations: 1, ..Exchanged::default() }),
        Err(error) => share.lane.failed("in a stream with", &error),
    }
}

async fn up(share: &Share, mut session: Session) -> io::Result<()> {
    let mut sum = share.checksum.then(Xxh3::new);
    let sent = share.send(&mut session.stream, sum.as_mut()).await?;
    session.stream.shutdown().await?;
    let (read, answer) = session.stream.read_exact(vec![0; ORDER_SIZE].into_boxed_slice()).await;
    read?;
    let receipt: Receipt =
        Order::decode(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    same("bytes", receipt.bytes, sent)?;
    if let Some(sum) = sum {
        same("a sum of", receipt.seed, sum.digest())?;
    }
    share.finished(sent)
}

async fn down(share: &Share, mut session: Session) -> io::Result<()> {
    let order = Order { bytes: share.bytes, seed: share.seed };
    session.stream.write_all(order.encode()).await.0?;
    let received = share.receive(&mut session.stream, true).await?;
    if share.lane.is_stopping() {
        return share.finished(received);
    }
    same("bytes", received, share.bytes)
}

async fn both(share: &Share, session: Session) -> io::Result<()> {
    let Session { stream, registration } = session;
    let (mut from, mut to) = stream.into_split();
    let sender = share.clone();
    let sending = monoio::spawn(async move {
        let sent = sender.send(&mut to, None).await?;
        to.shutdown().await?;
        io::Result::Ok(sent)
    });
    let received = share.receive(&mut from, false).await;
    if received.is_err() {
        registration.cut_off(); // or the other half might wait for ever
    }
    let sent = sending.await;
    let (received, sent) = (received?, sent?);
    same("bytes", received, sent)?;
    share.finished(sent)
}

impl Share {
    /// Sends this share, or until the time is over; returns how many bytes.
    async fn send(
        &self,
        to: &mut impl AsyncWriteRent,
        mut sum: Option<&mut Xxh3>,
    ) -> io::Result<u64> {
        let mut sent = 0;
        while sent < self.bytes && !self.lane.is_stopping() {
            let length = (self.bytes - sent).min(CHUNK as u64);
            let piece = self.content.piece(sent, length as usize);
            if let Some(sum) = sum.as_mut() {
                sum.update(self.content.bytes(sent, length as usize));
            }
            to.write_all(piece).await.0?;
            sent += length;
            self.lane.note(|report| report.sent += length);
        }
        Ok(sent)
    }

    /// Receives to the end of the stream, or until the time is over if `may_stop`.
    async fn receive(&self, from: &mut impl AsyncReadRent, may_stop: bool) -> io::Result<u64> {
        let mut received = 0;
        let mut buffer = Vec::with_capacity(CHUNK);
        while !(may_stop && self.lane.is_stopping()) {
            let read;
            (read, buffer) = from.read(buffer).await;
            let read = read?;
            if read == 0 {
                break;
            }
            if self.checksum && !self.content.matches(received, &buffer[..read]) {
                let words = format!("wrong bytes between offset {received} and the next {read}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            }
            received += read as u64;
            self.lane.note(|report| report.received += read as u64);
        }
        Ok(received)
    }

    /// An error if a stream that has a length of its own ended for want of time.
    fn finished(&self, bytes: u64) -> io::Result<()> {
        if bytes == self.bytes || self.lane.plan.for_.is_some() || self.lane.is_interrupted() {
            return Ok(());
        }
        let words = format!("no time left after {bytes} of {} bytes", self.bytes);
        Err(io::Error::new(io::ErrorKind::Interrupted, words))
    }
}

fn same(what: &str, arrived: u64, sent: u64) -> io::Result<()> {
    if arrived == sent {
        return Ok(());
    }
    let words = format!("{what} {arrived} arrived, {sent} were due");
    let kind = if what == "bytes" && arrived < sent {
        io::ErrorKind::UnexpectedEof
    } else {
        io::ErrorKind::InvalidData
    };
    Err(io::Error::new(kind, words))
}
