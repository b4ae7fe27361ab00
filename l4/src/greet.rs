//! Reading a client's first message, choosing its route by it, and passing it on.
//!
//! The parsers are in `first_message`; here is what reads and answers. [`GreetingReader`] goes from
//! step to step; where the next answer depends on a server (PostgreSQL's question for TLS), the
//! session asks one. Invariants: every byte that was read reaches the server, after its PROXY
//! header and before all others; a client is not told to go on with TLS unless a server will; what
//! is read is bounded in time (`timeout.greeting`) and size (`GREETING_MAX` and one buffer).

use std::time::Instant;

use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::ids::BackendId;
use ringlane_core::machine::reactor::{Elapsed, Receiver, Stream};
use ringlane_core::machine::sys::Buffer;
use ringlane_core::parsed::Parsed;
use ringlane_core::settings::{ClientHints, Frontend, Protocol, RoleWanted, Unrouted};
use ringlane_shard::{LEFT, Left, REFUSED, Session, Waiting};

use crate::first_message::GREETING_MAX;
use crate::first_message::client_hello::{self, ClientHello};
use crate::first_message::postgres::{self, First, Key};

/// A fatal alert, `unrecognized_name` (RFC 6066, section 3), in a record of its own.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// What comes next for a session.
pub(crate) enum Step {
    /// Its first message has been read.
    Done(Greeting),
    /// It is no session: a query of another one is to be cancelled.
    Cancel(Key),
    /// A server is to be asked whether it offers TLS; then comes [`GreetingReader::answer`].
    AskServer,
}

/// A first message that was read to its end.
pub(crate) struct Greeting {
    /// What the server must be sent first.
    pub(crate) bytes: Vec<u8>,
    /// Whether the server is to be asked for TLS before, as PostgreSQL is.
    pub(crate) asks_for_tls: bool,
    /// Whether a session of PostgreSQL in clear text follows.
    pub(crate) is_clear_postgres: bool,
    /// What it told.
    pub(crate) hints: ClientHints,
    /// Where the session goes.
    pub(crate) backend: BackendId,
    pub(crate) role: RoleWanted,
}

/// Why there will be no session.
pub(crate) struct Refusal {
    close: Close,
    reason: Option<Reason>,
    /// What the first message told, if it was read.
    hints: Option<Box<ClientHints>>,
}

impl Refusal {
    fn new(close: Close, reason: Option<Reason>) -> Self {
        Self { close, reason, hints: None }
    }

    /// Notes the reason, and what is known of the client; how the session ends.
    pub(crate) fn note(self, session: &mut Session) -> Close {
        if let Some(hints) = self.hints {
            let Frontend { backend, role, .. } = *session.frontend();
            session.set_route(backend, role, *hints);
        }
        if let Some(reason) = self.reason {
            session.trail.because(reason);
        }
        self.close
    }
}

/// Reads the first message of one client.
pub(crate) struct GreetingReader<'a> {
    receiver: Receiver<'a>,
    /// All that has come and was not answered.
    bytes: Vec<u8>,
    /// Length of the request that waits for an answer.
    request: usize,
    /// Whether the client has sent anything.
    has_sent: bool,
    deadline: Instant,
}

impl<'a> GreetingReader<'a> {
    /// For a client of which `read` came with its PROXY header.
    pub(crate) fn new(session: &Session, receiver: Receiver<'a>, read: Option<Buffer>) -> Self {
        let deadline = session.generation.now() + session.frontend().timeout.greeting;
        let bytes = read.map(|read| read.bytes().to_vec()).unwrap_or_default();
        Self { has_sent: !bytes.is_empty(), receiver, bytes, request: 0, deadline }
    }

