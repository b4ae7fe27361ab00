//! One thread of a run: its runtime, its share of the sessions, and what they measure.
//!
//! Sessions are tasks of this thread only, so all that they share is in an [`Rc`]. Invariants: a
//! session's socket is in `open` as long as it lives, so that it can be cut off from outside;
//! `live` counts the tasks, and the thread ends when it is 0.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::time::{Duration, Instant};

use monoio::net::TcpStream;
use monoio::{FusionDriver, RuntimeBuilder};
use nix::sys::socket::Shutdown;
use socket2::{Domain, Protocol, Socket, Type};

use super::kept::{self, Exchanged, Talk};
use super::turns::{self, Turn, Turns};
use super::{Control, GRACE, INTERRUPTED, Interval, Kind, LaneEvent, Plan, RUNNING, STOPPING};
use super::{lost, mixed, tcp, udp};
use crate::clock::{Timer, nanos};
use crate::failure::Failure;
use crate::gaps::Events;
use crate::machine;
use crate::report::{CpuUse, Report};
use crate::schedule::Schedule;

/// Connects in flight while sessions are opened, so that no accept queue overflows.
const OPENING_AT_ONCE: u64 = 64;

/// What a server gets to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the thread looks at the clock and at what the main thread says.
const TICK: Duration = Duration::from_millis(5);

/// What the sessions of a thread share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) index: usize,
    pub(super) plan: Arc<Plan>,
    control: Arc<Control>,
    pub(super) turns: Turns,
    report: RefCell<Report>,
    /// Since progress was shown the last time, if it is shown at all.
    interval: RefCell<Option<Interval>>,
    open: RefCell<BTreeSet<RawFd>>,
    live: Cell<usize>,
    cut_off: Cell<bool>,
    next_source: Cell<usize>,
}

/// An open connection, registered with its lane.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) stream: TcpStream,
    pub(super) registration: Registration,
}

/// A connection's entry in its lane, as long as this lives.
#[derive(Debug)]
pub(super) struct Registration {
    fd: RawFd,
    number: u64,
    lane: Rc<Lane>,
}

impl Session {
    /// A number that no other session of this run has.
    pub(super) fn number(&self) -> u64 {
        self.registration.number
    }
}

impl Registration {
    /// Ends the connection, whatever waits for it.
    pub(super) fn cut_off(&self) {
        // Fails for one that has ended already, which is as good.
        let _ = nix::sys::socket::shutdown(self.fd, Shutdown::Both);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.lane.open.borrow_mut().remove(&self.fd);
    }
}

/// What a thread has opened before the run begins.
enum Opened {
    Nothing,
    Sessions(Vec<Session>),
    Talks(Vec<Talk>),
}

/// Runs the `index`th thread of the plan to its end.
pub(super) fn run(
    index: usize,
    plan: Arc<Plan>,
    control: Arc<Control>,
    tell: &Sender<LaneEvent>,
) -> Result<Report, String> {
    machine::pin(&plan.cpus, index)?;
    let mut runtime = RuntimeBuilder::<FusionDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| format!("cannot start monoio: {error}"))?;
    let interval = plan.progress.then(Interval::new).transpose()?;
    let schedule = plan.open.map(|open| Schedule::new(open, index, plan.threads));
    let lane = Rc::new(Lane {
        index,
        plan,
        control,
        turns: Turns::new(schedule.clone()),
        report: RefCell::new(Report::new()?),
        interval: RefCell::new(interval),
        open: RefCell::default(),
        live: Cell::new(0),
        cut_off: Cell::new(false),
        next_source: Cell::new(index),
    });
    let lived = runtime.block_on(life(&lane, schedule, tell));
    // Tasks that could not be ended may still have lent buffers to the kernel, so the runtime must
    // not go before the process does.
    let stuck = lane.live.get();
    if stuck > 0 {
        std::mem::forget(runtime);
    }
    lived?;
    let mut report = lane.report.replace(Report::new()?);
    report.failed(Failure::Unfinished, stuck as u64, || "sessions hang".to_owned());
    Ok(report)
}

