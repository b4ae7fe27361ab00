//! The life of one connection: accepted, connected to a server, relayed, accounted for.
//!
//! An [`Account`] is opened at accept and settled when it is dropped, whatever ended the session:
//! gauges go back, counters and the access log get their record. Invariant: every session is settled
//! exactly once and has exactly one close code.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringlane_core::clients::Place;
use ringlane_core::close::{Cause, Close, Phase};
use ringlane_core::reactor::{Elapsed, Receiver, Stream};
use ringlane_core::record::SessionRecord;
use ringlane_core::snapshot::{FrontendId, ServerId};
use ringlane_core::sys::{Buffer, Socket};

use crate::clients::{self, REFUSED, Refused};
use crate::connect::connect;
use crate::proxy;
use crate::pump::Broken;
use crate::relay::{End, Relay, Side, Traffic};
use crate::shard::Shard;

/// Bytes that a session has received from either side.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) from_client: Cell<u64>,
    pub(crate) from_server: Cell<u64>,
}

/// What is known of a session, settled on drop.
pub(crate) struct Account {
    pub(crate) shard: Rc<Shard>,
    pub(crate) frontend: FrontendId,
    /// Asked for only if somebody will read it; boxed, as every session has room for it.
    client: Option<Box<SocketAddr>>,
    accepted: Instant,
    accepted_unix_us: u64,
    /// The server that it occupies a place of.
    server: Option<ServerId>,
    /// From accept to the server's answer.
    connect: Option<Duration>,
    pub(crate) retries: u32,
    /// Words on ending sessions that were said before its server was chosen.
    begun: u32,
    /// What it takes of what its client may take.
    client_place: Option<Place>,
    bytes: Bytes,
    close: Option<Close>,
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

/// Connects and relays, to the end.
async fn serve(client: &Stream, account: &mut Account) -> Close {
    // Boxed, since this needs more room than all that follows, and is over soon.
    let (server, receiver, said) = match Box::pin(open(client, account)).await {
        Ok(opened) => opened,
        Err(close) => return close,
    };
    let Some(id) = account.server else { return Close::data(Cause::Internal) };
    let ids = (account.frontend, id);
    let traffic = Traffic::new(&account.shard, ids, account.begun, &account.bytes);
    match Relay::new((receiver, said), &server, &traffic).await {
        Ok(()) => Close::NORMAL,
        Err(End::Broken(Broken(side))) => {
            match side {
                Side::Client => server.reset_on_close(),
                Side::Server => client.reset_on_close(),
            }
            Close::data(side.cause())
        }
        Err(End::Silent(cause)) => Close::data(cause),
        Err(End::Fenced) => {
            // A reset each way: neither side must take what was said for the end.
            client.reset_on_close();
            server.reset_on_close();
            Close::data(Cause::Killed)
        }
    }
}

/// Hears who the client is, and connects to a server; also what the client has said already.
async fn open<'a>(
    client: &'a Stream,
    account: &mut Account,
) -> Result<(Stream, Receiver<'a>, Option<Buffer>), Close> {
    let shard = Rc::clone(&account.shard);
    let frontend = shard.snapshot.frontend(account.frontend);
    let (mut receiver, mut said, mut ends) = (client.receiver(), None, None);
    if let Some(accept) = &frontend.accept_proxy
        && proxy::is_trusted(accept, client.peer_address().map(|address| address.ip()))
    {
        let deadline = shard.reactor.now() + accept.timeout;
        let header = shard.reactor.timeout_at(deadline, proxy::read(&mut receiver)).await;
        let late = Close { cause: Cause::ClientTimeout, phase: Phase::Request };
        let header = header.map_err(|Elapsed| late)??;
        (said, ends) = (header.rest, header.ends);
        if let Some(ends) = ends {
            account.is_for(ends.client);
            account.client_place = clients::enter(&shard, account.frontend, ends.client.ip())
                .map_err(|Refused| {
                    if clients::is_reset(&shard, account.frontend) {
                        client.reset_on_close();
                    }
                    REFUSED
                })?;
        }
    }
    let server = connect(account).await?;
    if let Some(version) = shard.snapshot.backend(frontend.backend).send_proxy {
        let header = proxy::write(version, ends.or_else(|| proxy::ends_of(client)));
        // The connection is new, so there is room for a few bytes.
        if server.send_few(&header).ok() != Some(header.len()) {
            return Err(Close::connect(Cause::Server));
        }
    }
    Ok((server, receiver, said))
}

