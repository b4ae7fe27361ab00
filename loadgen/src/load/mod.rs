//! One run: threads open their sessions, all begin together, stop together, and are merged.
//!
//! Opening → running → stopping, told to every thread through [`Control`]. At the end each session
//! finishes what it has begun; what still waits after [`GRACE`] is cut off and counted as
//! unfinished. Read `lane` next (one thread), `turns` (who sends when), `kept` (sessions that ask
//! and wait for the answer), then a kind of traffic. One folder per family: `tcp`, `udp`,
//! `database`; `mixed` does several things at a time.

mod database;
mod kept;
mod lane;
pub(crate) mod lost;
pub(crate) mod mixed;
mod tcp;
mod turns;
mod udp;
mod wire;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

pub(crate) use self::database::pgsql::Login;
pub(crate) use self::database::redis::{CommandMix, Setting as RedisSetting};
pub(crate) use self::mixed::Mixture;
pub(crate) use self::udp::BUFFER as DATAGRAM_BUFFER;
use crate::gaps::Events;
use crate::latency::Latencies;
use crate::machine;
use crate::output::progress::Progress;
use crate::report::{Holding, Report};
use crate::schedule::Open;

/// What sessions get to finish what they have begun when the time is over.
const GRACE: Duration = Duration::from_secs(5);

/// What a whole run gets to end after it was told to stop.
const LAST_CALL: Duration = Duration::from_secs(15);

/// How often the main thread looks for an interrupt.
const LOOK: Duration = Duration::from_millis(50);

/// How often progress is shown.
const SHOW: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// Sessions, streams or connections at once, over all threads.
    pub(crate) sessions: usize,
    pub(crate) address: SocketAddr,
    /// Client addresses to use in turn; the kernel's choice if empty.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) threads: usize,
    pub(crate) cpus: Vec<usize>,
    /// The schedule; without one, every session sends as soon as it has its answer.
    pub(crate) open: Option<Open>,
    /// How long; until the counted work is done if absent.
    pub(crate) for_: Option<Duration>,
    /// How long at most, if the work is counted.
    pub(crate) give_up: Duration,
    /// Whether to say `ready` and `measured` on stderr.
    pub(crate) marks: bool,
    /// Whether to show progress on stderr.
    pub(crate) progress: bool,
}

impl Plan {
    fn mark(&self, mark: &str) {
        if self.marks {
            // Whoever measured may have closed its end; the run goes on.
            let _ = writeln!(io::stderr(), "{mark}");
        }
    }
}

/// Which way a stream's bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Direction {
    /// From here to the server.
    Up,
    /// From the server to here.
    Down,
    /// Up, and back at the same time.
    Both,
}

/// Which traffic.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Round trips of `size` bytes on open sessions.
    RoundTrip { size: usize },
    /// Bulk on open sessions; `bytes` each way in all.
    Stream { direction: Direction, bytes: Option<u64>, checksum: bool },
    /// One connection per round trip; `count` in all.
    Connect { count: Option<u64>, size: usize },
    /// Open sessions that say nothing; `pid` is a process whose cost of holding them is read.
    Idle { pid: Option<i32> },
    /// Open sessions that are watched: a message `every` so often, silence of `stall` is reported.
    Watched { size: usize, every: Duration, stall: Duration },
    /// Sessions that are watched, bulk streams and new connections at the same time.
    Mixed(Mixture),
    /// Round trips of one datagram of `size` bytes.
    Datagrams { size: usize, timeout: Duration },
    /// Datagrams of `size` bytes, `rate` a second over all flows.
    DatagramStream { direction: Direction, size: usize, rate: f64 },
    /// Queries on open sessions.
    Pgsql(Login),
    /// Pipelines of commands on open sessions.
    Redis(RedisSetting),
}

