//! How the servers of a backend are checked: kind, rules, addresses.
//!
//! Not here: reading it (`read::check`), and running checks (`control::servers::checks`).

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use ringlane_core::machine::Address;
use ringlane_health::{Ejection, Rules};
use rustls::pki_types::ServerName;

/// The variable in which systemd passes the directory of a unit's credentials.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// How the health of a backend's servers is determined.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Rules that turn check results and orders into states.
    pub rules: Rules,
    /// How servers are checked; `None`: only by the outcome of sessions.
    pub check: Option<Check>,
    /// When a server is ejected because of failed sessions.
    pub outlier: Option<Ejection>,
    /// The `check_address` of each server; port 0 means the port without it.
    pub addresses: Vec<Option<Address>>,
}

/// How the servers of a backend are checked.
#[derive(Clone, Debug)]
pub struct Check {
    /// What a check does.
    pub kind: Kind,
    /// Time from the start of one check to the start of the next.
    pub interval: Duration,
    /// The same while results contradict the current state of a server.
    pub fast_interval: Duration,
    /// Time limit of one check.
    pub timeout: Duration,
    /// Address to check instead of that of the server; port 0 means `port`.
    pub address: Option<Address>,
    /// Port to check instead of that of the server.
    pub port: Option<u16>,
    /// Which settings of sessions also apply to the connections of checks.
    pub way: Way,
}

/// Settings that a check shares with the sessions of its backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Way {
    /// Whether it sends the PROXY header of `send_proxy`; `None`: only to the address of the
    /// server.
    pub send_proxy: Option<bool>,
    /// Whether it uses `source` and `source_ports`.
    pub source: bool,
    /// Whether it uses `tcp` and `congestion`.
    pub tcp: bool,
}

impl Check {
    /// The address at which a server is checked; `own` is its `check_address`.
    pub fn place(&self, server: &Address, own: Option<&Address>) -> Address {
        let explicit = own.or(self.address.as_ref());
        let port = |address: &Address| match address {
            Address::Inet(inet) => Some(inet.port()).filter(|port| *port != 0),
            Address::Unix(_) => None,
        };
        match explicit.unwrap_or(server).clone() {
            Address::Inet(mut inet) => {
                let port = explicit.and_then(port).or(self.port).or_else(|| port(server));
                inet.set_port(port.unwrap_or(0));
                Address::Inet(inet)
            }
            socket => socket,
        }
    }
}

/// The kind of a check.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Connect, then run the steps.
    Tcp(Vec<Step>),
    /// Send an HTTP request.
    Http(Http),
    /// TLS handshake; the certificate must be valid for at least this many days.
    Tls(Tls, Option<u32>),
    /// Log in to MySQL or MariaDB, and query role and lag.
    Mysql(Login),
    /// Log in to PostgreSQL, and query role and lag.
    Postgres(Login),
    /// Log in to Redis, and query role and lag.
    Redis(Login),
    /// Run a program; exit code 0 passes.
    Exec(Vec<String>),
    /// Read a line from an agent in the format of HAProxy, after sending this text.
    Agent(Vec<u8>),
}

impl Kind {
    /// Whether it reports which server is primary, and the lag of replicas.
    pub(in crate::config) const fn sees_roles(&self) -> bool {
        matches!(self, Self::Mysql(_) | Self::Postgres(_) | Self::Redis(_))
    }
}

/// One step of a `tcp` check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read until these bytes have arrived.
    Expect(Vec<u8>),
}

/// The request of an `http` check, and which responses pass.
#[derive(Clone, Debug)]
pub struct Http {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// 1 for HTTP/1.1, 0 for servers that speak only HTTP/1.0.
    pub minor_version: u8,
    /// The `Host` header; by default the address of the server.
    pub host: Option<String>,
    /// Status codes that pass.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body must contain.
    pub body: Option<Body>,
    /// TLS settings; `None`: plain text.
    pub tls: Option<Tls>,
}

/// What a body must contain.
#[derive(Clone, Debug)]
pub enum Body {
    /// This text.
    Text(String),
    /// A match of this pattern.
    Pattern(Regex),
}

/// How a check logs in to a database.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The user; by default the one that is usual for the database.
    pub user: Option<String>,
    /// The password, if the server asks for one.
    pub password: Option<Secret>,
    /// The database to open.
    pub database: Option<String>,
    /// TLS settings; `None`: plain text.
    pub tls: Option<Tls>,
    /// Whether the connection is kept between checks; otherwise each check logs in.
    pub kept: bool,
}

/// A password; unless it is a text, it is read for each login, so a new password takes effect.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    /// Written in the configuration.
    Text(String),
    /// The first line of this file.
    File(PathBuf),
    /// This variable of the environment.
    Variable(String),
    /// The first line of the systemd credential of this name.
    Credential(String),
}

/// The file of a systemd credential.
///
/// # Errors
/// A phrase, if systemd has passed no credentials to this process.
pub fn credential_file(name: &str) -> Result<PathBuf, String> {
    in_credentials(env::var_os(CREDENTIALS_VARIABLE), name)
}

fn in_credentials(folder: Option<OsString>, name: &str) -> Result<PathBuf, String> {
    match folder.filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(Path::new(&folder).join(name)),
        None => Err(format!(
            "credential {name} is not available: {CREDENTIALS_VARIABLE} is not set, which systemd \
             does for a unit with LoadCredential="
        )),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Never printed, not even in debug output.
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Variable(name) => write!(f, "Variable({name})"),
            Self::Credential(name) => write!(f, "Credential({name})"),
        }
    }
}

/// TLS settings of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// The name that the certificate must be valid for; by default the checked address.
    pub server_name: Option<ServerName<'static>>,
    /// A PEM file with trusted root certificates; by default those of the system.
    pub ca: Option<PathBuf>,
    /// How much of a certificate is verified.
    pub trust: Trust,
    /// The protocols that are offered (ALPN); the server must select one of them.
    pub alpn: Vec<String>,
    /// Whether the check fails if the server does not support TLS.
    pub required: bool,
}

/// How much of a certificate is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// Nothing.
    Anybody,
    /// Issuer and validity period.
    Signer,
    /// Issuer, validity period and name.
    Name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_file_in_the_directory_that_systemd_passes() {
        let found = in_credentials(Some("/run/credentials/ringlane.service".into()), "pg");
        assert_eq!(found, Ok(PathBuf::from("/run/credentials/ringlane.service/pg")));
        for folder in [None, Some(OsString::new())] {
            let why = in_credentials(folder, "pg").unwrap_err();
            assert!(
                why.contains("credential pg") && why.contains("CREDENTIALS_DIRECTORY"),
                "{why}"
            );
        }
    }
}
