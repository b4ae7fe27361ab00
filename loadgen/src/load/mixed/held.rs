//! A session that is opened once and kept: one task sends what is due, the other compares what
//! returns.
//!
//! A message is the session's number, the message's number and content that depends on both, so a
//! byte that is lost, doubled, moved or from another session differs from what belongs there. Each
//! wait runs from the moment when the message was due (as the generator noticed it) to the last
//! byte of its answer. Invariant: `waiting` holds one entry for each message that is due and not
//! answered, the oldest first. A lost session ends once, whichever task finds out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Instant;

use jiff::Timestamp;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use super::{Sort, WAITING_MOST};
use crate::content::{CHUNK, Content};
use crate::failure::{Failure, corrupt};
use crate::gaps::Longest;
use crate::load::kept::Exchanged;
use crate::load::lane::{Lane, Registration, Session};
use crate::load::lost::{Loss, What};
use crate::load::turns::Turn;
use crate::output;

/// The messages of one session.
#[derive(Clone, Debug)]
pub(super) struct SessionMessages {
    pub(super) content: Content,
    pub(super) session: u64,
    pub(super) size: usize,
}

impl SessionMessages {
    /// The bytes of a message.
    pub(super) fn write(&self, sequence: u64) -> Vec<u8> {
        let mut message = [self.session.to_be_bytes(), sequence.to_be_bytes()].concat();
        let offset = self.session.wrapping_mul(7919).wrapping_add(sequence.wrapping_mul(127));
        let filler = self.size.saturating_sub(message.len());
        message.extend(self.content.bytes(offset, filler));
        message
    }
}

/// What has returned of a session, compared with what was sent.
#[derive(Debug)]
struct Returned {
    messages: SessionMessages,
    /// The message of which the next byte must be, and how much of it has returned.
    sequence: u64,
    at: usize,
    expected: Vec<u8>,
}

impl Returned {
    fn new(messages: SessionMessages) -> Self {
        let expected = messages.write(0);
        Self { messages, sequence: 0, at: 0, expected }
    }

    /// Compares the next bytes; `sent` messages may have returned by now. Calls `whole` after each
    /// message that is complete.
    fn take(&mut self, mut bytes: &[u8], sent: u64, mut whole: impl FnMut()) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.sequence >= sent {
                return Err(corrupt(format!("{} bytes returned that were not sent", bytes.len())));
            }
            let due = &self.expected[self.at..];
            let (now, later) = bytes.split_at(due.len().min(bytes.len()));
            if let Some(nth) = now.iter().zip(due).position(|(got, sent)| got != sent) {
                let (at, sequence) = (self.at + nth, self.sequence);
                return Err(corrupt(format!(
                    "wrong bytes from byte {at} of message {sequence} on"
                )));
            }
            bytes = later;
            self.at += now.len();
            if self.at == self.expected.len() {
                self.sequence += 1;
                self.at = 0;
                self.expected = self.messages.write(self.sequence);
                whole();
            }
        }
        Ok(())
    }
}

/// What both tasks of a session, and the schedule, know of it.
#[derive(Debug)]
pub(super) struct Talk {
    sort: Sort,
    session: u64,
    local: String,
    /// Both tasks hold it; the socket may be gone when they are.
    registration: Weak<Registration>,
    /// When each message became due that is not answered yet.
    waiting: RefCell<VecDeque<Instant>>,
    due: Cell<u64>,
    sent: Cell<u64>,
    /// No more messages will be due.
    closed: Cell<bool>,
    /// All is sent, and answered as far as it will be: an end of the stream is in order now.
    finished: Cell<bool>,
    /// The session has ended before its time.
    ended: Cell<bool>,
    sender: RefCell<Option<Waker>>,
    longest: RefCell<Longest>,
}