    pub(crate) fn receiver(&self) -> &Receiver<'a> {
        &self.receiver
    }

    pub(crate) fn into_receiver(self) -> Receiver<'a> {
        self.receiver
    }

    /// Reads until the next step is known.
    pub(crate) async fn next(&mut self, frontend: &Frontend) -> Result<Step, Refusal> {
        match frontend.protocol {
            Protocol::Postgres => self.postgres(frontend).await,
            // Only protocols that begin with the client come here.
            _ => self.tls(frontend).await.map(Step::Done),
        }
    }

    /// Waits for more bytes.
    async fn more(&mut self) -> Result<(), Refusal> {
        if self.bytes.len() > GREETING_MAX {
            return Err(Refusal::new(REFUSED, Some(Reason::Greeting)));
        }
        let reactor = self.receiver.stream().reactor();
        match reactor.timeout_at(self.deadline, self.receiver.next()).await {
            Ok(Ok(Some(buffer))) => {
                self.bytes.extend_from_slice(buffer.bytes());
                self.has_sent = true;
                Ok(())
            }
            Ok(_) => {
                let reason = (!self.has_sent).then_some(Reason::Empty);
                Err(Refusal::new(LEFT, reason))
            }
            Err(Elapsed) => {
                let close = Close { cause: Cause::ClientTimeout, phase: Phase::Request };
                Err(Refusal::new(close, (!self.has_sent).then_some(Reason::Empty)))
            }
        }
    }

    /// A session that begins with TLS.
    async fn tls(&mut self, frontend: &Frontend) -> Result<Greeting, Refusal> {
        let hello = loop {
            match client_hello::read(&self.bytes) {
                Parsed::Whole(hello) => break hello,
                Parsed::Part => self.more().await?,
                Parsed::Invalid => return Err(self.refuse()),
            }
        };
        let ClientHello { server_name, protocols } = hello;
        let policy = if server_name.is_some() { frontend.unmatched } else { frontend.no_sni };
        let hints = ClientHints { sni: server_name, alpn: protocols, ..ClientHints::default() };
        self.routed(frontend, hints, policy)
            .map_err(|hints| self.unrouted(hints, UNRECOGNIZED_NAME))
    }

    async fn postgres(&mut self, frontend: &Frontend) -> Result<Step, Refusal> {
        let needs_name = frontend.routes.iter().any(|r| !r.sni.is_empty() || !r.alpn.is_empty());
        loop {
            let (first, len) = match postgres::first(&self.bytes) {
                Parsed::Whole(first) => first,
                Parsed::Part => {
                    self.more().await?;
                    continue;
                }
                Parsed::Invalid => return Err(self.refuse()),
            };
            self.request = len;
            match first {
                First::Gss => self.answer(false)?,
                First::Ssl if needs_name => {
                    self.answer(true)?;
                    let greeting = self.tls(frontend).await?;
                    return Ok(Step::Done(Greeting { asks_for_tls: true, ..greeting }));
                }
                First::Ssl => return Ok(Step::AskServer),
                First::Tls => return self.tls(frontend).await.map(Step::Done),
                First::Cancel(key) => return Ok(Step::Cancel(key)),
                First::Startup { user, database } => {
                    return self.startup(frontend, user, database).map(Step::Done);
                }
            }
        }
    }

    /// A session of PostgreSQL in clear text.
    fn startup(
        &mut self,
        frontend: &Frontend,
        user: String,
        database: String,
    ) -> Result<Greeting, Refusal> {
        let text = format!("no route for user \"{user}\" and database \"{database}\"");
        let (user, database) = (Some(user), Some(database));
        let hints = ClientHints { user, database, ..ClientHints::default() };
        // invalid_authorization_specification, as for a line missing in pg_hba.conf.
        let error = postgres::error("28000", &text);
        let greeting = self.routed(frontend, hints, frontend.unmatched);
        let greeting = greeting.map_err(|hints| self.unrouted(hints, &error))?;
        Ok(Greeting { is_clear_postgres: true, ..greeting })
    }

    /// The message that has come and where its route leads; its hints if it is to be refused.
    fn routed(
        &mut self,
        frontend: &Frontend,
        hints: ClientHints,
        unrouted: Unrouted,
    ) -> Result<Greeting, ClientHints> {
        let route = frontend.route_of(&hints);
        let fallback = (unrouted == Unrouted::Backend).then_some((frontend.backend, frontend.role));
        let Some((backend, role)) = route.or(fallback) else { return Err(hints) };
        let bytes = std::mem::take(&mut self.bytes);
        let (asks_for_tls, is_clear_postgres) = (false, false);
        Ok(Greeting { bytes, asks_for_tls, is_clear_postgres, hints, backend, role })
    }

    /// Answers the request for encryption that was read last. Nothing may have come behind it: it
    /// would not be protected by what the answer promises.
    pub(crate) fn answer(&mut self, offered: bool) -> Result<(), Refusal> {
        if self.bytes.len() != self.request {
            return Err(self.refuse());
        }
        self.bytes.clear();
        let answer = if offered { postgres::OFFERED } else { postgres::NOT_OFFERED };
        match self.receiver.stream().send_few(answer) {
            Ok(sent) if sent == answer.len() => Ok(()),
            _ => Err(Refusal::new(LEFT, None)),
        }
    }

    /// Resets a client whose bytes are no first message.
    pub(crate) fn refuse(&self) -> Refusal {
        self.receiver.stream().reset_on_close();
        Refusal::new(REFUSED, Some(Reason::Greeting))
    }

    /// Refuses a client that no route fits, with an error of its protocol.
    fn unrouted(&self, hints: ClientHints, error: &[u8]) -> Refusal {
        // It can't be sent more than once.
        let _ = self.receiver.stream().send_few(error);
        let hints = Some(Box::new(hints));
        Refusal { hints, ..Refusal::new(REFUSED, Some(Reason::Unrouted)) }
    }
}