impl Account {
    fn open(shard: Rc<Shard>, frontend: FrontendId, client: &Stream) -> Self {
        shard.counters().frontend(frontend).sessions.add(1);
        let logged = shard.snapshot.log_sessions;
        let wants_address = logged || shard.chooses_by_client(frontend);
        Self {
            client: wants_address.then(|| client.peer_address()).flatten().map(Box::new),
            accepted: shard.reactor.now(),
            accepted_unix_us: if logged { shard.reactor.unix_micros() } else { 0 },
            shard,
            frontend,
            server: None,
            connect: None,
            retries: 0,
            begun: 0,
            client_place: None,
            bytes: Bytes::default(),
            close: None,
        }
    }

    /// The session has ended, and why.
    fn end(&mut self, close: Close) {
        self.close = Some(close);
    }

    /// The client is somebody else than whom the connection comes from.
    fn is_for(&mut self, client: SocketAddr) {
        if let Some(known) = &mut self.client {
            **known = client;
        }
    }

    /// The client's address, if it was asked for.
    pub(crate) fn client(&self) -> Option<SocketAddr> {
        self.client.as_deref().copied()
    }

    /// The session takes a place at a server; `false` if another one took the last.
    pub(crate) fn try_enter_server(&mut self, id: ServerId) -> bool {
        let entered = self.shard.gauges.server(id).try_enter();
        if entered {
            self.begun = self.shard.endings.said();
            self.server = Some(id);
        }
        entered
    }

    /// Gives the place back, to who waits for it.
    pub(crate) fn leave_server(&mut self) {
        if let Some(id) = self.server.take() {
            self.shard.gauges.server(id).leave();
            let backend = self.shard.snapshot.server(id).backend;
            if let Some(queue) = self.shard.gauges.queue(backend) {
                queue.call_next(backend, self.shard.reactor.mailboxes());
            }
        }
    }

    /// The server has accepted.
    pub(crate) fn connected(&mut self) {
        let connect = self.shard.reactor.now().saturating_duration_since(self.accepted);
        self.connect = Some(connect);
        self.shard.counters().connect_time.record(micros(connect));
    }

    fn record(&self, close: Close, duration: Duration) -> SessionRecord {
        SessionRecord {
            accepted_unix_us: self.accepted_unix_us,
            client: self.client(),
            generation: self.shard.snapshot.generation,
            frontend: self.frontend,
            server: self.server,
            bytes_in: self.bytes.from_client.get(),
            bytes_out: self.bytes.from_server.get(),
            connect_us: self.connect.map_or(0, micros),
            duration_us: micros(duration),
            retries: self.retries,
            close,
            shard: u32::try_from(self.shard.reactor.shard()).unwrap_or(u32::MAX),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Nothing set the code: the shard was stopped and dropped the session where it stood.
        let killed = if self.connect.is_some() { Close::data } else { Close::connect };
        let close = self.close.unwrap_or_else(|| killed(Cause::Killed));
        let duration = self.shard.reactor.now().saturating_duration_since(self.accepted);
        let counters = self.shard.counters();
        counters.session_duration.record(micros(duration));
        let frontend = counters.frontend(self.frontend);
        frontend.sessions_ended.add(1);
        if close != Close::NORMAL {
            frontend.sessions_failed.add(1);
        }
        if let Some(id) = self.server {
            let (server, unanswered) = (counters.server(id), self.bytes.from_server.get() == 0);
            match close.cause {
                Cause::Server => {
                    server.sessions_failed.add(1);
                    server.sessions_failed_early.add(unanswered.into());
                }
                Cause::ServerTimeout if unanswered && self.bytes.from_client.get() > 0 => {
                    server.sessions_failed_early.add(1);
                }
                _ => {}
            }
        }
        if self.shard.snapshot.log_sessions
            && self.shard.log.push(self.record(close, duration)).is_err()
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
