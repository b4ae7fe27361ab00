//! One thread of a run: its runtime, its share of the sessions, and what they measure.
//!
//! Sessions are tasks of this thread only, so all that they share is in an [`Rc`]. Invariants: a
//! session's socket is in `open` as long as it lives, so that it can be cut off from outside;
//! `live` counts the tasks, and the thread ends when it is 0.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use monoio::net::TcpStream;
use monoio::{FusionDriver, RuntimeBuilder};
use nix::sys::socket::Shutdown;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Control, Event, GRACE, Kind, Plan, crr, idle, rr, stream};
use crate::machine;
use crate::report::{Failure, Report};

/// Connects in flight while sessions are opened, so that no accept queue overflows.
const OPENING_AT_ONCE: usize = 64;

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
    report: RefCell<Report>,
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
    lane: Rc<Lane>,
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

/// Runs the `index`th thread of the plan to its end.
pub(super) fn run(
    index: usize,
    plan: Arc<Plan>,
    control: Arc<Control>,
    tell: &Sender<Event>,
) -> Result<Report, String> {
    machine::pin(&plan.cpus, index)?;
    let mut runtime = RuntimeBuilder::<FusionDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| format!("cannot start monoio: {error}"))?;
    let lane = Rc::new(Lane {
        index,
        plan,
        control,
        report: RefCell::new(Report::new()?),
        open: RefCell::default(),
        live: Cell::new(0),
        cut_off: Cell::new(false),
        next_source: Cell::new(index),
    });
    runtime.block_on(life(&lane, tell));
    // Tasks that could not be ended may still have lent buffers to the kernel, so the runtime must
    // not go before the process does.
    let stuck = lane.live.get();
    if stuck > 0 {
        std::mem::forget(runtime);
    }
    let mut report = lane.report.replace(Report::new()?);
    report.failed(Failure::Unfinished, stuck as u64, || "sessions hang".to_owned());
    Ok(report)
}

async fn life(lane: &Rc<Lane>, tell: &Sender<Event>) {
    let sessions = match lane.plan.kind {
        Kind::Connect { .. } => Vec::new(),
        _ => lane.open_all().await,
    };
    if tell.send(Event::Ready).is_err() {
        return;
    }
    while !lane.control.is_running() {
        monoio::time::sleep(Duration::from_millis(1)).await;
    }
    lane.start(sessions);
    let mut stopping: Option<Instant> = None;
    while lane.live.get() > 0 {
        monoio::time::sleep(TICK).await;
        if !lane.is_stopping() {
            continue;
        }
        let since = stopping.get_or_insert_with(Instant::now).elapsed();
        if since > GRACE && !lane.cut_off.replace(true) {
            lane.cut_all_off();
        }
        if since > GRACE * 2 {
            return;
        }
    }
}

impl Lane {
    /// This thread's part of `total`.
    pub(super) fn share(&self, total: u64) -> u64 {
        let (threads, index) = (self.plan.threads as u64, self.index as u64);
        total / threads + u64::from(index < total % threads)
    }

    /// Whether sessions should finish.
    pub(super) fn is_stopping(&self) -> bool {
        self.control.is_stopping()
    }

    /// Writes into the report.
    pub(super) fn note(&self, write: impl FnOnce(&mut Report)) {
        write(&mut self.report.borrow_mut());
    }

    /// Counts a failure; one that we caused ourselves at the end is called unfinished.
    pub(super) fn failed(&self, doing: &str, error: &io::Error) {
        let failure = if self.cut_off.get() { Failure::Unfinished } else { Failure::of(error) };
        let address = self.plan.address;
        self.note(|report| report.failed(failure, 1, || format!("{doing} {address}: {error}")));
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
        Ok(Session { stream, registration: Registration { fd, lane: Rc::clone(self) } })
    }

    fn start(self: &Rc<Self>, sessions: Vec<Session>) {
        match self.plan.kind {
            Kind::RoundTrip { size } => sessions
                .into_iter()
                .for_each(|session| self.spawn(rr::session(Rc::clone(self), session, size))),
            Kind::Stream { direction, bytes, checksum } => {
                stream::start(self, sessions, direction, bytes, checksum);
            }
            Kind::Connect { count, size } => crr::start(self, count, size),
            Kind::Idle => sessions
                .into_iter()
                .for_each(|session| self.spawn(idle::session(Rc::clone(self), session))),
        }
    }

    /// Opens this thread's share of the sessions. What fails is counted and left out.
    async fn open_all(self: &Rc<Self>) -> Vec<Session> {
        let left = Rc::new(Cell::new(self.share(self.plan.sessions as u64)));
        let sessions = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..OPENING_AT_ONCE {
            let (lane, left, sessions) = (Rc::clone(self), Rc::clone(&left), Rc::clone(&sessions));
            self.spawn(async move {
                while left.get() > 0 && !lane.is_stopping() {
                    left.set(left.get() - 1);
                    match lane.connect().await {
                        Ok(session) => sessions.borrow_mut().push(session),
                        Err(error) => lane.failed("connecting to", &error),
                    }
                }
            });
        }
        while self.live.get() > 0 {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        sessions.take()
    }

    fn next_source(&self) -> Option<SocketAddr> {
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