/// Sends a client of PostgreSQL, which waits for an answer in clear text, the reason why there is
/// no server for its session.
pub(crate) fn explain_to_postgres(session: &Session, client: &Stream, close: Close) {
    let reason = session.trail.reason();
    let Some(why) = postgres::unavailable(close, reason, session.role()) else { return };
    // cannot_connect_now, as from a server that starts or stops: drivers try again, or elsewhere.
    let _ = client.send_few(&postgres::error("57P03", why));
}

/// Passes a first message on to the server that was chosen.
pub(crate) async fn pass_on(
    session: &Session,
    server: &Stream,
    greeting: &Greeting,
    waiting: &Waiting<'_, '_>,
) -> Result<(), Close> {
    if greeting.asks_for_tls && !ask_for_tls(session, server, waiting).await? {
        // The client was promised what this server does not have.
        session.trail.because(Reason::NoTls);
        return Err(Close::connect(Cause::Server));
    }
    let deadline = session.generation.now() + session.frontend().timeout.server;
    let sending = waiting.timeout_at(deadline, server.send_now(&greeting.bytes));
    match waiting.unless_gone(sending).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(_))) => Err(Close::data(Cause::Server)),
        Ok(Err(Elapsed)) => Err(Close::data(Cause::ServerTimeout)),
        Err(Left) => Err(LEFT),
    }
}

/// Whether a PostgreSQL server offers TLS.
pub(crate) async fn ask_for_tls(
    session: &Session,
    server: &Stream,
    waiting: &Waiting<'_, '_>,
) -> Result<bool, Close> {
    let broken = Close::connect(Cause::Server);
    let request = postgres::SSL_REQUEST;
    if server.send_few(&request).ok() != Some(request.len()) {
        return Err(broken);
    }
    let deadline = session.generation.now() + session.frontend().timeout.connect;
    let mut receiver = server.receiver();
    let answer = waiting.unless_gone(waiting.timeout_at(deadline, receiver.next()));
    let answer = answer
        .await
        .map_err(|Left| LEFT)?
        .map_err(|Elapsed| Close::connect(Cause::ServerTimeout))?;
    let Ok(Some(answer)) = answer else { return Err(broken) };
    // The relay that reads next must find all that comes.
    let nothing_more = receiver.remainder().await.is_none();
    match answer.bytes() {
        b"S" if nothing_more => Ok(true),
        b"N" if nothing_more => Ok(false),
        _ => Err(broken),
    }
}
