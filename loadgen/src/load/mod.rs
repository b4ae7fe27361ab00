//! One run: threads open their sessions, all begin together, stop together, and are merged.
//!
//! Opening → running → stopping, told to every thread through [`Control`]. At the end each session
//! finishes what it has begun; what still waits after [`GRACE`] is cut off and counted as
//! unfinished. Read `lane` next (one thread), then a kind of traffic: `rr`, `stream`, `crr`, `idle`.

mod crr;
mod idle;
mod lane;
mod rr;
mod stream;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::Direction;
use crate::machine;
use crate::report::Report;

/// What sessions get to finish what they have begun when the time is over.
const GRACE: Duration = Duration::from_secs(5);

/// What a whole run gets to end after it was told to stop.
const LAST_CALL: Duration = Duration::from_secs(15);

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// Sessions, streams or connections at once, over all threads.
    pub(crate) sessions: usize,
    pub(crate) address: SocketAddr,
    /// Client addresses to use in turn; the kernel's choice if empty.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) threads: usize,
    pub(crate) cpus: Vec<usize>,
    /// How long; until the counted work is done if absent.
    pub(crate) for_: Option<Duration>,
    /// How long at most, if the work is counted.
    pub(crate) give_up: Duration,
    /// Whether to say `ready` and `measured` on stderr.
    pub(crate) marks: bool,
}

impl Plan {
    fn mark(&self, mark: &str) {
        if self.marks {
            // Whoever measured may have closed its end; the run goes on.
            let _ = writeln!(io::stderr(), "{mark}");
        }
    }
}

/// Which traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Round trips of `size` bytes on open sessions.
    RoundTrip { size: usize },
    /// Bulk on open sessions; `bytes` each way in all.
    Stream { direction: Direction, bytes: Option<u64>, checksum: bool },
    /// One connection per round trip; `count` in all.
    Connect { count: Option<u64>, size: usize },
    /// Open sessions that say nothing.
    Idle,
}

impl Kind {
    /// Whether the work has an end of its own.
    pub(crate) fn is_counted(self) -> bool {
        matches!(self, Self::Stream { bytes: Some(_), .. } | Self::Connect { count: Some(_), .. })
    }
}

/// What the main thread says to all others.
#[derive(Debug, Default)]
struct Control(AtomicU8);

const RUNNING: u8 = 1;
const STOPPING: u8 = 2;

impl Control {
    fn say(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }

    fn is_running(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= RUNNING
    }

    fn is_stopping(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= STOPPING
    }
}

/// What a thread says to the main thread.
#[derive(Debug)]
enum Event {
    /// All its sessions are open.
    Ready,
    /// It has ended.
    Done(Box<Report>),
    /// It could not even begin.
    Failed(String),
    /// Somebody wants the run to end.
    Interrupt,
}

/// Runs the plan to its end, or to the first SIGINT.
pub(crate) fn run(plan: Plan) -> Result<Report, String> {
    machine::check_descriptors(plan.sessions)?;
    let (tell, events) = mpsc::channel();
    machine::tell_of_interrupt(tell.clone(), || Event::Interrupt)?;
    let plan = Arc::new(plan);
    let control = Arc::new(Control::default());
    for index in 0..plan.threads {
        spawn(index, &plan, &control, tell.clone())?;
    }
    let mut run = Run { left: plan.threads, total: Report::new()?, events };
    run.open(&plan)?;
    control.say(RUNNING);
    plan.mark("ready");
    let begin = Instant::now();
    run.collect(begin + plan.for_.unwrap_or(plan.give_up))?;
    control.say(STOPPING);
    run.total.elapsed = begin.elapsed();
    plan.mark("measured");
    run.collect(Instant::now() + LAST_CALL)?;
    if run.left > 0 {
        return Err(format!("{} threads did not end in {} s", run.left, LAST_CALL.as_secs()));
    }
    Ok(run.total)
}

fn spawn(
    index: usize,
    plan: &Arc<Plan>,
    control: &Arc<Control>,
    tell: Sender<Event>,
) -> Result<(), String> {
    let (plan, control) = (Arc::clone(plan), Arc::clone(control));
    let body = move || {
        let event = match lane::run(index, plan, control, &tell) {
            Ok(report) => Event::Done(Box::new(report)),
            Err(message) => Event::Failed(message),
        };
        // The main thread may have given up on us.
        let _ = tell.send(event);
    };
    let builder = thread::Builder::new().name(format!("load-{index}"));
    builder.spawn(body).map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// The main thread's view of the others.
struct Run {
    left: usize,
    total: Report,
    events: Receiver<Event>,
}

impl Run {
    /// Waits until every thread has opened its sessions.
    fn open(&mut self, plan: &Plan) -> Result<(), String> {
        let deadline = Instant::now() + plan.give_up;
        for _ in 0..plan.threads {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ready) => {}
                Ok(Event::Failed(message)) => return Err(message),
                Ok(Event::Interrupt) => return Err("interrupted before it began".to_owned()),
                Ok(Event::Done(_)) | Err(_) => {
                    let seconds = plan.give_up.as_secs_f64();
                    return Err(format!("not all sessions could be opened in {seconds:.0} s"));
                }
            }
        }
        Ok(())
    }

    /// Merges what ends until the deadline, an interrupt, or the end of all threads.
    fn collect(&mut self, deadline: Instant) -> Result<(), String> {
        while self.left > 0 {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Done(report)) => {
                    self.total.merge(*report);
                    self.left -= 1;
                }
                Ok(Event::Failed(message)) => return Err(message),
                Ok(Event::Ready) => {}
                Ok(Event::Interrupt) | Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a thread ended without a report".to_owned());
                }
            }
        }
        Ok(())
    }
}
