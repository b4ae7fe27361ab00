//! Sessions that are watched: the ruler for reloads and upgrades.
//!
//! Every session sends a numbered message every so often and waits for its echo. A session that
//! ends, that waits longer than allowed, or that gets other bytes than it sent is reported with the
//! moment, at once on stderr and at the end in the report. One that was cut or corrupted stays
//! lost; one that stalled is waited for, and its answer is reported too.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use monoio::io::AsyncReadRent;

use super::kept::Exchanged;
use super::lane::{Lane, Session};
use super::tcp::rr;
use super::turns::Turn;
use crate::content::Content;
use crate::failure::{Failure, corrupt};
use crate::output;

/// Bytes of a session's number and a message's number.
pub(crate) const NUMBERS: usize = 16;

/// How often a silent session looks whether the run ends.
const LOOK: Duration = Duration::from_millis(50);

/// What happened to a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    /// It ended.
    Cut,
    /// It waits longer than allowed.
    Stalled,
    /// It had stalled, and then its answer came.
    WentOn,
    /// Other bytes came than were sent.
    Corrupted,
}

impl What {
    /// As in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::WentOn => "went_on",
            Self::Corrupted => "corrupted",
        }
    }
}

/// Something that happened to a session, and when.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) what: What,
    pub(crate) session: u64,
    /// Our address in it.
    pub(crate) local: String,
    /// The message that it was about.
    pub(crate) sequence: u64,
    /// Since the beginning of the run.
    pub(crate) after: Duration,
    pub(crate) at: Timestamp,
    pub(crate) words: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, session, local, sequence, after, at, words } = self;
        let seconds = after.as_secs_f64();
        write!(
            f,
            "{at:.3} (+{seconds:.3} s) session {session} ({local}) {}, message {sequence}: {words}",
            what.name().replace('_', " ")
        )
    }
}

/// One session as the watch sees it.
#[derive(Debug)]
struct Watched {
    session: u64,
    local: String,
    sequence: Cell<u64>,
    /// Since when it waits for an answer.
    waiting: Cell<Option<Instant>>,
    stalled: Cell<bool>,
}

/// Starts this thread's sessions and the watch over them.
pub(super) fn start(
    lane: &Rc<Lane>,
    sessions: Vec<Session>,
    size: usize,
    every: Duration,
    stall: Duration,
) {
    let content = Content::new(0);
    let count = sessions.len();
    let mut watched = Vec::with_capacity(count);
    for (nth, session) in (0..).zip(sessions) {
        let one = Rc::new(Watched {
            session: nth * lane.plan.threads as u64 + lane.index as u64,
            local: session.stream.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string()),
            sequence: Cell::new(0),
            waiting: Cell::new(None),
            stalled: Cell::new(false),
        });
        watched.push(Rc::clone(&one));
        // Spread over the first round, so that the messages never come in one burst.
        let first = every.mul_f64(nth as f64 / count as f64);
        let messages = Messages { content: content.clone(), size, every };
        lane.spawn(life(Rc::clone(lane), one, session, messages, first));
    }
    lane.spawn(watch(Rc::clone(lane), watched, stall));
}

/// What a session sends, and how often.
struct Messages {
    content: Content,
    size: usize,
    every: Duration,
}

impl Messages {
    fn write(&self, session: u64, sequence: u64) -> Box<[u8]> {
        let mut message = Vec::with_capacity(self.size);
        message.extend(session.to_be_bytes());
        message.extend(sequence.to_be_bytes());
        let filler = self.size.saturating_sub(NUMBERS);
        let offset = session.wrapping_mul(7919).wrapping_add(sequence.wrapping_mul(127));
        message.extend(self.content.bytes(offset, filler));
        message.into_boxed_slice()
    }
}

async fn life(
    lane: Rc<Lane>,
    own: Rc<Watched>,
    mut session: Session,
    messages: Messages,
    first: Duration,
) {
    let mut pause = first;
    loop {
        match silence(&lane, &mut session, pause).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return own.ended(&lane, &error),
        }
        pause = messages.every;
        let sequence = own.sequence.get();
        let message = messages.write(own.session, sequence);
        let turn = Turn { intended: None, sent: Instant::now() };
        own.waiting.set(Some(turn.sent));
        let answer = match rr::round_trip(&mut session, message.clone()).await {
            Ok(answer) => answer,
            Err(error) => return own.ended(&lane, &error),
        };
        own.waiting.set(None);
        if own.stalled.replace(false) {
            let words = format!("answered after {:.3} s", turn.sent.elapsed().as_secs_f64());
            own.report(&lane, What::WentOn, words);
        }
        if let Some(at) = answer.iter().zip(&message).position(|(got, sent)| got != sent) {
            return own.ended(&lane, &corrupt(format!("other bytes from byte {at} on")));
        }
        let size = messages.size as u64;
        lane.answered(turn, Exchanged { operations: 1, sent: size, received: size });
        own.sequence.set(sequence + 1);
    }
}

/// Says nothing for `pause`, with an ear at the session; `false` when the run ends.
async fn silence(lane: &Lane, session: &mut Session, pause: Duration) -> io::Result<bool> {
    let until = Instant::now() + pause;
    loop {
        if lane.is_stopping() {
            return Ok(false);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        let heard = monoio::time::timeout(left.min(LOOK), session.stream.readable(false)).await;
        if heard.is_ok() {
            let (read, _) = session.stream.read(vec![0; 64]).await;
            return match read? {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed while silent")),
                _ => Err(corrupt("bytes came that nobody had asked for")),
            };
        }
    }
}

/// Looks for sessions that wait too long.
async fn watch(lane: Rc<Lane>, watched: Vec<Rc<Watched>>, stall: Duration) {
    let look = (stall / 8).clamp(Duration::from_millis(2), LOOK);
    while !lane.is_stopping() {
        monoio::time::sleep(look).await;
        for one in &watched {
            let waits = one.waiting.get().map_or(Duration::ZERO, |since| since.elapsed());
            if waits > stall && !one.stalled.replace(true) {
                let words = format!("no answer for {:.3} s", waits.as_secs_f64());
                lane.note(|report| report.failed(Failure::Timeout, 1, || words.clone()));
                one.report(&lane, What::Stalled, words);
            }
        }
    }
}

impl Watched {
    /// The session is lost.
    fn ended(&self, lane: &Lane, error: &io::Error) {
        self.waiting.set(None);
        let corrupted = Failure::of(error) == Failure::Corrupt;
        let what = if corrupted { What::Corrupted } else { What::Cut };
        lane.failed("in a watched session with", error);
        self.report(lane, what, error.to_string());
    }

    fn report(&self, lane: &Lane, what: What, words: String) {
        let loss = Loss {
            what,
            session: self.session,
            local: self.local.clone(),
            sequence: self.sequence.get(),
            after: lane.begin().elapsed(),
            at: Timestamp::now(),
            words,
        };
        output::say(&loss);
        lane.note(|report| report.lost(loss));
    }
}
