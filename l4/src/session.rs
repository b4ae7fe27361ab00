//! The life of one connection: accepted, connected to a server, relayed, accounted for.
//!
//! An [`Account`] is opened at accept and settled when it is dropped, whatever ended the session:
//! gauges go back, counters and the access log get their record. Invariant: every session is settled
//! exactly once and has exactly one close code.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringlane_core::balance::Known;
use ringlane_core::counters::{
    Cause, Close, Ending, Names, Phase, Reason, SessionRecord, TRIED_MAX, UniqueId,
};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::limits::LAST_WORDS;
use ringlane_core::machine::reactor::{Receiver, Stream};
use ringlane_core::machine::sys::{Buffer, Socket};
use ringlane_core::settings::{Frontend, RoleWanted, Said, SendProxy};
use ringlane_core::shared::clients::Place;

use crate::connect::connect;
use crate::extras::Extras;
use crate::first_byte::Timed;
use crate::greet::{self, Greeted, Heard};
use crate::greeting::Tracker;
use crate::greeting::proxy::Proxied;
use crate::mirror::Mirror;
use crate::pump::Broken;
use crate::relay::{End, Relay, Side, Traffic};
use crate::shard::Shard;
use crate::throttle::Throttle;
use crate::waiting::Waiting;
use crate::{cancel, clients, proxy, round};

/// The time between two looks at whether what was sent before a reset has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A session of which fewer segments were sent again was just unlucky.
const RESENT_MIN: u32 = 3;

/// What a session shares with its relay: the bytes received from either side, and small things that
/// fill up the room beside them.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) from_client: Cell<u64>,
    pub(crate) from_server: Cell<u64>,
    /// Words on ending sessions that had been said before the server was chosen, or that do not mean
    /// this session.
    pub(crate) begun: Cell<u32>,
    /// The server's place has been given back already.
    pub(crate) server_left: Cell<bool>,
    /// The server's first byte came too late, where somebody asks.
    late: Cell<bool>,
}

/// What is known of a session, settled on drop.
pub(crate) struct Account {
    pub(crate) shard: Rc<Shard>,
    frontend: FrontendId,
    /// Who serves it, and which of its servers may: its route, or what the frontend says.
    backend: BackendId,
    role: RoleWanted,
    /// What is known of few sessions.
    about: Option<Box<About>>,
    /// Asked for only if somebody will read it; boxed, as every session has room for it.
    client: Option<Box<SocketAddr>>,
    accepted: Instant,
    accepted_unix_us: u64,
    /// The server that it occupies a place of.
    pub(crate) server: Option<ServerId>,
    /// From accept to the server's answer, microseconds.
    connect_us: Option<u32>,
    pub(crate) retries: u32,
    /// What it takes of what its client may take.
    client_place: Option<Place>,
    bytes: Bytes,
    /// How far it has come, and what ended it there.
    pub(crate) phase: Phase,
    cause: Option<Cause>,
    /// What lies behind the close code.
    pub(crate) reason: Option<Reason>,
}

/// What is known of few sessions.
#[derive(Default)]
struct About {
    /// What its client said first, while a server is chosen by it.
    said: Option<Said>,
    /// The same for the access log, if that wants it.
    names: Option<Box<Names>>,
    /// What a proxy said of its client.
    proxied: Option<Proxied>,
    /// The number that its server was told.
    unique_id: Option<UniqueId>,
    /// Servers whose connects failed.
    tried: [Option<ServerId>; TRIED_MAX],
    /// Since when it is in the queue.
    waits_since: Option<Instant>,
    /// Time in the queue before, microseconds.
    queue_us: u64,
}

impl About {
    /// Whether nothing of it will be asked for any more.
    fn is_empty(&self) -> bool {
        self.names.is_none()
            && self.proxied.is_none()
            && self.unique_id.is_none()
            && self.tried[0].is_none()
            && self.waits_since.is_none()
            && self.queue_us == 0
    }
}

