//! `kind = "mysql"`: log in to MySQL or MariaDB and ask whether it takes writes, and how far behind.
//!
//! The connection is kept from check to check. A server that is `read_only` is a replica, every other
//! one a primary. Lag in time is what the server says of its replication while both of its threads
//! run; a thread that has stopped makes it unknown, which is no lag of 0. Lag in bytes it can't say.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, OptsBuilder, Row, SslOpts};
use ringlane_core::health::{Lag, Role, Seen};
use ringlane_core::snapshot::Address;

use super::reveal;
use crate::config::{Login, Tls, Trust};

/// What is kept from one check to the next.
pub(super) struct Probe<'a> {
    login: &'a Login,
    connection: Option<Conn>,
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
        let asked = connection.query_first("SELECT @@global.read_only").await;
        let read_only: Option<u8> = asked.map_err(|error| error.to_string())?;
        let seen = match read_only {
            None => return Err("does not say whether it is read-only".to_owned()),
            Some(0) => Seen { role: Some(Role::Primary), ..Seen::default() },
            Some(_) => {
                let lag = Lag { time: behind(&mut connection).await?, bytes: None };
                Seen { role: Some(Role::Replica), lag: Some(lag), ..Seen::default() }
            }
        };
        self.connection = Some(connection);
        Ok(seen)
    }
}

/// How long the newest of what it has yet to apply has waited; `None` if replication does not run.
async fn behind(connection: &mut Conn) -> Result<Option<Duration>, String> {
    let rows: Vec<Row> = connection
        .query("SHOW REPLICA STATUS")
        .await
        .map_err(|error| format!("cannot ask for the state of replication: {error}"))?;
    let Some(row) = rows.first() else { return Ok(None) };
    // MySQL's words, and MariaDB's.
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

async fn log_in(login: &Login, address: &Address) -> Result<Conn, String> {
    let mut options = OptsBuilder::default().prefer_socket(false).db_name(login.database.clone());
    options = options.user(Some(login.user.as_deref().unwrap_or("root")));
    if let Some(password) = &login.password {
        options = options.pass(Some(reveal(password)?));
    }
    options = match address {
        Address::Inet(inet) => options.ip_or_hostname(inet.ip().to_string()).tcp_port(inet.port()),
        Address::Unix(path) => options.socket(path.to_str()),
    };
    let secured = options.clone().ssl_opts(login.tls.as_ref().map(secured_by));
    let connected = match Conn::new(secured).await {
        Err(Error::Driver(DriverError::NoClientSslFlagFromServer))
            if login.tls.as_ref().is_some_and(|tls| !tls.required) =>
        {
            Conn::new(options).await
        }
        connected => connected,
    };
    connected.map_err(|error| format!("cannot log in to {address}: {error}"))
}

fn secured_by(tls: &Tls) -> SslOpts {
    let options = SslOpts::default()
        .with_danger_accept_invalid_certs(tls.trust == Trust::Anybody)
        .with_danger_tls_hostname_override(
            tls.server_name.as_ref().map(|name| name.to_str().into_owned()),
        );
    match &tls.ca {
        Some(path) => {
            options.with_root_certs(vec![path.clone().into()]).with_disable_built_in_roots(true)
        }
        None => options,
    }
}
