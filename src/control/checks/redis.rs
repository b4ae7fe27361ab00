//! `kind = "redis"`: log in and ask for role, link and offsets (`INFO replication`).
//!
//! The connection is kept from check to check. Lag in bytes is what was read from the primary and not
//! yet applied. Lag in time is 0 while the link is up and all that was read is applied, unless the
//! primary has been silent for longer than it ever is; while the link is down, the time since it went
//! down.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use ringlane_core::health::{Lag, Role, Seen};
use ringlane_core::snapshot::Address;

use super::{connect, reveal, tls};
use crate::config::Login;

/// Seconds of silence after which a link that counts as up may be cut: a primary that has nothing to
/// say pings its replicas every 10 (`repl-ping-replica-period`), by a clock of whole seconds.
const SILENT: u64 = 12;

/// What is kept from one check to the next.
pub(super) struct Probe<'a> {
    login: &'a Login,
    connection: Option<MultiplexedConnection>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(login: &'a Login) -> Self {
        Self { login, connection: None }
    }

    pub(super) async fn check(&mut self, address: &Address) -> Result<Seen, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => log_in(self.login, address).await?,
        };
        let asked = redis::cmd("INFO").arg("replication").query_async(&mut connection).await;
        let info: String = asked.map_err(|error| error.to_string())?;
        self.connection = Some(connection);
        read(&info)
    }
}

async fn log_in(login: &Login, address: &Address) -> Result<MultiplexedConnection, String> {
    let mut settings = RedisConnectionInfo::default();
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(reveal(password)?);
    }
    let mut stream = connect(address).await?;
    if let Some(over) = &login.tls {
        stream = tls::secure(stream, over, address, &mut None).await?;
    }
    let config = AsyncConnectionConfig::default();
    let connected = MultiplexedConnection::new_with_config(&settings, stream, config).await;
    let (connection, driver) =
        connected.map_err(|error| format!("cannot log in to {address}: {error}"))?;
    // Ends with its connection; what breaks it is seen by the next question.
    tokio::spawn(driver);
    Ok(connection)
}

/// What the section of `INFO` says.
fn read(info: &str) -> Result<Seen, String> {
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let number = |name| field(name).and_then(|text| text.parse::<u64>().ok());
    match field("role") {
        Some("master") => Ok(Seen { role: Some(Role::Primary), ..Seen::default() }),
        Some("slave") => {
            // With the link down both offsets stand still, and say nothing of what was missed.
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
        role => Err(format!("says role {role:?}, which is neither master nor slave")),
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
}
