//! Hearing what a client says first, choosing its route by it, and passing it on.
//!
//! The parsers are in `greeting`; here is who reads and answers. Invariants: every byte that was
//! heard reaches the server, after its PROXY header and before all others; a client is not told that
//! it may go on with TLS unless a server will; what is heard is bounded in time
//! (`timeout.greeting`) and size (`GREETING_MAX` and one buffer).

use std::time::Instant;

use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::machine::reactor::{Elapsed, Receiver, Stream};
use ringlane_core::machine::sys::Buffer;
use ringlane_core::settings::{Protocol, Said, Unrouted};

use crate::greeting::client_hello::{self, ClientHello};
use crate::greeting::postgres::{self, First, Key};
use crate::greeting::{GREETING_MAX, Progress, Tracker};
use crate::session::{Account, reach};
use crate::waiting::{Left, Waiting};

/// A fatal alert, `unrecognized_name` (RFC 6066, section 3), in a record of its own.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// How a greeting that is none, or that no route fits, ends its session.
const REFUSED: Close = Close { cause: Cause::Refused, phase: Phase::Request };

/// How a client leaves before its greeting is answered or passed on.
pub(crate) const LEFT: Close = Close { cause: Cause::Client, phase: Phase::Request };

/// What became of a greeting.
pub(crate) enum Heard {
    /// A session begins.
    Session(Greeted),
    /// A query of another session is to be cancelled.
    Cancel(Key),
}

/// A greeting that was heard to its end.
#[derive(Default)]
pub(crate) struct Greeted {
    /// What the server must be told first.
    pub(crate) bytes: Vec<u8>,
    /// Whether the server is to be asked for TLS before, as PostgreSQL is.
    pub(crate) asks_for_tls: bool,
    /// The server, if it had to be asked already.
    pub(crate) server: Option<Stream>,
    /// Follows the transactions of what comes after the greeting.
    pub(crate) tracker: Option<Tracker>,
}

/// Who is listened to.
struct Ear<'a, 'b> {
    account: &'a mut Account,
    receiver: &'a mut Receiver<'b>,
    /// All that was said and not answered.
    bytes: Vec<u8>,
    /// Whether it has sent anything.
    has_sent: bool,
    deadline: Instant,
}

/// Hears the greeting of a client, of which `said` came with its PROXY header, and sets the route of
/// its session.
pub(crate) async fn hear(
    account: &mut Account,
    receiver: &mut Receiver<'_>,
    said: Option<Buffer>,
) -> Result<Heard, Close> {
    let frontend = account.frontend();
    let (protocol, timeout) = (frontend.protocol, frontend.timeout.greeting);
    let deadline = account.shard.reactor.now() + timeout;
    let bytes = said.map(|said| said.bytes().to_vec()).unwrap_or_default();
    let has_sent = !bytes.is_empty();
    let mut ear = Ear { account, receiver, bytes, has_sent, deadline };
    match protocol {
        Protocol::Any | Protocol::Mysql | Protocol::Redis => {
            Ok(Heard::Session(Greeted { bytes: ear.bytes, ..Greeted::default() }))
        }
        Protocol::Tls => ear.tls().await.map(Heard::Session),
        Protocol::Postgres => ear.postgres().await,
    }
}

impl Ear<'_, '_> {
    fn client(&self) -> &Stream {
        self.receiver.stream()
    }

    /// Waits for more to be said.
    async fn more(&mut self) -> Result<(), Close> {
        let ended = |cause| Close { cause, phase: Phase::Request };
        if self.bytes.len() > GREETING_MAX {
            self.account.because(Reason::Greeting);
            return Err(REFUSED);
        }
        let reactor = &self.account.shard.reactor;
        let received = reactor.timeout_at(self.deadline, self.receiver.next()).await;
        match received {
            Ok(Ok(Some(buffer))) => {
                self.bytes.extend_from_slice(buffer.bytes());
                self.has_sent = true;
                Ok(())
            }
            Ok(_) => {
                if !self.has_sent {
                    self.account.because(Reason::Empty);
                }
                Err(LEFT)
            }
            Err(Elapsed) => Err(ended(Cause::ClientTimeout)),
        }
    }

    /// A session that begins with TLS.
    async fn tls(&mut self) -> Result<Greeted, Close> {
        let hello = loop {
            match client_hello::read(&self.bytes) {
                Progress::Done(hello) => break hello,
                Progress::More => self.more().await?,
                Progress::Not => return Err(self.refuse_greeting()),
            }
        };
        let ClientHello { server_name, protocols } = hello;
        let frontend = self.account.frontend();
        let policy = if server_name.is_some() { frontend.unmatched } else { frontend.no_sni };
        let said = Said { sni: server_name, alpn: protocols, ..Said::default() };
        if !self.account.follow_route(said) && policy == Unrouted::Reject {
            return Err(self.refuse(Reason::Unrouted, UNRECOGNIZED_NAME));
        }
        Ok(Greeted { bytes: std::mem::take(&mut self.bytes), ..Greeted::default() })
    }