/// Starts the tasks of the sessions of one sort.
pub(super) fn start(
    lane: &Rc<Lane>,
    sort: Sort,
    opened: Vec<Session>,
    size: usize,
    content: &Content,
) -> Vec<Rc<Talk>> {
    let mut talks = Vec::with_capacity(opened.len());
    for session in opened {
        let number = session.number();
        let local = session.stream.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string());
        let Session { stream, registration } = session;
        let registration = Rc::new(registration);
        let talk = Rc::new(Talk {
            sort,
            session: number,
            local,
            registration: Rc::downgrade(&registration),
            waiting: RefCell::default(),
            due: Cell::new(0),
            sent: Cell::new(0),
            closed: Cell::new(false),
            finished: Cell::new(false),
            ended: Cell::new(false),
            sender: RefCell::default(),
            longest: RefCell::default(),
        });
        let messages = SessionMessages { content: content.clone(), session: number, size };
        let (from, to) = TcpStream::into_split(stream);
        let sending = send(Rc::clone(lane), Rc::clone(&talk), to, messages.clone());
        let receiving = receive(Rc::clone(lane), Rc::clone(&talk), from, messages);
        let other = Rc::clone(&registration);
        lane.spawn(async move {
            sending.await;
            drop(other);
        });
        lane.spawn(async move {
            receiving.await;
            drop(registration);
        });
        lane.find(|found| sort.of(found).opened += 1);
        talks.push(talk);
    }
    talks
}

async fn send(
    lane: Rc<Lane>,
    talk: Rc<Talk>,
    mut to: TcpOwnedWriteHalf,
    messages: SessionMessages,
) {
    while let Some(sequence) = talk.next().await {
        let message = messages.write(sequence);
        let size = message.len() as u64;
        if let Err(error) = to.write_all(message).await.0 {
            return talk.end(&lane, &error);
        }
        lane.note(|report| report.sent += size);
    }
    talk.answered_all().await;
    if talk.ended.get() {
        return;
    }
    talk.finished.set(true);
    if let Err(error) = to.shutdown().await {
        talk.end(&lane, &error);
    }
}

async fn receive(
    lane: Rc<Lane>,
    talk: Rc<Talk>,
    mut from: TcpOwnedReadHalf,
    messages: SessionMessages,
) {
    let size = messages.size.clamp(512, CHUNK);
    let mut returned = Returned::new(messages);
    let mut buffer = Vec::with_capacity(size);
    let ended: io::Result<()> = loop {
        let read;
        (read, buffer) = from.read(buffer).await;
        match read {
            Ok(0) if talk.finished.get() => break Ok(()),
            Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(size) => lane.note(|report| report.received += size as u64),
            Err(error) => break Err(error),
        }
        let taken = returned.take(&buffer, talk.sent.get(), || talk.answered(&lane));
        if taken.is_err() {
            break taken;
        }
    };
    if let Err(error) = ended {
        talk.end(&lane, &error);
    }
    let longest = talk.longest.take();
    lane.find(|found| talk.sort.of(found).gaps.add(&longest));
}