/// Begins a session on this shard, which counts it already; a place at both gates is taken.
pub(crate) fn begin(
    shard: &Rc<Shard>,
    connection: Socket,
    frontend: FrontendId,
    place: Option<Place>,
) {
    let client = Stream::new(&shard.reactor, connection);
    let mut account = Account::open(Rc::clone(shard), frontend, &client);
    account.client_place = place;
    // A block, since a function's arguments would take up their room in the task twice.
    shard.reactor.spawn(async move {
        let close = serve(&client, &mut account).await;
        account.end(close);
    });
}

/// A session whose server has accepted.
struct Opened<'a> {
    server: Stream,
    receiver: Receiver<'a>,
    /// What the client has said already and nobody has read.
    said: Option<Buffer>,
    /// Bytes of the client that the server has been given.
    greeted: usize,
    extras: Option<Box<Extras>>,
}

/// Connects and relays, to the end.
async fn serve(client: &Stream, account: &mut Account) -> Close {
    // Apart, since this needs more room than all that follows, and is over soon: on the heap a burst
    // of openings would leave its holes between what the sessions keep.
    let opened = match client.reactor().brief(open(client, account)).await {
        Ok(opened) => opened,
        Err(close) => return close,
    };
    let Opened { server, receiver, said, greeted, extras } = opened;
    let Some(id) = account.server else { return Close::data(Cause::Internal) };
    account.phase = Phase::Data;
    let ids = (account.frontend, id, account.role);
    let traffic = Traffic::new(&account.shard, ids, &account.bytes, extras);
    if greeted > 0 {
        traffic.received(Side::Client, greeted);
    }
    let (ended, late) = match account.shard.gauges.server(id).first_byte_limit() {
        None => (Relay::new((receiver, said), &server, &traffic).await, false),
        Some(limit) => {
            let relay = Relay::new((receiver, said), &server, &traffic);
            Box::pin(Timed::new(relay, (&account.shard, &server), &account.bytes, limit)).await
        }
    };
    account.bytes.late.set(late);
    account.look_for_loss(id, &server);
    match ended {
        Ok(()) => Close::NORMAL,
        Err(End::Broken(Broken(side))) => {
            let other = match side {
                Side::Client => &server,
                Side::Server => client,
            };
            if other.has_unacknowledged() {
                Box::pin(let_arrive(&account.shard, other)).await;
            }
            other.reset_on_close();
            Close::data(side.cause())
        }
        Err(End::Silent(cause)) => Close::data(cause),
        Err(End::Drained(why)) => {
            account.shard.counters().server(id).ended.count(Ending::Drain, why);
            account.because(why);
            Close::data(Cause::Killed)
        }
        Err(End::Fenced { told, why }) => {
            account.shard.counters().server(id).ended.count(Ending::Fence, why);
            account.because(why);
            // A reset each way: neither side must take what was said for the end.
            if !told {
                client.reset_on_close();
            }
            server.reset_on_close();
            Close::data(Cause::Killed)
        }
    }
}

/// Waits until what was sent has arrived: the reset that follows would overtake it.
async fn let_arrive(shard: &Shard, stream: &Stream) {
    let reactor = &shard.reactor;
    let until = reactor.now() + LAST_WORDS;
    while stream.has_unacknowledged() && reactor.now() < until {
        reactor.sleep(LOOK_AGAIN).await;
    }
}

/// Hears who the client is and what it wants, and connects to a server. What few sessions need is
/// boxed once more: the room of all others would be as large.
async fn open<'a>(client: &'a Stream, account: &mut Account) -> Result<Opened<'a>, Close> {
    let mut receiver = client.receiver();
    let mut said = None;
    if account.frontend().accept_proxy.is_some() {
        said = client.reactor().brief(proxy::hear(&mut receiver, account)).await?;
    }
    let protocol = account.frontend().protocol;
    if protocol.begins_with_the_client() {
        return client.reactor().brief(open_by_greeting(receiver, account, said)).await;
    }
    let server = reach(account, &Waiting::new(&receiver, said.is_some())).await?;
    let mirror = Mirror::begin(account, client, &[]);
    let extras = extras(account, Tracker::new(protocol), mirror);
    Ok(Opened { server, receiver, said, greeted: 0, extras })
}

