//! How the servers of a backend are watched: the kind of check, its rules, its address.
//!
//! Not here: reading it (`read::check`), and doing checks (`control::checks`).

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use ringlane_core::machine::Address;
use ringlane_health::{Ejection, Rules};
use rustls::pki_types::ServerName;

/// How a backend's servers are watched, and what follows from it.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What is made of checks and orders.
    pub rules: Rules,
    /// How servers are checked; `None`: only by the sessions that go there.
    pub check: Option<Check>,
    /// When a server is ejected for what its sessions meet.
    pub outlier: Option<Ejection>,
    /// Where each server is checked that has an address of its own for it; port 0: as elsewhere.
    pub addresses: Vec<Option<Address>>,
}

/// How the servers of a backend are checked.
#[derive(Clone, Debug)]
pub struct Check {
    /// What is done.
    pub kind: Kind,
    /// From the beginning of one check to that of the next.
    pub interval: Duration,
    /// The same while checks speak against a server's state.
    pub fast_interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// Another address than that of the server; port 0: as `port` says.
    pub address: Option<Address>,
    /// Another port than that of the server.
    pub port: Option<u16>,
    /// What of the way that sessions take it leaves out.
    pub way: Way,
}

/// What a check has in common with the sessions of its backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Way {
    /// Whether it sends the PROXY header of `send_proxy`; `None`: where the server itself is checked.
    pub send_proxy: Option<bool>,
    /// Whether it comes from `source` and `source_ports`.
    pub source: bool,
    /// Whether `tcp` and `congestion` hold for it.
    pub tcp: bool,
}

impl Check {
    /// Where a server is checked that is there, and may have an address of its own for it.
    pub fn place(&self, server: &Address, own: Option<&Address>) -> Address {
        let said = own.or(self.address.as_ref());
        let port = |address: &Address| match address {
            Address::Inet(inet) => Some(inet.port()).filter(|port| *port != 0),
            Address::Unix(_) => None,
        };
        match said.unwrap_or(server).clone() {
            Address::Inet(mut inet) => {
                let port = said.and_then(port).or(self.port).or_else(|| port(server));
                inet.set_port(port.unwrap_or(0));
                Address::Inet(inet)
            }
            socket => socket,
        }
    }
}

/// What is done to check a server.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Connect, and say and hear what the steps say.
    Tcp(Vec<Step>),
    /// Ask for a page.
    Http(Http),
    /// Shake hands, and look at the certificate, which must be good for so many days.
    Tls(Tls, Option<u32>),
    /// Log in to MySQL or MariaDB, and ask for role and lag.
    Mysql(Login),
    /// Log in to PostgreSQL, and ask for role and lag.
    Postgres(Login),
    /// Log in to Redis, and ask for role and lag.
    Redis(Login),
    /// Run a program; its exit code decides.
    Exec(Vec<String>),
    /// Read a line from HAProxy's kind of agent, after sending this.
    Agent(Vec<u8>),
}

impl Kind {
    /// Whether it tells which server is primary, and how far replicas are behind.
    pub(in crate::config) const fn sees_roles(&self) -> bool {
        matches!(self, Self::Mysql(_) | Self::Postgres(_) | Self::Redis(_))
    }
}

/// One step of a `tcp` check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read until these bytes have come.
    Expect(Vec<u8>),
}

/// What an `http` check asks for, and which answers are good.
#[derive(Clone, Debug)]
pub struct Http {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// HTTP/1.1, or 1.0 for a server that knows no other.
    pub minor_version: u8,
    /// The `Host` header; the server's address otherwise.
    pub host: Option<String>,
    /// Codes that are good.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body must have.
    pub body: Option<Body>,
    /// Whether and how it is asked for over TLS.
    pub tls: Option<Tls>,
}

/// What a body must have.
#[derive(Clone, Debug)]
pub enum Body {
    /// This text.
    Text(String),
    /// Something like this.
    Pattern(Regex),
}

/// Who logs in to a database.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The user; that of the database's own default otherwise.
    pub user: Option<String>,
    /// The password, where one is asked for.
    pub password: Option<Secret>,
    /// The database to open.
    pub database: Option<String>,
    /// Whether and how all this is said over TLS.
    pub tls: Option<Tls>,
    /// Whether the connection is kept from check to check; otherwise each check logs in.
    pub kept: bool,
}

/// A password, read when it is needed so that it can be changed in its place.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    /// Written in the configuration.
    Text(String),
    /// The first line of this file.
    File(PathBuf),
    /// This variable of the environment.
    Variable(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Never printed, wherever it goes.
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Variable(name) => write!(f, "Variable({name})"),
        }
    }
}

/// How TLS is spoken to a server by its check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// Whom the certificate must be for; the address that is checked otherwise.
    pub server_name: Option<ServerName<'static>>,
    /// Who signs certificates, a file in PEM; otherwise whom the system trusts.
    pub ca: Option<PathBuf>,
    /// How much of a certificate is verified.
    pub trust: Trust,
    /// The protocols that are offered, of which the server must take one (ALPN).
    pub alpn: Vec<String>,
    /// Whether a server that says it has no TLS fails the check.
    pub required: bool,
}

/// How much of a certificate is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// Nothing.
    Anybody,
    /// Who signed it, and when it ends.
    Signer,
    /// That, and whom it is for.
    Name,
}