/// The CPU time of this thread at one moment.
#[derive(Clone, Copy, Debug)]
struct CpuMark {
    at: Instant,
    cpu: Option<Duration>,
}

async fn life(
    lane: &Rc<Lane>,
    schedule: Option<Schedule>,
    tell: &Sender<LaneEvent>,
) -> Result<(), String> {
    let timer = Timer::new().map_err(|error| format!("cannot make a timer: {error}"))?;
    let opened = lane.open_all().await?;
    if tell.send(LaneEvent::Ready).is_err() {
        return Ok(());
    }
    while !lane.control.has_come_to(RUNNING) {
        monoio::time::sleep(Duration::from_millis(1)).await;
    }
    let begin = CpuMark { at: Instant::now(), cpu: machine::cpu_of_thread() };
    lane.start(opened);
    if let Some(schedule) = schedule {
        lane.keep(timer, schedule);
    }
    lane.watch(tell, begin).await;
    let end = lane.end().map_or(u64::MAX, |end| nanos(lane.begin(), end));
    lane.turns.drain().filter(|at| *at < end).for_each(|intended| {
        lane.note(|report| report.account.never_sent(intended, end));
    });
    Ok(())
}

impl Lane {
    /// This thread's part of `total`.
    pub(super) fn share(&self, total: u64) -> u64 {
        let (threads, index) = (self.plan.threads as u64, self.index as u64);
        total / threads + u64::from(index < total % threads)
    }

    /// Looks after the sessions until the last has ended, or no more can be done for them.
    async fn watch(&self, tell: &Sender<LaneEvent>, begin: CpuMark) {
        let mut stopping: Option<Instant> = None;
        let mut answered = 0;
        while self.live.get() > 0 {
            monoio::time::sleep(TICK).await;
            let asked = self.control.asked.load(Ordering::Relaxed);
            if asked != answered {
                answered = asked;
                self.tell_progress(tell);
            }
            if !self.is_stopping() {
                continue;
            }
            if stopping.is_none() {
                self.note_cpu(begin);
                self.turns.wake_all();
            }
            let stopped_for = stopping.get_or_insert_with(Instant::now).elapsed();
            if stopped_for > GRACE && !self.cut_off.replace(true) {
                self.cut_all_off();
            }
            if stopped_for > GRACE * 2 {
                return;
            }
        }
        if stopping.is_none() {
            self.note_cpu(begin);
        }
    }

    fn tell_progress(&self, tell: &Sender<LaneEvent>) {
        // Without memory for the next one, progress is not shown any more.
        if let Some(interval) = self.interval.replace(Interval::new().ok()) {
            // The main thread may have given up on us.
            let _ = tell.send(LaneEvent::Interval(Box::new(interval)));
        }
    }

    fn note_cpu(&self, begin: CpuMark) {
        if let (Some(before), Some(now)) = (begin.cpu, machine::cpu_of_thread()) {
            let spent = now.saturating_sub(before);
            self.note(|report| report.cpu.push(CpuUse { spent, of: begin.at.elapsed() }));
        }
    }

    /// When the run began.
    pub(super) fn begin(&self) -> Instant {
        self.control.begin.get().copied().unwrap_or_else(Instant::now)
    }

    /// When it was ended, if it was.
    pub(super) fn end(&self) -> Option<Instant> {
        self.control.end.get().copied()
    }

    /// Whether sessions should finish.
    pub(super) fn is_stopping(&self) -> bool {
        self.control.has_come_to(STOPPING)
    }

    /// Whether they should finish because somebody has seen enough.
    pub(super) fn is_interrupted(&self) -> bool {
        self.control.has_come_to(INTERRUPTED)
    }

    /// Waits for the caller's turn to send; `None` when the run ends.
    pub(super) async fn turn(&self) -> Option<Turn> {
        poll_fn(|context| {
            if self.is_stopping() {
                return Poll::Ready(None);
            }
            self.turns.poll(context).map(|intended| {
                let sent = Instant::now();
                if let Some(intended) = intended {
                    let wait = nanos(self.begin(), sent).saturating_sub(intended);
                    self.note(|report| report.account.kept.sent(wait));
                }
                Some(Turn { intended, sent })
            })
        })
        .await
    }