fn extras(
    account: &Account,
    tracker: Option<Tracker>,
    mirror: Option<Mirror>,
) -> Option<Box<Extras>> {
    let throttle = Throttle::new(&account.shard, account.backend);
    Extras { tracker: tracker.map(RefCell::new), mirror, throttle }.boxed()
}

/// Hears what the client says first, and connects to the server that is chosen by it.
async fn open_by_greeting<'a>(
    mut receiver: Receiver<'a>,
    account: &mut Account,
    said: Option<Buffer>,
) -> Result<Opened<'a>, Close> {
    let client = receiver.stream();
    let mut greeted = match greet::hear(account, &mut receiver, said).await? {
        Heard::Session(greeted) => greeted,
        Heard::Cancel(key) => return Err(cancel::pass_on(account, &receiver, &key).await),
    };
    let waiting = Waiting::new(&receiver, !greeted.bytes.is_empty());
    let server = match greeted.server.take() {
        Some(server) => server,
        None => match reach(account, &waiting).await {
            Ok(server) => server,
            Err(close) => {
                // One whose startup message was read.
                if greeted.tracker.is_some() {
                    greet::tell_postgres(account, client, close);
                }
                return Err(close);
            }
        },
    };
    greet::pass_on(account, &server, &greeted, &waiting).await?;
    let mirror = Mirror::begin(account, client, &greeted.bytes);
    account.forget_said();
    let Greeted { bytes, tracker, .. } = greeted;
    let extras = extras(account, tracker, mirror);
    Ok(Opened { server, receiver, said: None, greeted: bytes.len(), extras })
}

/// Connects to a server and tells it who the client is.
pub(crate) async fn reach(
    account: &mut Account,
    waiting: &Waiting<'_, '_>,
) -> Result<Stream, Close> {
    let client = waiting.client();
    round::stop_before_connecting(account, client)?;
    let server = connect(account, waiting).await?;
    round::stop_after_connecting(account, client, &server)?;
    if let Some(send) = account.shard.snapshot.backend(account.backend).send_proxy {
        if matches!(send, SendProxy::V2(details) if details.unique_id) {
            account.give_unique_id();
        }
        let header = proxy::header(send, account, client);
        // The connection is new, so there is room for a few bytes.
        if server.send_few(&header).ok() != Some(header.len()) {
            return Err(Close::connect(Cause::Server));
        }
    }
    Ok(server)
}

impl Account {
    fn open(shard: Rc<Shard>, frontend: FrontendId, client: &Stream) -> Self {
        shard.counters().frontend(frontend).sessions.add(1);
        let logged = shard.snapshot.log_sessions;
        let snapshot = Arc::clone(&shard.snapshot);
        let settings = snapshot.frontend(frontend);
        let wants_address = logged || shard.goes_by_client(frontend);
        Self {
            client: wants_address.then(|| client.peer_address()).flatten().map(Box::new),
            accepted: shard.reactor.now(),
            accepted_unix_us: if logged { shard.reactor.unix_micros() } else { 0 },
            backend: settings.backend,
            role: settings.role,
            about: None,
            shard,
            frontend,
            server: None,
            connect_us: None,
            retries: 0,
            client_place: None,
            bytes: Bytes::default(),
            phase: Phase::Request,
            cause: None,
            reason: None,
        }
    }

    /// Where it came in.
    pub(crate) fn frontend_id(&self) -> FrontendId {
        self.frontend
    }

    /// What is configured there.
    pub(crate) fn frontend(&self) -> &Frontend {
        self.shard.snapshot.frontend(self.frontend)
    }

    /// Who serves it, and which of its servers may.
    pub(crate) fn route(&self) -> (BackendId, RoleWanted) {
        (self.backend, self.role)
    }

