//! `kind = "mysql"`: logs in to MySQL or MariaDB and queries role and lag.
//!
//! A server that is `read_only` is a replica, every other one a primary. A server that answers but
//! does not serve clients fails the check: in `offline_mode`, a Galera node that is not ready or
//! not Synced, or with all connections in use but the one reserved for administrators. Lag in time
//! is the server's own figure while both of its replication threads run; if one has stopped, the
//! lag is unknown, not 0. There is no lag in bytes.

use std::collections::HashMap;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, OptsBuilder, Row, SslOpts};
use ringlane_core::machine::Address;
use ringlane_health::{Lag, Role, Seen};
use tokio::time::timeout;

use super::destination::{Destination, OwnedTask};
use super::kept;
use super::{LEAVE_MAX, read_file, reveal};
use crate::config::{Login, Tls, Trust};

/// Variables to query; the answer lacks those that a server does not have.
const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
    ('read_only', 'offline_mode', 'max_connections', 'wsrep_on')";

/// As above. Not `GLOBAL`, which would sum over all sessions; these are no per-session counters.
const STATUS: &str = "SHOW STATUS WHERE Variable_name IN \
    ('Threads_connected', 'wsrep_ready', 'wsrep_local_state', 'wsrep_local_state_comment')";

/// Bytes of the longest packet that is accepted: no answer to a check is that long.
const PACKET_MAX: usize = 1 << 20;

/// Seconds for which the crate would keep an idle connection; without effect on the server's
/// timeout.
const WAIT_TIMEOUT: usize = 28_800;

/// `wsrep_local_state` of a node that has all that its cluster has.
const SYNCED: &str = "4";

/// A session with a server.
pub(super) struct Session {
    connection: Conn,
    /// What leads there, where the way is not a plain one.
    bridge: Option<OwnedTask>,
}

impl kept::Session for Session {
    type Answer = Seen;

    async fn log_in(login: &Login, destination: &Destination) -> Result<Self, String> {
        let mut options =
            OptsBuilder::default().prefer_socket(false).db_name(login.database.clone());
        options = options.user(Some(login.user.as_deref().unwrap_or("root")));
        // Otherwise the crate would query these, which a check has no use for.
        options = options.max_allowed_packet(Some(PACKET_MAX)).wait_timeout(Some(WAIT_TIMEOUT));
        if let Some(password) = &login.password {
            options = options.pass(Some(reveal(password, destination).await?));
        }
        let tls = match &login.tls {
            Some(tls) => Some(secured_by(tls, destination).await?),
            None => None,
        };
        let is_optional = login.tls.as_ref().is_some_and(|tls| !tls.required);
        match connect(options.clone().ssl_opts(tls), destination).await {
            Err(Failed::Mysql(Error::Driver(DriverError::NoClientSslFlagFromServer)))
                if is_optional =>
            {
                connect(options, destination).await
            }
            connected => connected,
        }
        .map_err(|failed| match failed {
            Failed::Mysql(error) => {
                format!("cannot log in to {destination}: {}", text(&error, destination))
            }
            Failed::Way(why) => why,
        })
    }

    async fn ask(&mut self, destination: &Destination) -> Result<Self::Answer, String> {
        let mut known = self.named(VARIABLES, destination).await?;
        known.extend(self.named(STATUS, destination).await?);
        serves(&known)?;
        let Some(read_only) = known.get("read_only") else {
            return Err("server did not report read_only".to_owned());
        };
        if is_off(read_only) {
            return Ok(Seen { role: Some(Role::Primary), ..Seen::default() });
        }
        let lag = Lag { time: behind(&mut self.connection, destination).await?, bytes: None };
        Ok(Seen { role: Some(Role::Replica), lag: Some(lag), ..Seen::default() })
    }

    /// Ends it in order, beside the checks: what just breaks off counts as an aborted client.
    fn leave(self) {
        let Self { connection, bridge } = self;
        tokio::spawn(async move {
            let _bridge = bridge;
            let _ = timeout(LEAVE_MAX, connection.disconnect()).await;
        });
    }
}

impl Session {
    /// Names and values, the names in lower case.
    async fn named(
        &mut self,
        question: &str,
        destination: &Destination,
    ) -> Result<HashMap<String, String>, String> {
        let rows: Vec<(String, String)> =
            self.connection.query(question).await.map_err(|error| text(&error, destination))?;
        Ok(rows.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect())
    }
}

/// Whether a server with these variables serves new clients; otherwise a phrase.
fn serves(known: &HashMap<String, String>) -> Result<(), String> {
    let word = |name: &str| known.get(name).map(String::as_str);
    let number = |name: &str| word(name).and_then(|text| text.parse::<u64>().ok());
    if word("offline_mode").is_some_and(|mode| !is_off(mode)) {
        return Err("server is in offline_mode".to_owned());
    }
    if let (Some(max), Some(now)) = (number("max_connections"), number("threads_connected"))
        && now > max
    {
        return Err(format!("all {max} connections are in use (max_connections)"));
    }
    if word("wsrep_on").is_none_or(is_off) {
        return Ok(());
    }
    if word("wsrep_ready").is_some_and(is_off) {
        return Err("Galera node is not ready (wsrep_ready = OFF)".to_owned());
    }
    match word("wsrep_local_state") {
        Some(SYNCED) | None => Ok(()),
        Some(state) => {
            let comment = word("wsrep_local_state_comment").unwrap_or(state);
            Err(format!("Galera node is {comment}, not Synced"))
        }
    }
}

