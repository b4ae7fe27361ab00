//! `kind = "postgres"`: logs in and queries role, lag and timeline.
//!
//! Lag in bytes is WAL that was received and not yet replayed. Lag in time is 0 while a running
//! receiver has everything replayed, since an idle primary causes no lag; otherwise it is the age
//! of the last replayed transaction, or the time since a check last saw the replica up to date,
//! whichever is less: WAL that has just arrived after an hour of silence is not an hour of lag. A
//! replica whose replay is paused lags from the first byte that it does not replay. A superuser can
//! log in when all other slots are in use, so its check also queries whether others could. Only
//! members of `pg_monitor` see the timeline that a replica receives; without that it stays unknown.

use std::time::{Duration, Instant};

use ringlane_health::{Lag, Role, Seen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::destination::{Destination, OwnedTask};
use super::kept::{self, Kept};
use super::{Connection, LEAVE_MAX, reveal, tls};
use crate::config::{Login, Tls};

/// `SSLRequest`: its length and its code (PostgreSQL documentation, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

/// Role; bytes to replay; seconds since the last replayed transaction; timeline; whether replay is
/// paused; whether all slots but the reserved ones are taken. Simple protocol, text.
const QUESTION: &str = "\
    SELECT replica, \
    CASE WHEN receiving THEN greatest(pg_wal_lsn_diff(received, replayed), 0)::bigint END AS bytes, \
    CASE WHEN receiving AND received <= replayed THEN 0 \
         ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END AS seconds, \
    CASE WHEN replica THEN (SELECT received_tli FROM pg_stat_wal_receiver) \
         ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int \
    END AS timeline, \
    CASE WHEN replica THEN pg_is_wal_replay_paused() END AS paused, \
    CASE WHEN current_setting('is_superuser') = 'on' THEN \
         (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') \
         > current_setting('max_connections')::int \
         - current_setting('superuser_reserved_connections')::int \
         - coalesce(current_setting('reserved_connections', true), '0')::int END AS full \
    FROM (SELECT pg_is_in_recovery() AS replica, \
                 pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver) AS receiving, \
                 pg_last_wal_receive_lsn() AS received, pg_last_wal_replay_lsn() AS replayed) AS r";

/// What is kept from one check to the next.
pub(super) struct Probe<'a> {
    kept: Kept<'a, Session>,
    /// When a replica had last replayed all that it had received.
    up_to_date: Option<Instant>,
    /// The timeline that a replica received last, while it receives nothing.
    timeline: Option<u32>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(login: &'a Login) -> Self {
        Self { kept: Kept::new(login), up_to_date: None, timeline: None }
    }

    pub(super) async fn check(&mut self, destination: &Destination) -> Result<Seen, String> {
        let row = self.kept.check(destination).await?;
        self.read(&row)
    }

    fn read(&mut self, row: &SimpleQueryRow) -> Result<Seen, String> {
        if row.get("full") == Some("t") {
            return Err("all connection slots except those for superusers are in use".to_owned());
        }
        let timeline = row.get("timeline").and_then(|text| text.parse().ok());
        if row.get("replica") != Some("t") {
            self.timeline = None;
            return Ok(Seen { role: Some(Role::Primary), timeline, ..Seen::default() });
        }
        self.timeline = timeline.or(self.timeline);
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
        let paused = row.get("paused") == Some("t");
        Ok(Seen {
            role: Some(Role::Replica),
            lag: Some(lag),
            timeline: self.timeline,
            detail: paused.then(|| "replay is paused".to_owned()),
            ..Seen::default()
        })
    }
}

/// A session with a server.
struct Session {
    client: Client,
    /// Drives the connection of `client`; aborted with the session, even if an answer is
    /// outstanding.
    carrier: OwnedTask,
}

impl kept::Session for Session {
    type Answer = SimpleQueryRow;

    async fn log_in(login: &Login, destination: &Destination) -> Result<Self, String> {
        let mut config = tokio_postgres::Config::new();
        let user = login.user.as_deref().unwrap_or("postgres");
        config.user(user).dbname(login.database.as_deref().unwrap_or("postgres"));
        config.application_name("ringlane-check");
        if let Some(password) = &login.password {
            config.password(reveal(password, destination).await?);
        }
        let mut stream = destination.connect().await?;
        if let Some(tls) = &login.tls {
            stream = ask_for_tls(stream, tls, destination).await?;
        }
        let (client, connection) =
            config.connect_raw(stream, NoTls).await.map_err(|error| phrase(&error, destination))?;
        // What breaks it is seen by the next question.
        let carrier = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, carrier: OwnedTask(carrier) })
    }

    async fn ask(&mut self, destination: &Destination) -> Result<Self::Answer, String> {
        let answer = self
            .client
            .simple_query(QUESTION)
            .await
            .map_err(|error| phrase(&error, destination))?;
        let row = answer.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.ok_or_else(|| "the role query returned no row".to_owned())
    }

    /// Ends it in order, beside the checks: the server's log is to have no broken connection.
    fn leave(self) {
        let Self { client, mut carrier } = self;
        drop(client);
        tokio::spawn(async move {
            let _ = timeout(LEAVE_MAX, &mut carrier.0).await;
        });
    }
}

/// Requests TLS from the server, and wraps the connection in it if the server supports it.
async fn ask_for_tls(
    mut stream: Box<dyn Connection>,
    tls: &Tls,
    destination: &Destination,
) -> Result<Box<dyn Connection>, String> {
    let broken = |error| format!("{destination}: {}", destination.text(&error));
    stream.write_all(&SSL_REQUEST).await.map_err(broken)?;
    // Exactly one byte: anything else that arrived unencrypted would not be the server's.
    match stream.read_u8().await.map_err(broken)? {
        b'S' => tls::secure(stream, tls, destination, &mut None).await,
        b'N' if tls.required => {
            Err(format!("{destination} does not support TLS, which the check requires"))
        }
        b'N' => Ok(stream),
        _ => Err(format!("{destination} did not answer like PostgreSQL")),
    }
}

/// The server's message, or else the error of the connection.
fn phrase(error: &tokio_postgres::Error, destination: &Destination) -> String {
    destination.note(error);
    match error.as_db_error() {
        Some(server) => format!("{}: {}", server.severity(), server.message()),
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
