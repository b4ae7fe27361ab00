//! The client's half of a session: accepted, served, counted, settled.
//!
//! A [`Session`] is opened at accept and settled when it is dropped, whatever ended it: gauges go
//! back, counters and the access log get their record. Invariant: every session is settled exactly
//! once and has exactly one close code. Not here: its place at a server (`seat`), its bytes (the
//! carrier).

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringlane_core::balance::Known;
use ringlane_core::counters::{
    Cause, Close, Names, Phase, Reason, ServerCounters, SessionRecord, UniqueId,
};
use ringlane_core::ids::{BackendId, FrontendId, ServerId, Tag};
use ringlane_core::machine::reactor::{Receiver, Stream};
use ringlane_core::machine::sys::{Buffer, peer_address};
use ringlane_core::settings::{ClientHints, Frontend, RoleWanted, SendProxy};
use ringlane_core::shared::clients::Permit;

use crate::clients::{self, Refused};
use crate::connect::connect;
use crate::ends::REFUSED;
use crate::generation::Generation;
use crate::hops;
use crate::mailbox::Arrival;
use crate::proxy::{self, Header, Introduction, Proxied};
use crate::queue::Unseated;
use crate::seat::Seat;
use crate::trail::{Seeker, Trail, micros};
use crate::waiting::Waiting;

/// Bytes received from either side.
#[derive(Debug, Default)]
pub struct ByteCounts {
    /// From the client.
    pub from_client: Cell<u64>,
    /// From the server.
    pub from_server: Cell<u64>,
}

/// The client's half of a session, settled on drop.
pub struct Session {
    /// The configuration that it began with.
    pub generation: Rc<Generation>,
    /// What has passed.
    pub bytes: ByteCounts,
    /// What the search for its server met.
    pub trail: Trail,
    frontend: FrontendId,
    /// The backend that its route leads to, and which of its servers.
    backend: BackendId,
    role: RoleWanted,
    /// What ended it.
    cause: Option<Cause>,
    /// The server's first byte came too late, where that is watched.
    late: Cell<bool>,
    /// The client ended its stream before the server did.
    client_ended_first: Cell<bool>,
    /// Distinguishes it from other sessions of its shard.
    mark: u32,
    permit: Option<Permit>,
    /// Looked up only when logging or hashing needs it; boxed, as every session has room for it.
    client: Option<Box<SocketAddr>>,
    /// Fields that most sessions don't need.
    rare: Option<Box<RareFields>>,
    accepted: Instant,
}

/// Fields that most sessions don't need.
#[derive(Default)]
struct RareFields {
    /// What the client's first message told, while a server is chosen by it.
    hints: Option<ClientHints>,
    /// The same for the access log, if that wants it.
    names: Option<Box<Names>>,
    /// What a PROXY header told.
    proxied: Option<Proxied>,
    /// The number that its server was given.
    unique_id: Option<UniqueId>,
}

impl RareFields {
    fn is_empty(&self) -> bool {
        self.names.is_none() && self.proxied.is_none() && self.unique_id.is_none()
    }
}

impl Session {
    /// A session on this shard, which counts it already.
    pub(crate) fn open(generation: Rc<Generation>, arrival: &Arrival) -> Self {
        let Arrival { ref connection, frontend, permit, .. } = *arrival;
        generation.counters().frontend(frontend).sessions.add(1);
        let logged = generation.snapshot().log_sessions;
        let Frontend { backend, role, .. } = *generation.frontend(frontend);
        let wants_address = logged || generation.needs_client_address(frontend);
        Self {
            client: wants_address.then(|| peer_address(connection)).flatten().map(Box::new),
            accepted: generation.now(),
            mark: generation.shard.next_mark(),
            generation,
            bytes: ByteCounts::default(),
            trail: Trail::new(),
            frontend,
            backend,
            role,
            cause: None,
            late: Cell::new(false),
            client_ended_first: Cell::new(false),
            permit,
            rare: None,
        }
    }

    /// When it was accepted.
    pub fn accepted(&self) -> Instant {
        self.accepted
    }

    /// Where it came in.
    pub fn frontend_id(&self) -> FrontendId {
        self.frontend
    }

    /// What is configured there.
    pub fn frontend(&self) -> &Frontend {
        self.generation.frontend(self.frontend)
    }

    /// The backend that it goes to.
    pub fn backend(&self) -> BackendId {
        self.backend
    }

    /// Which of its servers it wants.
    pub fn role(&self) -> RoleWanted {
        self.role
    }

    /// Distinguishes it from other sessions of its shard.
    pub fn mark(&self) -> u32 {
        self.mark
    }

    /// The client's address, if it was looked up.
    pub fn client(&self) -> Option<SocketAddr> {
        self.client.as_deref().copied()
    }