    /// Takes the first route that fits what the client said; whether there is one.
    pub(crate) fn follow_route(&mut self, said: Said) -> bool {
        let route = self.frontend().routes.iter().find(|route| route.fits(&said));
        let route = route.map(|route| (route.backend, route.role));
        let frontend = self.frontend();
        (self.backend, self.role) = route.unwrap_or((frontend.backend, frontend.role));
        let names = if self.frontend().log_names { Names::of(&said) } else { None };
        let about = self.about();
        (about.names, about.said) = (names, Some(said));
        route.is_some()
    }

    /// What it can be recognised by.
    pub(crate) fn known(&self) -> Known<'_> {
        let said = self.about.as_ref().and_then(|about| about.said.as_ref());
        Known { client: self.client(), said }
    }

    /// The session has ended, and why.
    fn end(&mut self, close: Close) {
        (self.cause, self.phase) = (Some(close.cause), close.phase);
    }

    /// The client is somebody else than whom the connection comes from, and has this place.
    pub(crate) fn is_for(&mut self, proxied: Proxied, place: Option<Place>) {
        if let Some(known) = &mut self.client {
            **known = proxied.ends.client;
        }
        self.client_place = place;
        self.about().proxied = Some(proxied);
    }

    /// What a proxy said of its client.
    pub(crate) fn proxied(&self) -> Option<&Proxied> {
        self.about.as_ref()?.proxied.as_ref()
    }

    /// Its number for others, if it was given one.
    pub(crate) fn unique_id(&self) -> Option<UniqueId> {
        self.about.as_ref()?.unique_id
    }

    /// Gives it a number, once.
    fn give_unique_id(&mut self) {
        let id = UniqueId::new(self.shard.random_u64());
        self.about().unique_id.get_or_insert(id);
    }

    /// A server is chosen.
    fn forget_said(&mut self) {
        self.about().said = None;
        self.about.take_if(|about| about.is_empty());
    }

    /// Why it ends, where its close code will not tell.
    pub(crate) fn because(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// It is in the backend's queue from now on.
    pub(crate) fn begins_to_wait(&mut self) {
        self.about().waits_since = Some(self.shard.reactor.now());
    }

    /// It has a place at a server, or has given up.
    pub(crate) fn has_waited(&mut self) {
        let now = self.shard.reactor.now();
        let Some(about) = &mut self.about else { return };
        if let Some(since) = about.waits_since.take() {
            let waited = micros(now.saturating_duration_since(since));
            about.queue_us += waited;
            self.shard.counters().queue_wait.record(waited);
        }
    }

    /// A connect to its server failed: gives the place back and remembers the server.
    pub(crate) fn failed(&mut self, id: ServerId) {
        self.leave_server();
        if let Some(free) = self.about().tried.iter_mut().find(|tried| tried.is_none()) {
            *free = Some(id);
        }
    }

    fn about(&mut self) -> &mut About {
        self.about.get_or_insert_default()
    }

    /// The client's address, if it was asked for.
    pub(crate) fn client(&self) -> Option<SocketAddr> {
        self.client.as_deref().copied()
    }

    /// The session takes a place at a server; `false` if another one took the last.
    pub(crate) fn try_enter_server(&mut self, id: ServerId) -> bool {
        let entered = self.shard.gauges.server(id).try_enter();
        if entered {
            self.bytes.begun.set(self.shard.endings.said());
            self.server = Some(id);
        }
        entered
    }

    /// Looks once, at the end, whether much had to be sent to the server again, if somebody asks.
    fn look_for_loss(&self, id: ServerId, server: &Stream) {
        if let Some(limit) = self.shard.gauges.server(id).loss_limit()
            && let Some((sent, again)) = server.segments()
            && again >= RESENT_MIN
            && u64::from(again) * 100 > u64::from(sent) * u64::from(limit)
        {
            self.shard.counters().server(id).sessions_lossy.add(1);
        }
    }

    /// Gives the place back, to who waits for it.
    pub(crate) fn leave_server(&mut self) {
        if let Some(id) = self.server.take()
            && !self.bytes.server_left.get()
        {
            self.shard.leave_server(id);
        }
    }

    /// Gives the place back for one at another server, which was taken when `begun` words on ending
    /// sessions had been said.
    pub(crate) fn move_to(&mut self, id: ServerId, begun: u32) {
        self.leave_server();
        self.server = Some(id);
        self.bytes.begun.set(begun);
    }

    /// The server has accepted.
    pub(crate) fn connected(&mut self) {
        let connect = self.shard.reactor.now().saturating_duration_since(self.accepted);
        self.connect_us = Some(u32::try_from(micros(connect)).unwrap_or(u32::MAX));
        self.shard.counters().connect_time.record(micros(connect));
    }

    /// Whether its client connected, saw the server accept, and left: what checks and scans do.
    fn left_without_a_byte(&self, close: Close) -> bool {
        (close == Close::NORMAL || close == Close::data(Cause::Client))
            && self.bytes.from_client.get() + self.bytes.from_server.get() == 0
            && self.connect_us.is_some()
    }

    fn record(&self, close: Close, duration: Duration, names: Option<Box<Names>>) -> SessionRecord {
        let about = self.about.as_ref();
        SessionRecord {
            names,
            accepted_unix_us: self.accepted_unix_us,
            unique_id: self.unique_id(),
            client: self.client(),
            generation: self.shard.snapshot.generation,
            frontend: self.frontend,
            backend: self.backend,
            server: self.server,
            tried: about.map_or([None; TRIED_MAX], |about| about.tried),
            bytes_in: self.bytes.from_client.get(),
            bytes_out: self.bytes.from_server.get(),
            connect_us: self.connect_us.unwrap_or(0).into(),
            queue_us: about.map_or(0, |about| about.queue_us),
            duration_us: micros(duration),
            retries: self.retries,
            close,
            reason: self.reason,
            shard: u32::try_from(self.shard.reactor.shard()).unwrap_or(u32::MAX),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Nothing set the code: the shard was stopped and dropped the session where it stood.
        let cause = self.cause.unwrap_or_else(|| {
            self.reason = Some(Reason::Stopped);
            Cause::Killed
        });
        let close = Close { cause, phase: self.phase };
        self.has_waited();
        let names = self.about.as_mut().and_then(|about| about.names.take());
        let duration = self.shard.reactor.now().saturating_duration_since(self.accepted);
        let counters = self.shard.counters();
        counters.session_duration.record(micros(duration));
        let frontend = counters.frontend(self.frontend);
        frontend.sessions_ended.add(1);
        frontend.closes.count(close);
        if self.left_without_a_byte(close) {
            self.reason = Some(Reason::Empty);
        }
        if self.reason == Some(Reason::Empty) {
            frontend.sessions_empty.add(1);
        } else if self.reason.is_some_and(Reason::is_order) {
            frontend.sessions_ended_by_order.add(1);
        } else if close != Close::NORMAL {
            frontend.sessions_failed.add(1);
        }
        if self.reason == Some(Reason::Stopped) {
            frontend.cut.add(1);
        }
        let is_unserved = matches!(close.cause, Cause::Server | Cause::ServerTimeout);
        if is_unserved && close.phase == Phase::Connect {
            counters.backend(self.backend).unserved.add(1);
        }
        if let Some(id) = self.server {
            let (server, unanswered) = (counters.server(id), self.bytes.from_server.get() == 0);
            if close.cause == Cause::Server {
                server.sessions_failed.add(1);
            }
            if self.reason == Some(Reason::Stopped) {
                server.cut.add(1);
            }
            match close.cause {
                Cause::Server if unanswered => server.sessions_failed_early.add(1),
                Cause::ServerTimeout if unanswered && self.bytes.from_client.get() > 0 => {
                    server.sessions_failed_early.add(1);
                }
                _ if self.bytes.late.get() => server.sessions_late.add(1),
                _ => {}
            }
        }
        if self.shard.snapshot.log_sessions
            && self.shard.log.push(self.record(close, duration, names)).is_err()
        {
            counters.log_dropped.add(1);
        }
        self.leave_server();
        clients::leave(&self.shard, self.frontend, self.client_place);
        self.shard.ended(self.frontend);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