impl Kind {
    /// Whether the work has an end of its own.
    pub(crate) fn is_counted(&self) -> bool {
        matches!(self, Self::Stream { bytes: Some(_), .. } | Self::Connect { count: Some(_), .. })
    }

    /// As on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::RoundTrip { .. } | Self::Watched { .. } => "tcp-rr",
            Self::Stream { .. } => "tcp-stream",
            Self::Connect { .. } => "tcp-crr",
            Self::Idle { .. } => "tcp-idle",
            Self::Mixed(_) => "tcp-mixed",
            Self::Datagrams { .. } => "udp-rr",
            Self::DatagramStream { .. } => "udp-stream",
            Self::Pgsql(_) => "pgsql",
            Self::Redis(_) => "redis",
        }
    }
}

/// What the main thread says to all others.
#[derive(Debug)]
struct Control {
    phase: AtomicU8,
    /// Counts how often progress was asked for.
    asked: AtomicU32,
    /// Known before the phase is [`RUNNING`].
    begin: OnceLock<Instant>,
    /// Known before the phase is [`STOPPING`].
    end: OnceLock<Instant>,
    /// Marked from outside, in mixed runs.
    events: Arc<Events>,
}

const RUNNING: u8 = 1;
const STOPPING: u8 = 2;
const INTERRUPTED: u8 = 3;

impl Control {
    fn new(plan: &Plan) -> Self {
        let window = match &plan.kind {
            Kind::Mixed(mixture) => mixture.window,
            _ => Duration::ZERO,
        };
        Self {
            phase: AtomicU8::default(),
            asked: AtomicU32::default(),
            begin: OnceLock::new(),
            end: OnceLock::new(),
            events: Arc::new(Events::new(window)),
        }
    }

    fn say(&self, phase: u8) {
        self.phase.store(phase, Ordering::Release);
    }

    fn has_come_to(&self, phase: u8) -> bool {
        self.phase.load(Ordering::Acquire) >= phase
    }
}

/// What a thread did since it was asked the last time.
#[derive(Debug)]
pub(crate) struct Interval {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    /// From the intended time in an open loop.
    pub(crate) latencies: Latencies,
}

impl Interval {
    /// With nothing in it.
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self { requests: 0, failures: 0, latencies: Latencies::new()? })
    }
}

/// What a thread says to the main thread.
#[derive(Debug)]
enum LaneEvent {
    /// All its sessions are open.
    Ready,
    /// What it did since the last time.
    Interval(Box<Interval>),
    /// It has ended.
    Done(Box<Report>),
    /// It could not even begin.
    Failed(String),
}

/// Runs the plan to its end, or to an interrupt.
pub(crate) fn run(plan: &Plan, interrupt: &machine::Interrupt) -> Result<Report, String> {
    machine::check_descriptors(plan.sessions)?;
    let held_by = match plan.kind {
        Kind::Idle { pid: Some(pid) } => Some((pid, machine::resident_bytes(pid)?)),
        _ => None,
    };
    let (tell, events) = mpsc::channel();
    let plan = Arc::new(plan.clone());
    let control = Arc::new(Control::new(&plan));
    for index in 0..plan.threads {
        spawn(index, &plan, &control, tell.clone())?;
    }
    let progress = plan.progress.then(Progress::new).transpose()?;
    let total = Report::new()?;
    let mut run = Run { left: plan.threads, total, events, interrupt, control, progress };
    run.open(&plan)?;
    let begin = Instant::now();
    let _ = run.control.begin.set(begin);
    run.control.say(RUNNING);
    if matches!(&plan.kind, Kind::Mixed(mixture) if mixture.events) {
        mixed::read_events(Arc::clone(&run.control.events), plan.marks)?;
    }
    plan.mark("ready");
    let cpu_before = held_by.map(|(pid, _)| machine::cpu_of(pid)).transpose()?;
    run.collect(begin + plan.for_.unwrap_or(plan.give_up), true)?;
    if let (Some((pid, memory)), Some(cpu)) = (held_by, cpu_before) {
        let memory = (memory, machine::resident_bytes(pid)?);
        let cpu = machine::cpu_of(pid)?.saturating_sub(cpu);
        run.total.holding = Some(Holding { memory, cpu });
    }
    let end = Instant::now();
    let _ = run.control.end.set(end);
    run.control.say(if interrupt.has_come() { INTERRUPTED } else { STOPPING });
    run.total.elapsed = end - begin;
    plan.mark("measured");
    run.collect(end + LAST_CALL, false)?;
    if run.left > 0 {
        return Err(format!("{} threads did not end in {} s", run.left, LAST_CALL.as_secs()));
    }
    if let Some(found) = &mut run.total.mixed {
        found.events_were(run.control.events.all(), begin);
    }
    run.total.cores = machine::cores(&plan.cpus, plan.threads);
    Ok(run.total)
}