impl Talk {
    /// One more message is due.
    pub(super) fn release(&self, lane: &Lane, sort: Sort, now: Instant) {
        if self.ended.get() {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING_MOST {
            return lane.find(|found| sort.of(found).held_back += 1);
        }
        waiting.push_back(now);
        self.due.set(self.due.get() + 1);
        self.wake();
    }

    /// No more messages will be due.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }

    /// Waits for a message to be due; its number. `None` if none will be.
    async fn next(&self) -> Option<u64> {
        poll_fn(|context| {
            let sent = self.sent.get();
            if self.ended.get() {
                return Poll::Ready(None);
            }
            if sent < self.due.get() {
                self.sent.set(sent + 1);
                return Poll::Ready(Some(sent));
            }
            if self.closed.get() {
                return Poll::Ready(None);
            }
            *self.sender.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until nothing waits for an answer, or the session has ended.
    async fn answered_all(&self) {
        poll_fn(|context| {
            if self.ended.get() || self.waiting.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.sender.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The oldest message that waits was answered.
    fn answered(&self, lane: &Lane) {
        let now = Instant::now();
        let due = self.waiting.borrow_mut().pop_front().unwrap_or(now);
        self.waited(lane, due, now);
        lane.find(|found| self.sort.of(found).messages += 1);
        if self.sort == Sort::Session {
            // Bytes are counted as they go and come.
            let exchanged = Exchanged { operations: 1, ..Exchanged::default() };
            lane.answered(Turn { intended: None, sent: due }, exchanged);
        }
        if self.closed.get() {
            self.wake();
        }
    }

    fn waited(&self, lane: &Lane, from: Instant, to: Instant) {
        super::waited(lane, &mut self.longest.borrow_mut(), from, to, |event, wait| {
            lane.find(|found| {
                let gap = &mut found.around(event).gap;
                *gap = wait.max(*gap);
            });
        });
    }

    /// The session ends before its time.
    fn end(&self, lane: &Lane, error: &io::Error) {
        if self.ended.replace(true) {
            return;
        }
        let now = Instant::now();
        // What it has waited so far is the least that it would have waited.
        let oldest = self.waiting.borrow().front().copied();
        if let Some(due) = oldest {
            self.waited(lane, due, now);
        }
        if let Some(registration) = self.registration.upgrade() {
            registration.cut_off(); // so that the other task ends as well
        }
        self.wake();
        if lane.is_cut_off() {
            if oldest.is_some() {
                lane.failed("without an answer in a session with", error);
                lane.find(|found| self.sort.of(found).unanswered += 1);
            }
            return;
        }
        let failure = Failure::of(error);
        lane.failed("in a session with", error);
        lane.find(|found| *self.sort.of(found).lost.entry(failure).or_default() += 1);
        lane.events().overlapping(now, now, |event, _| {
            lane.find(|found| found.around(event).lost += 1);
        });
        let loss = Loss {
            what: if failure == Failure::Corrupt { What::Corrupted } else { What::Cut },
            session: self.session,
            local: self.local.clone(),
            sequence: self.sent.get().saturating_sub(self.waiting.borrow().len() as u64),
            after: now.saturating_duration_since(lane.begin()),
            at: Timestamp::now(),
            words: error.to_string(),
        };
        output::say(&loss);
        lane.note(|report| report.lost(loss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(session: u64) -> SessionMessages {
        SessionMessages { content: Content::new(0), session, size: 100 }
    }

    fn take(pieces: &[&[u8]], sent: u64) -> Result<usize, String> {
        let mut returned = Returned::new(messages(5));
        let mut whole = 0;
        for piece in pieces {
            returned.take(piece, sent, || whole += 1).map_err(|error| error.to_string())?;
        }
        Ok(whole)
    }

    #[test]
    fn messages_are_recognised_however_they_are_cut() {
        let sent: Vec<u8> = (0..3).flat_map(|nth| messages(5).write(nth)).collect();
        for size in [1, 7, 100, 150, 300] {
            let pieces: Vec<&[u8]> = sent.chunks(size).collect();
            assert_eq!(take(&pieces, 3), Ok(3), "{size}");
        }
        assert_eq!(take(&[&sent[..199]], 3), Ok(1));
    }

    #[test]
    fn any_other_bytes_are_wrong() {
        let message = |session, nth| messages(session).write(nth);
        let flipped = |at: usize| {
            let mut bytes = message(5, 0);
            bytes[at] ^= 1;
            bytes
        };
        for at in [0, 15, 16, 99] {
            assert!(take(&[&flipped(at)], 1).unwrap_err().contains(&format!("byte {at} of")));
        }
        assert!(take(&[&message(5, 1)], 2).is_err(), "a message is missing");
        assert!(take(&[&message(5, 0), &message(5, 0)], 2).is_err(), "doubled");
        assert!(take(&[&message(6, 0)], 1).is_err(), "of another session");
        assert!(take(&[&message(5, 0)[1..]], 1).is_err(), "a byte is missing");
        let more = take(&[&message(5, 0), &message(5, 1)], 1).unwrap_err();
        assert!(more.contains("not sent"), "{more}");
    }
}