fn is_off(word: &str) -> bool {
    word.eq_ignore_ascii_case("off") || word == "0"
}

/// How long the newest of what it has yet to apply has waited; `None` if replication does not run.
async fn behind(
    connection: &mut Conn,
    destination: &Destination,
) -> Result<Option<Duration>, String> {
    let rows: Vec<Row> = connection
        .query("SHOW REPLICA STATUS")
        .await
        .map_err(|error| format!("SHOW REPLICA STATUS failed: {}", text(&error, destination)))?;
    let Some(row) = rows.first() else { return Ok(None) };
    // Columns of MySQL, and of MariaDB.
    let field = |ours: &str, theirs: &str| -> Option<String> {
        row.get_opt(ours).or_else(|| row.get_opt(theirs))?.ok()
    };
    let runs = |ours, theirs| field(ours, theirs).is_some_and(|word| word == "Yes");
    if !runs("Replica_IO_Running", "Slave_IO_Running")
        || !runs("Replica_SQL_Running", "Slave_SQL_Running")
    {
        return Ok(None);
    }
    let seconds = field("Seconds_Behind_Source", "Seconds_Behind_Master");
    Ok(seconds.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs))
}

/// The text of an error of the check.
fn text(error: &Error, destination: &Destination) -> String {
    destination.note(error);
    error.to_string()
}

enum Failed {
    Way(String),
    Mysql(Error),
}

/// Connects by way of the destination: the crate can't, so that where that matters it is led there.
async fn connect(options: OptsBuilder, destination: &Destination) -> Result<Session, Failed> {
    let to = |address: &std::net::SocketAddr, options: OptsBuilder| {
        options.ip_or_hostname(address.ip().to_string()).tcp_port(address.port())
    };
    let mut bridge = None;
    let options = match &destination.address {
        // What is sent over a unix socket counts as safe, which it would not be behind a bridge.
        _ if !destination.is_plain() => {
            let (near, bound) = destination.bridge().await.map_err(Failed::Way)?;
            bridge = Some(bound);
            to(&near, options)
        }
        Address::Inet(inet) => to(inet, options),
        Address::Unix(path) => options.socket(path.to_str()),
    };
    let connection = Conn::new(options).await.map_err(Failed::Mysql)?;
    Ok(Session { connection, bridge })
}

async fn secured_by(tls: &Tls, destination: &Destination) -> Result<SslOpts, String> {
    let name = tls.server_name.as_ref().map(|name| name.to_str().into_owned());
    // Always set, since the crate may connect by way of a bridge with another address.
    let address = match &destination.address {
        Address::Inet(inet) => Some(inet.ip().to_string()),
        Address::Unix(_) => None,
    };
    let options = SslOpts::default()
        .with_danger_accept_invalid_certs(tls.trust == Trust::Anybody)
        .with_danger_tls_hostname_override(name.or(address));
    let Some(path) = &tls.ca else { return Ok(options) };
    let ca = read_file(path, destination).await;
    let ca = ca.map_err(|why| format!("cannot read certificates in {}: {why}", path.display()))?;
    Ok(options.with_root_certs(vec![ca.to_vec().into()]).with_disable_built_in_roots(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_without_serving_is_no_good() {
        let says = |pairs: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            serves(&pairs.iter().map(own).collect())
        };
        let galera = |ready, state, comment| {
            says(&[
                ("wsrep_on", "ON"),
                ("wsrep_ready", ready),
                ("wsrep_local_state", state),
                ("wsrep_local_state_comment", comment),
            ])
        };
        assert_eq!(says(&[]), Ok(()));
        assert_eq!(says(&[("offline_mode", "OFF"), ("wsrep_on", "OFF")]), Ok(()));
        assert_eq!(says(&[("max_connections", "5"), ("threads_connected", "5")]), Ok(()));
        assert!(says(&[("max_connections", "5"), ("threads_connected", "6")]).is_err());
        assert!(says(&[("offline_mode", "ON")]).is_err());
        assert_eq!(galera("ON", "4", "Synced"), Ok(()));
        assert!(galera("OFF", "4", "Synced").is_err());
        let why = galera("ON", "2", "Donor/Desynced").unwrap_err();
        assert!(why == "Galera node is Donor/Desynced, not Synced", "{why}");
        // With replication off, a node answers for itself alone, as any other server.
        assert_eq!(says(&[("wsrep_on", "OFF"), ("wsrep_ready", "OFF")]), Ok(()));
    }
}
