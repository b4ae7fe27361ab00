//! A search for a server: what it goes by, and what it has met so far.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringlane_core::balance::Known;
use ringlane_core::counters::{Phase, Reason, TRIED_MAX};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::settings::{Priority, RoleWanted};

use crate::generation::Generation;

/// What a search for a server goes by.
#[derive(Clone, Copy)]
pub struct Seeker<'a> {
    /// The configuration.
    pub generation: &'a Rc<Generation>,
    /// Where the session came in.
    pub frontend: FrontendId,
    /// The servers to choose from.
    pub backend: BackendId,
    /// Which of them.
    pub role: RoleWanted,
    /// What the client can be recognised by.
    pub known: Known<'a>,
    /// Its priority where it must wait.
    pub priority: Priority,
    /// How long one server may take to accept.
    pub timeout: Duration,
    /// When the search began.
    pub since: Instant,
    /// What it has met so far.
    pub trail: &'a Trail,
}

/// What a search for a server has met so far; kept when it is cut short.
pub struct Trail {
    phase: Cell<Phase>,
    /// What lies behind the close code.
    reason: Cell<Option<Reason>>,
    /// The server that it has a seat at, or had at its end.
    server: Cell<Option<ServerId>>,
    /// From the beginning of the search until the server accepted, microseconds.
    connect_us: Cell<Option<u32>>,
    retries: Cell<u32>,
    /// Allocated only for searches that failed or waited.
    detours: Cell<Option<Box<Detours>>>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Detours {
    /// Servers whose connects failed.
    pub(crate) tried: [Option<ServerId>; TRIED_MAX],
    /// Time spent in queues, microseconds.
    pub(crate) queue_us: u64,
}

impl Trail {
    /// A search that has not begun.
    pub(crate) fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Request),
            reason: Cell::new(None),
            server: Cell::new(None),
            connect_us: Cell::new(None),
            retries: Cell::new(0),
            detours: Cell::new(None),
        }
    }

    /// How far the session has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// It has come to this phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Why it ends, where the close code leaves that open.
    pub fn because(&self, reason: Reason) {
        self.reason.set(Some(reason));
    }

    /// That, if it was noted.
    pub fn reason(&self) -> Option<Reason> {
        self.reason.get()
    }

    /// The server that the session has a seat at, or had at its end.
    pub fn server(&self) -> Option<ServerId> {
        self.server.get()
    }

    /// It has a seat at this server now.
    pub(crate) fn seated(&self, id: ServerId) {
        self.server.set(Some(id));
    }

    /// It has given its seat up and searches anew.
    pub fn give_up_seat(&self) {
        self.server.set(None);
    }

    /// The server has accepted, so many microseconds after the search began.
    pub(crate) fn connected(&self, micros: u64) {
        self.connect_us.set(Some(u32::try_from(micros).unwrap_or(u32::MAX)));
    }

    /// That, if one has accepted.
    pub(crate) fn connect_us(&self) -> Option<u32> {
        self.connect_us.get()
    }

    /// Connects that failed before one succeeded.
    pub(crate) fn retries(&self) -> u32 {
        self.retries.get()
    }

    pub(crate) fn retry(&self) {
        self.retries.set(self.retries.get() + 1);
    }

    /// A connect to this server failed.
    pub(crate) fn failed(&self, id: ServerId) {
        self.give_up_seat();
        self.change(|detours| {
            if let Some(free) = detours.tried.iter_mut().find(|tried| tried.is_none()) {
                *free = Some(id);
            }
        });
    }

    /// Time was spent in a queue.
    pub(crate) fn waited(&self, micros: u64) {
        self.change(|detours| detours.queue_us += micros);
    }

    /// The search goes on with another configuration, in which servers have these ids.
    pub(crate) fn translate(&self, id_there: impl Fn(ServerId) -> Option<ServerId>) {
        self.server.set(self.server.get().and_then(&id_there));
        if let Some(mut detours) = self.detours.take() {
            detours.tried = detours.tried.map(|tried| tried.and_then(&id_there));
            self.detours.set(Some(detours));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Detours)) {
        let mut detours = self.detours.take().unwrap_or_default();
        change(&mut detours);
        self.detours.set(Some(detours));
    }

    pub(crate) fn detours(&mut self) -> Detours {
        self.detours.get_mut().as_deref().copied().unwrap_or_default()
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