    async fn postgres(&mut self) -> Result<Heard, Close> {
        let goes_by_name =
            self.account.frontend().routes.iter().any(|r| !r.sni.is_empty() || !r.alpn.is_empty());
        let mut server = None;
        loop {
            let (first, len) = match postgres::first(&self.bytes) {
                Progress::Done(first) => first,
                Progress::More => {
                    self.more().await?;
                    continue;
                }
                Progress::Not => return Err(self.refuse_greeting()),
            };
            match first {
                First::Gss => self.answer(len, postgres::NOT_OFFERED)?,
                First::Ssl if server.is_some() => return Err(self.refuse_greeting()),
                First::Ssl if goes_by_name => {
                    self.answer(len, postgres::OFFERED)?;
                    let greeted = self.tls().await?;
                    return Ok(Heard::Session(Greeted { asks_for_tls: true, ..greeted }));
                }
                First::Ssl => {
                    // The client can send nothing more before it is answered.
                    let waiting = Waiting::new(self.receiver, false);
                    let reached = match reach(self.account, &waiting).await {
                        Ok(reached) => reached,
                        Err(close) => {
                            tell_postgres(self.account, self.client(), close);
                            return Err(close);
                        }
                    };
                    let offers = ask_for_tls(self.account, &reached, &waiting).await?;
                    if offers {
                        self.answer(len, postgres::OFFERED)?;
                        let server = Some(reached);
                        return Ok(Heard::Session(Greeted { server, ..Greeted::default() }));
                    }
                    self.answer(len, postgres::NOT_OFFERED)?;
                    server = Some(reached);
                }
                First::Tls => return self.tls().await.map(Heard::Session),
                First::Cancel(key) => return Ok(Heard::Cancel(key)),
                First::Startup { user, database } => {
                    return self.startup(user, database, server).map(Heard::Session);
                }
            }
        }
    }

    /// A session of PostgreSQL in clear text.
    fn startup(
        &mut self,
        user: String,
        database: String,
        server: Option<Stream>,
    ) -> Result<Greeted, Close> {
        let before = self.account.route();
        let text = format!("no route for user \"{user}\" and database \"{database}\"");
        let said = Said { user: Some(user), database: Some(database), ..Said::default() };
        if !self.account.follow_route(said) && self.account.frontend().unmatched == Unrouted::Reject
        {
            // invalid_authorization_specification, as for a line missing in pg_hba.conf.
            return Err(self.refuse(Reason::Unrouted, &postgres::error("28000", &text)));
        }
        let server = server.filter(|_| self.account.route() == before);
        if server.is_none() {
            self.account.leave_server();
        }
        let bytes = std::mem::take(&mut self.bytes);
        let tracker = Tracker::Postgres(postgres::Tracker::default());
        Ok(Greeted { bytes, server, tracker: Some(tracker), ..Greeted::default() })
    }

    /// Answers a request of so many bytes, behind which nothing may have come: it would not be
    /// protected by what the answer promises.
    fn answer(&mut self, len: usize, answer: &[u8]) -> Result<(), Close> {
        if self.bytes.len() != len {
            return Err(self.refuse_greeting());
        }
        self.bytes.clear();
        match self.client().send_few(answer) {
            Ok(sent) if sent == answer.len() => Ok(()),
            _ => Err(LEFT),
        }
    }

    /// Gives up on bytes that are no greeting.
    fn refuse_greeting(&mut self) -> Close {
        self.refuse(Reason::Greeting, &[])
    }

    /// Says why, if there is a way to say it, and gives up.
    fn refuse(&mut self, reason: Reason, why: &[u8]) -> Close {
        self.account.because(reason);
        if why.is_empty() {
            self.client().reset_on_close();
        } else {
            // It can't be told more than once.
            let _ = self.client().send_few(why);
        }
        REFUSED
    }
}

/// Tells a client of PostgreSQL, which waits for an answer in clear text, why there is no server for
/// its session.
pub(crate) fn tell_postgres(account: &Account, client: &Stream, close: Close) {
    let Some(why) = postgres::unavailable(close, account.reason, account.route().1) else { return };
    // cannot_connect_now, as from a server that starts or stops: drivers try again, or elsewhere.
    let _ = client.send_few(&postgres::error("57P03", why));
}

/// Passes a greeting on to the server that was chosen.
pub(crate) async fn pass_on(
    account: &mut Account,
    server: &Stream,
    greeted: &Greeted,
    waiting: &Waiting<'_, '_>,
) -> Result<(), Close> {
    if greeted.asks_for_tls && !ask_for_tls(account, server, waiting).await? {
        // The client was promised what this server does not have.
        account.because(Reason::NoTls);
        return Err(Close::connect(Cause::Server));
    }
    let reactor = &account.shard.reactor;
    let deadline = reactor.now() + account.frontend().timeout.server;
    let sending = waiting.timeout_at(deadline, server.send_now(&greeted.bytes));
    match waiting.unless_gone(sending).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(_))) => Err(Close::data(Cause::Server)),
        Ok(Err(Elapsed)) => Err(Close::data(Cause::ServerTimeout)),
        Err(Left) => Err(LEFT),
    }
}

/// Whether a PostgreSQL server offers TLS.
async fn ask_for_tls(
    account: &Account,
    server: &Stream,
    waiting: &Waiting<'_, '_>,
) -> Result<bool, Close> {
    let broken = Close::connect(Cause::Server);
    let request = postgres::SSL_REQUEST;
    if server.send_few(&request).ok() != Some(request.len()) {
        return Err(broken);
    }
    let reactor = &account.shard.reactor;
    let deadline = reactor.now() + account.frontend().timeout.connect;
    let mut receiver = server.receiver();
    let answer = waiting.unless_gone(waiting.timeout_at(deadline, receiver.next()));
    let answer = answer
        .await
        .map_err(|Left| LEFT)?
        .map_err(|Elapsed| Close::connect(Cause::ServerTimeout))?;
    let Ok(Some(answer)) = answer else { return Err(broken) };
    // Whoever reads next must find all that comes.
    let nothing_more = receiver.remainder().await.is_none();
    match answer.bytes() {
        b"S" if nothing_more => Ok(true),
        b"N" if nothing_more => Ok(false),
        _ => Err(broken),
    }
}
