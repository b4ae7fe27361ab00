//! `kind = "redis"`: logs in, sends `PING`, and queries role, link and offsets (`INFO`).
//!
//! A server that answers but does not serve clients fails the check: one that loads its data set,
//! receives a full copy from its primary, whose cluster is down, or that answers `PING` with such
//! an error. The user may lack permission for `PING` and `CLUSTER INFO`; then `INFO` alone decides.
//! Lag in bytes is what was read from the primary and not yet applied. Lag in time is 0 while the
//! link is up and all that was read is applied, unless the primary has been silent for unusually
//! long; while the link is down, it is the time since it went down.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult};
use ringlane_health::{Lag, Role, Seen};

use super::destination::{Destination, OwnedTask};
use super::kept;
use super::{reveal, tls};
use crate::config::Login;

/// Seconds of silence after which a link that counts as up may be cut: an idle primary pings its
/// replicas every 10 s (`repl-ping-replica-period`), with a clock of whole seconds.
const SILENT: u64 = 12;

/// Error codes with which a server refuses all clients: it loads its data set, it may not serve
/// stale data while its primary is gone, or a script blocks it.
const SERVES_NO_CLIENT: [&str; 3] = ["LOADING", "MASTERDOWN", "BUSY"];

/// A session with a server.
pub(super) struct Session {
    connection: MultiplexedConnection,
    /// What carries its bytes.
    _carrier: OwnedTask,
}

impl kept::Session for Session {
    type Answer = Seen;

    async fn log_in(login: &Login, destination: &Destination) -> Result<Self, String> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(reveal(password, destination).await?);
        }
        let mut stream = destination.connect().await?;
        if let Some(over) = &login.tls {
            stream = tls::secure(stream, over, destination, &mut None).await?;
        }
        // The check has its own timeout.
        let config = AsyncConnectionConfig::default().set_response_timeout(None);
        let connected = MultiplexedConnection::new_with_config(&settings, stream, config).await;
        let (connection, driver) = connected.map_err(|error| {
            destination.note(&error);
            format!("cannot log in to {destination}: {error}")
        })?;
        // What breaks it is seen by the next question.
        Ok(Self { connection, _carrier: OwnedTask(tokio::spawn(driver)) })
    }

    async fn ask(&mut self, destination: &Destination) -> Result<Self::Answer, String> {
        let mut questions = redis::pipe();
        questions.ignore_errors().cmd("PING");
        for section in ["persistence", "replication", "cluster"] {
            questions.cmd("INFO").arg(section);
        }
        let text = |error: RedisError| {
            destination.note(&error);
            error.to_string()
        };
        let answers: Vec<RedisResult<String>> =
            questions.query_async(&mut self.connection).await.map_err(text)?;
        let mut info = String::new();
        for (nth, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(text) => info += &text,
                // Forbidden to this user, or a warning that is about writes alone.
                Err(error) if nth == 0 && !serves_no_client(&error) => {}
                Err(error) => return Err(text(error)),
            }
        }
        if field(&info, "cluster_enabled") == Some("1") {
            let asked: RedisResult<String> =
                redis::cmd("CLUSTER").arg("INFO").query_async(&mut self.connection).await;
            match asked {
                Ok(text) => info += &text,
                Err(error) if error.code() == Some("NOPERM") => {}
                Err(error) => return Err(text(error)),
            }
        }
        read(&info)
    }

    /// Its connection is just closed: Redis logs nothing of that.
    fn leave(self) {}
}

fn serves_no_client(error: &RedisError) -> bool {
    error.is_io_error() || error.code().is_some_and(|code| SERVES_NO_CLIENT.contains(&code))
}

/// A field of `INFO` or `CLUSTER INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

/// Judges the sections of `INFO`, followed by `CLUSTER INFO`.
fn read(info: &str) -> Result<Seen, String> {
    let field = |name: &str| field(info, name);
    if field("loading") == Some("1") {
        let done = field("loading_loaded_perc").map(|percent| format!(" ({percent} % done)"));
        return Err(format!("loading its data set{}", done.unwrap_or_default()));
    }
    if field("master_sync_in_progress") == Some("1") {
        return Err("full synchronization with its primary in progress".to_owned());
    }
    if field("cluster_state").is_some_and(|state| state != "ok") {
        return Err("cluster is down (cluster_state:fail)".to_owned());
    }
    let number = |name| field(name).and_then(|text| text.parse::<u64>().ok());
    match field("role") {
        Some("master") => Ok(Seen { role: Some(Role::Primary), ..Seen::default() }),
        Some("slave") => {
            // While the link is down both offsets stand still and don't show what was missed.
            let offsets = number("slave_read_repl_offset").zip(number("slave_repl_offset"));
            let bytes = offsets
                .filter(|_| field("master_link_status") == Some("up"))
                .map(|(read, applied)| read.saturating_sub(applied));
            let silence = number("master_last_io_seconds_ago");
            let seconds = match field("master_link_status") {
                Some("up") if bytes == Some(0) && silence.is_none_or(|s| s <= SILENT) => Some(0),
                Some("up") => silence,
                _ => number("master_link_down_since_seconds"),
            };
            let lag = Lag { time: seconds.map(Duration::from_secs), bytes };
            Ok(Seen { role: Some(Role::Replica), lag: Some(lag), ..Seen::default() })
        }
        role => {
            let role = role.unwrap_or("none");
            Err(format!("unexpected role: {role}, neither master nor slave"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_role_and_lag() {
        let seen = |info| read(info).unwrap();
        assert_eq!(seen("# Replication\r\nrole:master\r\n").role, Some(Role::Primary));
        let up = "role:slave\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:7\r\n\
                  slave_read_repl_offset:10\r\nslave_repl_offset:10\r\n";
        let lag = Some(Lag { time: Some(Duration::ZERO), bytes: Some(0) });
        assert_eq!((seen(up).role, seen(up).lag), (Some(Role::Replica), lag));
        let cut = up.replace("ago:7", "ago:13");
        let lag = Some(Lag { time: Some(Duration::from_secs(13)), bytes: Some(0) });
        assert_eq!(seen(&cut).lag, lag, "its primary may be out of reach");
        let down = "role:slave\r\nmaster_link_status:down\r\nmaster_link_down_since_seconds:42\r\n\
                    slave_read_repl_offset:10\r\nslave_repl_offset:10\r\n";
        let lag = Some(Lag { time: Some(Duration::from_secs(42)), bytes: None });
        assert_eq!(seen(down).lag, lag);
        assert!(read("").is_err());
    }

    #[test]
    fn what_answers_without_serving_is_no_good() {
        let good = "role:slave\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0\r\n\
                    loading:0\r\nasync_loading:0\r\ncluster_enabled:1\r\ncluster_state:ok\r\n";
        assert!(read(good).is_ok());
        for (from, to, why) in [
            (
                "loading:0",
                "loading:1\r\nloading_loaded_perc:34.20",
                "loading its data set (34.20 % done)",
            ),
            ("in_progress:0", "in_progress:1", "full synchronization"),
            ("state:ok", "state:fail", "cluster_state:fail"),
        ] {
            let found = read(&good.replacen(from, to, 1)).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
