//! `kind = "postgres"`: log in and ask whether it takes writes, and how far it is behind.
//!
//! The connection is kept from check to check: a login a second would cost a database more than the
//! question. Lag in bytes is what was received and not yet replayed. Lag in time is 0 while all that
//! a running receiver got is replayed, since an idle primary is no lag; otherwise the age of the last
//! replayed transaction, or the time since a check last saw it up to date, whichever is less: what has
//! come a moment ago, after an hour of silence, is not an hour behind.

use ringlane_core::health::{Lag, Role, Seen};
use ringlane_core::snapshot::Address;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{Connection, connect, plain, reveal, tls};
use crate::config::{Login, Tls};

/// `SSLRequest`: its length and its code (PostgreSQL documentation, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

/// Role; bytes to replay; seconds since the last replayed transaction. Simple protocol, text.
const QUESTION: &str = "\
    SELECT pg_is_in_recovery() AS replica, \
    CASE WHEN receiving THEN greatest(pg_wal_lsn_diff(received, replayed), 0)::bigint END AS bytes, \
    CASE WHEN receiving AND received <= replayed THEN 0 \
         ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END AS seconds \
    FROM (SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver) AS receiving, \
                 pg_last_wal_receive_lsn() AS received, pg_last_wal_replay_lsn() AS replayed) AS r";

/// What is kept from one check to the next.
pub(super) struct Probe<'a> {
    login: &'a Login,
    client: Option<Client>,
    /// When a replica had last replayed all that it had received.
    up_to_date: Option<Instant>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(login: &'a Login) -> Self {
        Self { login, client: None, up_to_date: None }
    }

    pub(super) async fn check(&mut self, address: &Address) -> Result<Seen, String> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => log_in(self.login, address).await?,
        };
        let answer = client.simple_query(QUESTION).await.map_err(|error| phrase(&error))?;
        self.client = Some(client);
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let Some(row) = row else {
            return Err("answers the question for its role with nothing".into());
        };
        if row.get("replica") != Some("t") {
            return Ok(Seen { role: Some(Role::Primary), ..Seen::default() });
        }
        let seconds = row.get("seconds").and_then(|text| text.parse::<f64>().ok());
        let age = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        if age == Some(Duration::ZERO) {
            self.up_to_date = Some(Instant::now());
        }
        let since = self.up_to_date.map(|at| at.elapsed());
        let lag = Lag {
            time: [age, since].into_iter().flatten().min(),
            bytes: row.get("bytes").and_then(|text| text.parse().ok()),
        };
        Ok(Seen { role: Some(Role::Replica), lag: Some(lag), ..Seen::default() })
    }
}

async fn log_in(login: &Login, address: &Address) -> Result<Client, String> {
    let mut config = tokio_postgres::Config::new();
    let user = login.user.as_deref().unwrap_or("postgres");
    config.user(user).dbname(login.database.as_deref().unwrap_or("postgres"));
    config.application_name("ringlane-check");
    if let Some(password) = &login.password {
        config.password(reveal(password)?);
    }
    let mut stream = connect(address).await?;
    if let Some(tls) = &login.tls {
        stream = ask_for_tls(stream, tls, address).await?;
    }
    let (client, connection) =
        config.connect_raw(stream, NoTls).await.map_err(|error| phrase(&error))?;
    // Ends with its client; what breaks it is seen by the next question.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// Asks whether the server has TLS, and puts it over the connection if it has.
async fn ask_for_tls(
    mut stream: Box<dyn Connection>,
    tls: &Tls,
    address: &Address,
) -> Result<Box<dyn Connection>, String> {
    let broken = |error| format!("{address}: {}", plain(&error));
    stream.write_all(&SSL_REQUEST).await.map_err(broken)?;
    // Not a byte more: what came behind it in the clear would not be the server's.
    match stream.read_u8().await.map_err(broken)? {
        b'S' => tls::secure(stream, tls, address, &mut None).await,
        b'N' if tls.required => Err(format!("{address} has no TLS, which the check requires")),
        b'N' => Ok(stream),
        _ => Err(format!("{address} does not answer as PostgreSQL does")),
    }
}

/// What the server said, or else what went wrong on the way.
fn phrase(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{}: {}", said.severity(), said.message()),
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            text
        }
    }
}
