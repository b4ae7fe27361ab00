//! Where a session goes by what its client says first.
//!
//! Plain settings and one question, [`Route::fits`]. Not here: reading what clients say (`l4`).
//! Routes are tried in the order of the configuration; the first that fits counts.

use super::role::RoleWanted;
use crate::ids::BackendId;

/// What the clients of a frontend speak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// Nobody looks.
    #[default]
    Any,
    /// TLS, of which the first message is read.
    Tls,
    /// PostgreSQL: first messages are read, and transactions in clear text are followed.
    Postgres,
    /// MySQL and MariaDB, whose transactions in clear text are followed.
    Mysql,
    /// Redis, whose transactions are followed.
    Redis,
}

impl Protocol {
    /// Whether a client says something before a server is chosen that routes can go by.
    pub const fn begins_with_the_client(self) -> bool {
        matches!(self, Self::Tls | Self::Postgres)
    }
}

/// Where a session goes that fits; what is empty fits everybody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Route {
    /// Names that a TLS client asks for.
    pub sni: Vec<NamePattern>,
    /// Protocols that it offers (ALPN).
    pub alpn: Vec<String>,
    /// Users that log in, in clear text.
    pub user: Vec<String>,
    /// Databases that they open.
    pub database: Vec<String>,
    /// Who serves the session.
    pub backend: BackendId,
    /// Which of its servers.
    pub role: RoleWanted,
}

/// A name or all names below one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamePattern {
    /// This name, in lower case.
    Exact(String),
    /// Names that end in a dot and this, in lower case.
    Below(String),
}

impl NamePattern {
    /// Whether it fits a name in lower case.
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Below(parent) => {
                let below = name.strip_suffix(parent.as_str());
                below
                    .and_then(|below| below.strip_suffix('.'))
                    .is_some_and(|first| !first.is_empty())
            }
        }
    }
}

/// What a client's first message tells that a server can be chosen by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHints {
    /// The name of the server that a TLS client wants.
    pub sni: Option<String>,
    /// The protocols that it offers.
    pub alpn: Vec<Vec<u8>>,
    /// The user that logs in, in clear text.
    pub user: Option<String>,
    /// The database that it opens.
    pub database: Option<String>,
}

impl Route {
    /// Whether a session goes here.
    pub fn fits(&self, hints: &ClientHints) -> bool {
        let among = |wanted: &[String], name: &Option<String>| {
            wanted.is_empty() || name.as_ref().is_some_and(|name| wanted.contains(name))
        };
        let name_fits = |name: &String| self.sni.iter().any(|pattern| pattern.fits(name));
        let offers = |wanted: &String| hints.alpn.iter().any(|offer| offer == wanted.as_bytes());
        (self.sni.is_empty() || hints.sni.as_ref().is_some_and(name_fits))
            && (self.alpn.is_empty() || self.alpn.iter().any(offers))
            && among(&self.user, &hints.user)
            && among(&self.database, &hints.database)
    }
}

/// What becomes of a client that nothing was configured for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Unrouted {
    /// It goes to the frontend's backend.
    #[default]
    Backend,
    /// It is told so in its protocol, and refused.
    Reject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_fits_sessions_that_match_all_its_conditions() {
        let hints = |sni: &str, user: &str| ClientHints {
            sni: Some(sni.to_owned()),
            alpn: vec![b"h2".to_vec()],
            user: Some(user.to_owned()),
            database: None,
        };
        let below = NamePattern::Below("example.org".to_owned());
        let exact = NamePattern::Exact("db.example.net".to_owned());
        let by_name = Route { sni: vec![below, exact], ..Route::default() };
        for (name, fits) in [
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            (".example.org", false),
            ("badexample.org", false),
            ("db.example.net", true),
            ("a.db.example.net", false),
        ] {
            assert_eq!(by_name.fits(&hints(name, "u")), fits, "{name}");
        }
        assert!(!by_name.fits(&ClientHints::default()));
        let by_user = Route { user: vec!["u".to_owned()], ..by_name.clone() };
        assert!(by_user.fits(&hints("db.example.net", "u")));
        assert!(!by_user.fits(&hints("db.example.net", "v")));
        let by_protocol = Route { alpn: vec!["h2".to_owned()], ..Route::default() };
        assert!(by_protocol.fits(&hints("", "")) && !by_protocol.fits(&ClientHints::default()));
        let by_database = Route { database: vec!["d".to_owned()], ..Route::default() };
        assert!(
            !by_database.fits(&hints("", "")) && Route::default().fits(&ClientHints::default())
        );
    }
}
