//! PostgreSQL: a login as a real client does it, then queries in the simple protocol.
//!
//! The messages and the mathematics of SCRAM are those of the crate postgres-protocol; what to say
//! when is here. Without TLS, so a server that wants TLS only refuses the login, in its own words.

use std::fmt;
use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;

use crate::failure::{ServerSaidNo, corrupt};
use crate::load::kept::Exchanged;
use crate::load::lane::Lane;
use crate::load::wire::Wire;

/// The longest message that is believed; the crate would reserve whatever is announced.
const MESSAGE_MOST: i32 = 32 << 20;

/// Who asks for what.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: String,
    pub(crate) query: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, database, query, .. } = self;
        write!(f, "{user}@{database}: {query}")
    }
}

/// An open session, logged in.
pub(in crate::load) struct Talk {
    wire: Wire,
    query: Vec<u8>,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talk").field("wire", &self.wire).finish_non_exhaustive()
    }
}

impl Talk {
    /// Connects and logs in.
    pub(in crate::load) async fn open(lane: &Rc<Lane>, login: &Login) -> io::Result<Self> {
        let mut query = BytesMut::new();
        frontend::query(&login.query, &mut query)?;
        let wire = Wire::new(lane.connect().await?);
        let mut talk = Self { wire, query: query.to_vec() };
        let parameters = [
            ("user", login.user.as_str()),
            ("database", login.database.as_str()),
            ("application_name", "ringlane-loadgen"),
        ];
        talk.say(|to| frontend::startup_message(parameters, to)).await?;
        talk.log_in(login).await?;
        talk.until_ready().await?;
        Ok(talk)
    }

    /// Does what the server asks for until it is satisfied.
    async fn log_in(&mut self, login: &Login) -> io::Result<()> {
        let password = || {
            let words = "the server asks for a password: give PGPASSWORD or --password-file";
            login.password.as_deref().map(str::as_bytes).ok_or_else(|| ServerSaidNo::error(words))
        };
        let mut scram: Option<ScramSha256> = None;
        loop {
            match self.next().await?.0 {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    let password = password()?;
                    self.say(|to| frontend::password_message(password, to)).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(login.user.as_bytes(), password()?, body.salt());
                    self.say(|to| frontend::password_message(hash.as_bytes(), to)).await?;
                }
                Message::AuthenticationSasl(body) => {
                    if !body.mechanisms().any(|name| Ok(name == SCRAM_SHA_256))? {
                        return Err(ServerSaidNo::error("no way to log in that we know"));
                    }
                    let begun = ScramSha256::new(password()?, ChannelBinding::unsupported());
                    let message = begun.message().to_vec();
                    scram = Some(begun);
                    self.say(|to| frontend::sasl_initial_response(SCRAM_SHA_256, &message, to))
                        .await?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    let scram = scram.as_mut().ok_or_else(unexpected)?;
                    scram.update(body.data())?;
                    let message = scram.message().to_vec();
                    self.say(|to| frontend::sasl_response(&message, to)).await?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or_else(unexpected)?.finish(body.data())?;
                }
                Message::ErrorResponse(body) => return Err(ServerSaidNo::error(words_of(&body))),
                Message::NoticeResponse(_) => {}
                _ => return Err(ServerSaidNo::error("no way to log in that we know")),
            }
        }
    }

    /// Waits until the server is ready for a query; returns how many bytes it said.
    async fn until_ready(&mut self) -> io::Result<u64> {
        let mut received = 0;
        let mut refused: Option<String> = None;
        loop {
            let (message, size) = match self.next().await {
                Ok(next) => next,
                // After its last words the server hangs up.
                Err(error) => return Err(refused.map_or(error, ServerSaidNo::error)),
            };
            received += size;
            match message {
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(body) => refused = Some(words_of(&body)),
                Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                    return Err(ServerSaidNo::error("COPY is not a query that has an answer"));
                }
                _ => {}
            }
        }
        refused.map_or(Ok(received), |words| Err(ServerSaidNo::error(words)))
    }

    /// One query.
    pub(in crate::load) async fn exchange(&mut self) -> io::Result<Exchanged> {
        let query = std::mem::take(&mut self.query);
        let sent = query.len() as u64;
        self.query = self.wire.send(query).await?;
        let received = self.until_ready().await?;
        Ok(Exchanged { operations: 1, sent, received })
    }

    /// Says goodbye.
    pub(in crate::load) async fn close(mut self) {
        let mut goodbye = BytesMut::new();
        frontend::terminate(&mut goodbye);
        // The session is over either way.
        let _ = self.wire.send(goodbye.to_vec()).await;
    }

    async fn say(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> io::Result<()> {
        let mut message = BytesMut::new();
        write(&mut message)?;
        self.wire.send(message.to_vec()).await.map(drop)
    }

    /// The next message and its size; an error before the end of the login ends the session.
    async fn next(&mut self) -> io::Result<(Message, u64)> {
        loop {
            let before = self.wire.input.len();
            if let Some(header) = Header::parse(&self.wire.input)?
                && header.len() > MESSAGE_MOST
            {
                return Err(corrupt("this is not an answer of PostgreSQL"));
            }
            if let Some(message) = Message::parse(&mut self.wire.input)? {
                return Ok((message, (before - self.wire.input.len()) as u64));
            }
            self.wire.receive().await?;
        }
    }
}

fn unexpected() -> io::Error {
    corrupt("a step of the login that nobody had asked for")
}

/// The severity, code and message of an error.
fn words_of(body: &ErrorResponseBody) -> String {
    let mut fields = body.fields();
    let mut words = Vec::new();
    while let Ok(Some(field)) = fields.next() {
        if matches!(field.type_(), b'S' | b'C' | b'M') {
            words.push(String::from_utf8_lossy(field.value_bytes()).into_owned());
        }
    }
    words.join(" ")
}