    /// Whether all sessions were ended from here, because they did not end by themselves.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.get()
    }

    /// The moments that were marked.
    pub(super) fn events(&self) -> &Events {
        &self.control.events
    }

    /// Writes into the part of the report that mixed runs have.
    pub(super) fn find(&self, write: impl FnOnce(&mut mixed::Found)) {
        self.note(|report| write(report.mixed.get_or_insert_default()));
    }

    /// Writes into the report.
    pub(super) fn note(&self, write: impl FnOnce(&mut Report)) {
        write(&mut self.report.borrow_mut());
    }

    /// Counts what a turn was used for.
    pub(super) fn answered(&self, turn: Turn, exchanged: Exchanged) {
        let begin = self.begin();
        let (sent, now) = (nanos(begin, turn.sent), nanos(begin, Instant::now()));
        self.note(|report| {
            report.requests += 1;
            report.operations += exchanged.operations;
            report.sent += exchanged.sent;
            report.received += exchanged.received;
            report.account.answered(turn.intended, sent, now);
        });
        if let Some(interval) = self.interval.borrow_mut().as_mut() {
            interval.requests += 1;
            interval.latencies.record(now.saturating_sub(turn.intended.unwrap_or(sent)));
        }
    }

    /// Counts a failure; one that we caused ourselves at the end is called unfinished.
    pub(super) fn failed(&self, doing: &str, error: &io::Error) {
        let failure = if self.cut_off.get() { Failure::Unfinished } else { Failure::of(error) };
        let address = self.plan.address;
        self.note(|report| report.failed(failure, 1, || format!("{doing} {address}: {error}")));
        self.interval.borrow_mut().iter_mut().for_each(|interval| interval.failures += 1);
    }

    /// Runs a session's task, counted in `live`.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let lane = Rc::clone(self);
        lane.live.set(lane.live.get() + 1);
        // Detached: the lane counts it.
        drop(monoio::spawn(async move {
            task.await;
            lane.live.set(lane.live.get() - 1);
        }));
    }

    /// Connects one session.
    pub(super) async fn connect(self: &Rc<Self>) -> io::Result<Session> {
        let address = self.plan.address;
        let stream = match self.next_source() {
            Some(source) => connect_from(source, address)?,
            None => monoio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect_addr(address))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        };
        stream.set_nodelay(true)?;
        let fd = stream.as_raw_fd();
        self.open.borrow_mut().insert(fd);
        self.note(|report| report.sessions += 1);
        let number = self.report.borrow().sessions * self.plan.threads as u64 + self.index as u64;
        Ok(Session { stream, registration: Registration { fd, number, lane: Rc::clone(self) } })
    }

    fn start(self: &Rc<Self>, opened: Opened) {
        let lane = || Rc::clone(self);
        match (&self.plan.kind, opened) {
            (_, Opened::Talks(talks)) => {
                talks.into_iter().for_each(|talk| self.spawn(kept::session(lane(), talk)));
            }
            (&Kind::Stream { direction, bytes, checksum }, Opened::Sessions(sessions)) => {
                tcp::stream::start(self, sessions, direction, bytes, checksum);
            }
            (&Kind::Watched { size, every, stall }, Opened::Sessions(sessions)) => {
                lost::start(self, sessions, size, every, stall);
            }
            (Kind::Mixed(mixture), Opened::Sessions(sessions)) => {
                mixed::start(self, sessions, mixture);
            }
            (_, Opened::Sessions(sessions)) => sessions
                .into_iter()
                .for_each(|session| self.spawn(tcp::idle::session(lane(), session))),
            (&Kind::Connect { count, size }, Opened::Nothing) => {
                tcp::crr::start(self, count, size);
            }
            (&Kind::DatagramStream { direction, size, rate }, Opened::Nothing) => {
                udp::stream::start(self, direction, size, rate);
            }
            (_, Opened::Nothing) => {}
        }
    }

    /// Begins to keep the schedule.
    fn keep(self: &Rc<Self>, timer: Timer, schedule: Schedule) {
        let arrivals = match self.plan.kind {
            Kind::Connect { count: Some(count), .. } => self.share(count),
            _ => u64::MAX,
        };
        let lane = Rc::clone(self);
        let arrivals = schedule.take(usize::try_from(arrivals).unwrap_or(usize::MAX));
        self.spawn(async move {
            if let Err(error) = turns::keep(&lane, timer, arrivals, |_| lane.turns.add()).await {
                lane.failed("waiting for the next arrival at", &error);
            }
        });
    }

    /// Opens this thread's share of the sessions, if the kind has any before the run.
    async fn open_all(self: &Rc<Self>) -> Result<Opened, String> {
        let wanted = self.share(self.plan.sessions as u64);
        match self.plan.kind {
            Kind::Connect { .. } | Kind::DatagramStream { .. } => Ok(Opened::Nothing),
            Kind::Stream { .. } | Kind::Idle { .. } | Kind::Watched { .. } => {
                let open = async |lane: Rc<Self>| lane.connect().await.map(Some);
                self.open_each(wanted, open).await.map(Opened::Sessions)
            }
            Kind::Mixed(ref mixture) => {
                let (sessions, streams) = mixed::share(self, mixture);
                let open = async |lane: Rc<Self>| lane.connect().await.map(Some);
                self.open_each(sessions + streams, open).await.map(Opened::Sessions)
            }
            _ => {
                let open = async |lane: Rc<Self>| Talk::open(&lane).await;
                self.open_each(wanted, open).await.map(Opened::Talks)
            }
        }
    }

    /// What fails is counted and left out; an error if nothing is left.
    async fn open_each<T: 'static>(
        self: &Rc<Self>,
        wanted: u64,
        open: impl AsyncFn(Rc<Self>) -> io::Result<Option<T>> + Copy + 'static,
    ) -> Result<Vec<T>, String> {
        let left = Rc::new(Cell::new(wanted));
        let opened = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..OPENING_AT_ONCE.min(wanted) {
            let (lane, left, opened) = (Rc::clone(self), Rc::clone(&left), Rc::clone(&opened));
            self.spawn(async move {
                while left.get() > 0 && !lane.is_stopping() {
                    left.set(left.get() - 1);
                    match open(Rc::clone(&lane)).await {
                        Ok(one) => opened.borrow_mut().extend(one),
                        Err(error) => lane.failed("opening a session with", &error),
                    }
                }
            });
        }
        while self.live.get() > 0 {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        if opened.borrow().is_empty() && wanted > 0 {
            let first = self.report.borrow().first_failure.clone();
            return Err(first.unwrap_or_else(|| "no session could be opened".to_owned()));
        }
        Ok(opened.take())
    }

    /// Where the next session is to come from; the kernel decides without any.
    pub(super) fn next_source(&self) -> Option<SocketAddr> {
        let sources = &self.plan.sources;
        let nth = self.next_source.replace(self.next_source.get() + 1);
        let source = sources.get(nth.checked_rem(sources.len())?)?;
        Some(SocketAddr::new(*source, 0))
    }

    /// Ends all open connections, so that every task comes to its end.
    fn cut_all_off(&self) {
        for fd in self.open.borrow().iter() {
            // Fails for one that has ended already, which is as good.
            let _ = nix::sys::socket::shutdown(*fd, Shutdown::Both);
        }
    }
}

/// Connects from an address of our choice, which monoio can't do. Blocks for one round trip.
fn connect_from(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&source.into())?;
    socket.connect_timeout(&to.into(), CONNECT_TIMEOUT)?;
    // monoio wants a blocking socket under io_uring and a non-blocking one under epoll.
    socket.set_nonblocking(!monoio::utils::detect_uring())?;
    TcpStream::from_std(socket.into())
}