fn spawn(
    index: usize,
    plan: &Arc<Plan>,
    control: &Arc<Control>,
    tell: Sender<LaneEvent>,
) -> Result<(), String> {
    let (plan, control) = (Arc::clone(plan), Arc::clone(control));
    let body = move || {
        let event = match lane::run(index, plan, control, &tell) {
            Ok(report) => LaneEvent::Done(Box::new(report)),
            Err(message) => LaneEvent::Failed(message),
        };
        // The main thread may have given up on us.
        let _ = tell.send(event);
    };
    let builder = thread::Builder::new().name(format!("load-{index}"));
    builder.spawn(body).map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// The main thread's view of the others.
struct Run<'i> {
    left: usize,
    total: Report,
    events: Receiver<LaneEvent>,
    interrupt: &'i machine::Interrupt,
    control: Arc<Control>,
    progress: Option<Progress>,
}

impl Run<'_> {
    /// Waits until every thread has opened its sessions.
    fn open(&mut self, plan: &Plan) -> Result<(), String> {
        let deadline = Instant::now() + plan.give_up;
        let mut opening = plan.threads;
        while opening > 0 {
            match self.events.recv_timeout(LOOK) {
                Ok(LaneEvent::Ready) => opening -= 1,
                Ok(LaneEvent::Failed(message)) => return Err(message),
                Err(RecvTimeoutError::Timeout) if self.interrupt.has_come() => {
                    return Err("interrupted before it began".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Ok(LaneEvent::Interval(_)) => {}
                Ok(LaneEvent::Done(_)) | Err(_) => {
                    let seconds = plan.give_up.as_secs_f64();
                    return Err(format!("not all sessions could be opened in {seconds:.0} s"));
                }
            }
        }
        Ok(())
    }

    /// Merges what ends until the deadline, an interrupt if it counts, or the end of all threads.
    fn collect(&mut self, deadline: Instant, interruptible: bool) -> Result<(), String> {
        let begin = Instant::now();
        let (mut shown, mut told) = (begin, 0);
        while self.left > 0 {
            let now = Instant::now();
            if now >= deadline || (interruptible && self.interrupt.has_come()) {
                break;
            }
            if self.progress.is_some() && interruptible && now - shown >= SHOW {
                shown = now;
                told = 0;
                self.control.asked.fetch_add(1, Ordering::Relaxed);
            }
            match self.events.recv_timeout(LOOK.min(deadline - now)) {
                Ok(LaneEvent::Done(report)) => {
                    self.total.merge(*report);
                    self.left -= 1;
                }
                Ok(LaneEvent::Failed(message)) => return Err(message),
                Ok(LaneEvent::Interval(interval)) => {
                    told += 1;
                    if let Some(progress) = &mut self.progress {
                        progress.add(&interval);
                        if told == self.left {
                            progress.show(now - begin);
                        }
                    }
                }
                Ok(LaneEvent::Ready) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a thread ended without a report".to_owned());
                }
            }
        }
        Ok(())
    }
}