    /// It goes to this backend, since its client's first message told this.
    pub fn set_route(&mut self, backend: BackendId, role: RoleWanted, hints: ClientHints) {
        (self.backend, self.role) = (backend, role);
        let names = if self.frontend().log_names { Names::of(&hints) } else { None };
        let rare = self.rare.get_or_insert_default();
        (rare.names, rare.hints) = (names, Some(hints));
    }

    /// Its server is chosen and has what it must know.
    pub fn forget_hints(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.hints = None;
        }
        self.rare.take_if(|rare| rare.is_empty());
    }

    /// The search for its server.
    pub fn seeker(&self) -> Seeker<'_> {
        let hints = self.rare.as_ref().and_then(|rare| rare.hints.as_ref());
        Seeker {
            generation: &self.generation,
            frontend: self.frontend,
            backend: self.backend,
            role: self.role,
            known: Known { client: self.client(), hints },
            priority: self.frontend().priority,
            timeout: self.frontend().timeout.connect,
            since: self.accepted,
            trail: &self.trail,
        }
    }

    /// Reads the PROXY header, where one is expected; what came behind it.
    ///
    /// # Errors
    /// How the session ends.
    pub async fn read_proxy_header(
        &mut self,
        receiver: &mut Receiver<'_>,
    ) -> Result<Option<Buffer>, Close> {
        let client = receiver.stream();
        let Some(accept) = &self.frontend().accept_proxy else { return Ok(None) };
        if !proxy::is_trusted(accept, client.peer_address().map(|address| address.ip())) {
            return Ok(None);
        }
        let header = proxy::receive(accept, receiver).await;
        let Header { proxied, rest } = header.map_err(|(close, reason)| {
            reason.inspect(|reason| self.trail.because(*reason));
            close
        })?;
        if let Some(proxied) = proxied {
            let client_ip = proxied.ends.client.ip();
            let permit = clients::enter(&self.generation, self.frontend, client_ip);
            self.permit = permit.map_err(|Refused(why)| {
                self.trail.because(why);
                if clients::is_reset(&self.generation, self.frontend) {
                    client.reset_on_close();
                }
                REFUSED
            })?;
            if let Some(known) = &mut self.client {
                **known = proxied.ends.client;
            }
            self.rare.get_or_insert_default().proxied = Some(proxied);
        }
        Ok(rest)
    }

    /// The PROXY header that introduces its client to a server.
    pub fn proxy_header(&self, send: SendProxy, client: &Stream) -> Vec<u8> {
        let rare = self.rare.as_deref();
        let introduction = Introduction {
            proxied: rare.and_then(|rare| rare.proxied.as_ref()),
            hints: rare.and_then(|rare| rare.hints.as_ref()),
            unique_id: rare.and_then(|rare| rare.unique_id),
        };
        introduction.header(send, client)
    }

    /// Connects to a server and introduces the client to it, where that is configured.
    ///
    /// # Errors
    /// How the session ends.
    pub async fn reach(&mut self, waiting: &Waiting<'_, '_>) -> Result<(Stream, Seat), Close> {
        let client = waiting.client();
        hops::stop_before_connecting(&self.seeker(), self.frontend, client)?;
        let mut place = None;
        let (server, seat) = loop {
            match connect(&self.seeker(), waiting, place).await {
                Ok(reached) => break reached,
                Err(Unseated::Ended(close)) => return Err(close),
                Err(Unseated::Reconfigured(waiting)) => place = waiting,
            }
            self.follow();
        };
        let seeker = self.seeker();
        hops::stop_after_connecting(&seeker, self.frontend, client, &server, seat.server())?;
        if let Some(send) = self.generation.backend(self.backend).send_proxy {
            if matches!(send, SendProxy::V2(details) if details.unique_id) {
                let id = UniqueId::new(self.generation.shard.random_u64());
                self.rare.get_or_insert_default().unique_id.get_or_insert(id);
            }
            let header = self.proxy_header(send, client);
            // The connection is new, so there is room for a few bytes.
            if server.send_few(&header).ok() != Some(header.len()) {
                return Err(Close::connect(Cause::Server));
            }
        }
        Ok((server, seat))
    }

    /// Goes on with the configuration that is served now, if it can: without a seat, it must be
    /// able to use a server that was added, as those behind it can.
    fn follow(&mut self) {
        let successor = self.generation.successor(self.frontend, self.backend);
        let Some((newer, frontend, backend)) = successor else { return };
        let (own, there) = (self.generation.gauges(), newer.gauges().tags());
        let places = there.servers.iter().copied().zip((0..).map(ServerId));
        let places: HashMap<Tag, ServerId> = places.collect();
        self.trail.translate(|id| places.get(&own.server_tag(id)).copied());
        (self.generation, self.frontend, self.backend) = (newer, frontend, backend);
    }

    /// The server's first byte came too late.
    pub fn note_late(&self) {
        self.late.set(true);
    }

    /// The client has ended its stream, and the server has not.
    pub fn note_client_ended_first(&self) {
        self.client_ended_first.set(true);
    }

    /// It has ended, and how.
    pub fn end(&mut self, close: Close) {
        self.cause = Some(close.cause);
        self.trail.enter(close.phase);
    }

    /// Whether its client connected, saw the server accept, and left: what checks and scans do.
    fn left_without_a_byte(&self, close: Close) -> bool {
        let left = close == Close::data(Cause::Client)
            || (close == Close::NORMAL && self.client_ended_first.get());
        left && self.bytes.from_client.get() + self.bytes.from_server.get() == 0
            && self.trail.connect_us().is_some()
    }

    /// Counts its end where it came in.
    fn count_at_frontend(&self, close: Close) {
        let counters = self.generation.counters();
        let (frontend, reason) = (counters.frontend(self.frontend), self.trail.reason());
        frontend.sessions_ended.add(1);
        frontend.closes.count(close);
        if reason == Some(Reason::Empty) {
            frontend.sessions_empty.add(1);
        } else if reason.is_some_and(Reason::is_order) {
            frontend.sessions_ended_by_order.add(1);
        } else if close != Close::NORMAL {
            frontend.sessions_failed.add(1);
        }
        if reason == Some(Reason::Stopped) {
            frontend.cut.add(1);
        }
        let is_unserved = matches!(close.cause, Cause::Server | Cause::ServerTimeout);
        // One that has connected was served, however badly.
        if is_unserved && close.phase == Phase::Connect && self.trail.server().is_none() {
            counters.backend(self.backend).unserved.add(1);
        }
    }

    /// Counts its end at its server.
    fn count_at_server(&self, server: &ServerCounters, close: Close) {
        if close.cause == Cause::Server {
            server.sessions_failed.add(1);
        }
        if self.trail.reason() == Some(Reason::Stopped) {
            server.cut.add(1);
        }
        let unanswered = self.bytes.from_server.get() == 0;
        let asked = self.bytes.from_client.get() > 0;
        match close.cause {
            Cause::Server if unanswered => server.sessions_failed_early.add(1),
            // Silent, though there was something to answer: the client's timeout may be the shorter
            // one.
            Cause::ServerTimeout | Cause::ClientTimeout
                if unanswered && (asked || close.phase == Phase::Connect) =>
            {
                server.sessions_failed_early.add(1);
            }
            _ if self.late.get() => server.sessions_late.add(1),
            _ => {}
        }
    }

    fn record(&mut self, close: Close, duration: Duration) -> SessionRecord {
        let detours = self.trail.detours();
        let rare = self.rare.as_mut();
        let unix_now = self.generation.reactor().unix_micros();
        let unique_id = rare.as_ref().and_then(|rare| rare.unique_id);
        SessionRecord {
            names: rare.and_then(|rare| rare.names.take()),
            // By today's clock of the day: one that was set meanwhile was wrong before.
            accepted_unix_us: unix_now.saturating_sub(micros(duration)),
            unique_id,
            client: self.client(),
            generation: self.generation.snapshot().generation,
            frontend: self.frontend,
            backend: self.backend,
            server: self.trail.server(),
            tried: detours.tried,
            bytes_in: self.bytes.from_client.get(),
            bytes_out: self.bytes.from_server.get(),
            connect_us: self.trail.connect_us().unwrap_or(0).into(),
            queue_us: detours.queue_us,
            duration_us: micros(duration),
            retries: self.trail.retries(),
            close,
            reason: self.trail.reason(),
            shard: u32::try_from(self.generation.reactor().shard()).unwrap_or(u32::MAX),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nothing set the code: the shard was stopped and dropped the session where it stood.
        let cause = self.cause.unwrap_or_else(|| {
            self.trail.because(Reason::Stopped);
            Cause::Killed
        });
        let close = Close { cause, phase: self.trail.phase() };
        if self.left_without_a_byte(close) {
            self.trail.because(Reason::Empty);
        }
        let duration = self.generation.now().saturating_duration_since(self.accepted);
        self.generation.shard.counters.session_duration.record(micros(duration));
        self.count_at_frontend(close);
        if let Some(id) = self.trail.server() {
            self.count_at_server(self.generation.counters().server(id), close);
        }
        if self.generation.snapshot().log_sessions {
            let record = self.record(close, duration);
            self.generation.log(record);
        }
        clients::leave(&self.generation, self.frontend, self.permit);
        self.generation.session_ended(self.frontend);
    }
}
