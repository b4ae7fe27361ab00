//! Sessions, bulk streams and new connections at the same time, as a change of the balancer meets
//! them: the ruler for reloads and upgrades.
//!
//! `held` is a session that is opened once and sends numbered messages by the clock; a bulk stream
//! is the same with longer messages that follow each other closely. `fresh` is a connection for one
//! message. Everything follows a schedule: a message is sent when it is due, whether the one before
//! was answered or not, so a stall of the balancer delays no message that would have measured it.
//! Every byte that returns is compared. `crate::gaps` says what becomes of the waits, `found` what
//! is counted; how it looks on paper is in `output`.
//!
//! Bounds: [`WAITING_MOST`] messages of a session and [`fresh::UNDER_WAY_MOST`] connections wait
//! for an answer; what is due beyond is counted as held back.

mod found;
mod fresh;
mod held;

use std::io::{self, BufRead};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::found::{Connections, Found, Held};
use super::lane::{Lane, Session};
use super::turns;
use crate::clock::Timer;
use crate::content::Content;
use crate::gaps::{Events, Longest};
use crate::output;
use crate::schedule::{Arrivals, Open, Schedule};

/// Bytes of one message of a stream.
pub(crate) const STREAM_MESSAGE: usize = 16 * 1024;

/// Messages of one session that may wait for their answers.
const WAITING_MOST: usize = 4096;

/// How often the sessions look whether the run has ended.
const LOOK: Duration = Duration::from_millis(5);

/// The longest label of an event; what is longer is cut.
const LABEL_MOST: usize = 64;

/// What a mixed run consists of.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    pub(crate) sessions: u32,
    /// How often each session sends a message.
    pub(crate) every: Duration,
    /// Bytes of a message of a session and of a connection.
    pub(crate) size: usize,
    pub(crate) streams: u32,
    /// Bytes a second of each stream.
    pub(crate) stream_rate: f64,
    /// New connections a second; 0 for none.
    pub(crate) rate: f64,
    /// What a new connection gets until its answer is there.
    pub(crate) timeout: Duration,
    /// Whether lines on stdin mark events.
    pub(crate) events: bool,
    /// How long the window of an event is.
    pub(crate) window: Duration,
}

impl Mixture {
    /// How often each stream sends a message.
    fn stream_every(&self) -> Duration {
        Duration::from_secs_f64(STREAM_MESSAGE as f64 / self.stream_rate)
    }
}

/// Which sort of held session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sort {
    Session,
    Stream,
}

impl Sort {
    fn of(self, found: &mut Found) -> &mut Held {
        match self {
            Self::Session => &mut found.sessions,
            Self::Stream => &mut found.streams,
        }
    }
}

/// Sessions and streams that a thread must open.
pub(super) fn share(lane: &Lane, mixture: &Mixture) -> (u64, u64) {
    (lane.share(u64::from(mixture.sessions)), lane.share(u64::from(mixture.streams)))
}

/// Starts this thread's part. The first of `opened` become the streams.
pub(super) fn start(lane: &Rc<Lane>, mut opened: Vec<Session>, mixture: &Mixture) {
    let streams = usize::try_from(share(lane, mixture).1).unwrap_or(usize::MAX);
    let sessions = opened.split_off(streams.min(opened.len()));
    let content = Content::new(0);
    for (sort, opened, size, every) in [
        (Sort::Session, sessions, mixture.size, mixture.every),
        (Sort::Stream, opened, STREAM_MESSAGE, mixture.stream_every()),
    ] {
        let sessions = held::start(lane, sort, opened, size, &content);
        if !sessions.is_empty() {
            lane.spawn(release(Rc::clone(lane), sort, sessions, every));
        }
    }
    if mixture.rate > 0.0 {
        let open = Open { rate: mixture.rate, arrivals: Arrivals::Constant, seed: 0 };
        let schedule = Schedule::new(open, lane.index, lane.plan.threads);
        lane.spawn(connect(Rc::clone(lane), schedule, mixture.clone(), content));
    }
}

/// Makes the messages of all held sessions of one sort due, each in its turn.
async fn release(lane: Rc<Lane>, sort: Sort, sessions: Vec<Rc<held::Talk>>, every: Duration) {
    // Spread evenly, so that some session waits for an answer at any time.
    let gap = every.as_nanos() as f64 / sessions.len() as f64;
    let schedule = (0_u64..).map(|nth| (gap * nth as f64) as u64);
    let mut turn = sessions.iter().cycle();
    let kept = keep(&lane, schedule, |now| {
        if let Some(session) = turn.next() {
            session.release(&lane, sort, now);
        }
    });
    let kept = kept.await;
    // Thousands of sessions that end at once are no load that is to be measured.
    while kept.is_ok() && !lane.is_stopping() {
        monoio::time::sleep(LOOK).await;
    }
    sessions.iter().for_each(|session| session.close());
    if let Err(error) = kept {
        lane.failed("waiting for the next message to", &error);
    }
}

/// Begins new connections.
async fn connect(lane: Rc<Lane>, schedule: Schedule, mixture: Mixture, content: Content) {
    let fresh = Rc::new(fresh::Fresh::new(&lane, &mixture, content));
    let kept = keep(&lane, schedule, |now| fresh.begin(now)).await;
    if let Err(error) = kept {
        lane.failed("waiting for the next connection to", &error);
    }
}

async fn keep(
    lane: &Lane,
    schedule: impl Iterator<Item = u64>,
    due: impl FnMut(Instant),
) -> io::Result<()> {
    turns::keep(lane, Timer::new()?, schedule, due).await
}

/// Adds a wait to those of a session, as far as it lies within the run: what the sessions wait for
/// one another while all of them end is not measured. Calls `touch` for each event around it.
fn waited(
    lane: &Lane,
    longest: &mut Longest,
    from: Instant,
    to: Instant,
    touch: impl FnMut(usize, u64),
) {
    let to = lane.end().map_or(to, |end| end.min(to));
    if from <= to {
        longest.add(lane.events(), from, to, touch);
    }
}

/// Lets lines on stdin mark events from now on, until stdin ends.
///
/// The line is the label. With marks, `event LABEL` on stderr says that it counts, so that a
/// program can wait for it before it does what the event is about.
pub(super) fn read_events(events: Arc<Events>, marks: bool) -> Result<(), String> {
    let body = move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let label: String = line.trim().chars().take(LABEL_MOST).collect();
            if label.is_empty() {
                continue;
            }
            if !events.mark(&label, Instant::now()) {
                output::say(format_args!("event refused, there are too many: {label}"));
            } else if marks {
                output::say(format_args!("event {label}"));
            }
        }
    };
    let builder = thread::Builder::new().name("events".to_owned());
    builder.spawn(body).map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}
