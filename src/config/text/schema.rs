//! The tables of the configuration, and which is inside which.
//!
//! Not here: their keys (`keys`), hints for unknown keys (`synonyms`).

use super::keys::{self, Key};

/// A table of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) enum Section {
    /// The file itself.
    Root,
    /// `[global]`.
    Global,
    /// `admin` in `[global]`.
    Admin,
    /// `socket` in `admin`, as a table.
    AdminSocket,
    /// One entry of `tokens` in `admin`.
    Token,
    /// `log` in `[global]`.
    Log,
    /// `access_log` in `[global]`.
    AccessLog,
    /// `resolver` in `[global]`.
    Resolver,
    /// `[[frontend]]`.
    Frontend,
    /// `timeout` in `[[frontend]]`.
    Timeout,
    /// `[[backend]]`.
    Backend,
    /// `affinity` in `[[backend]]`.
    Affinity,
    /// One entry of `route` in `[[frontend]]`.
    Route,
    /// `per_client` in `[[frontend]]`.
    PerClient,
    /// `queue` in `[[backend]]`.
    Queue,
    /// One entry of `server` in `[[backend]]`.
    Server,
    /// `accept_proxy` in `[[frontend]]`.
    AcceptProxy,
    /// `tcp` in `[[frontend]]` and `[[backend]]`.
    Tcp,
    /// `keepalive` in `tcp`.
    Keepalive,
    /// `check` in `[[backend]]`.
    Check,
    /// `outlier` in `[[backend]]`.
    Outlier,
    /// `send_proxy` in `[[backend]]`.
    SendProxy,
    /// `bandwidth` in `[[backend]]`.
    Bandwidth,
    /// `mirror` in `[[backend]]`.
    Mirror,
    /// One entry of `steps` in a check.
    Step,
    /// A password in a file, an environment variable or a systemd credential.
    Secret,
}

impl Section {
    /// All tables. If several have a key, hints name the first one.
    pub(in crate::config) const ALL: [Self; 26] = [
        Self::Root,
        Self::Global,
        Self::Frontend,
        Self::Backend,
        Self::Server,
        Self::Check,
        Self::Affinity,
        Self::Queue,
        Self::PerClient,
        Self::Route,
        Self::Admin,
        Self::AdminSocket,
        Self::Token,
        Self::AccessLog,
        Self::Log,
        Self::Resolver,
        Self::Timeout,
        Self::AcceptProxy,
        Self::Tcp,
        Self::Keepalive,
        Self::Outlier,
        Self::SendProxy,
        Self::Bandwidth,
        Self::Mirror,
        Self::Step,
        Self::Secret,
    ];

    /// Its keys.
    pub(in crate::config) const fn keys(self) -> &'static [Key] {
        match self {
            Self::Root => keys::ROOT,
            Self::Global => keys::GLOBAL,
            Self::Admin => keys::ADMIN,
            Self::AdminSocket => keys::ADMIN_SOCKET,
            Self::Token => keys::TOKEN,
            Self::Log => keys::LOG,
            Self::AccessLog => keys::ACCESS_LOG,
            Self::Resolver => keys::RESOLVER,
            Self::Frontend => keys::FRONTEND,
            Self::Timeout => keys::TIMEOUT,
            Self::AcceptProxy => keys::ACCEPT_PROXY,
            Self::Route => keys::ROUTE,
            Self::PerClient => keys::PER_CLIENT,
            Self::Tcp => keys::TCP,
            Self::Keepalive => keys::KEEPALIVE,
            Self::Backend => keys::BACKEND,
            Self::Server => keys::SERVER,
            Self::Affinity => keys::AFFINITY,
            Self::Queue => keys::QUEUE,
            Self::Check => keys::CHECK,
            Self::Step => keys::STEP,
            Self::Secret => keys::SECRET,
            Self::Outlier => keys::OUTLIER,
            Self::SendProxy => keys::SEND_PROXY,
            Self::Bandwidth => keys::BANDWIDTH,
            Self::Mirror => keys::MIRROR,
        }
    }

    /// An example of one of its keys.
    pub(in crate::config) fn example(self, key: &str) -> &'static str {
        self.key(key).map_or("", |key| key.example)
    }

    /// One of its keys.
    pub(in crate::config) fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().iter().find(|key| key.name == name)
    }

    /// The table, or the table of each entry of the array, that one of its keys may hold.
    pub(in crate::config) fn inner(self, key: &str) -> Option<Self> {
        Some(match (self, key) {
            (Self::Root, "global") => Self::Global,
            (Self::Root, "frontend") => Self::Frontend,
            (Self::Root, "backend") => Self::Backend,
            (Self::Global, "admin") => Self::Admin,
            (Self::Admin, "socket") => Self::AdminSocket,
            (Self::Admin, "tokens") => Self::Token,
            (Self::Global, "log") => Self::Log,
            (Self::Global, "access_log") => Self::AccessLog,
            (Self::Global, "resolver") => Self::Resolver,
            (Self::Frontend, "timeout") => Self::Timeout,
            (Self::Frontend, "accept_proxy") => Self::AcceptProxy,
            (Self::Frontend, "per_client") => Self::PerClient,
            (Self::Frontend, "route") => Self::Route,
            (Self::Frontend | Self::Backend, "tcp") => Self::Tcp,
            (Self::Tcp, "keepalive") => Self::Keepalive,
            (Self::Backend, "server") => Self::Server,
            (Self::Backend, "affinity") => Self::Affinity,
            (Self::Backend, "queue") => Self::Queue,
            (Self::Backend, "check") => Self::Check,
            (Self::Backend, "outlier") => Self::Outlier,
            (Self::Backend, "send_proxy") => Self::SendProxy,
            (Self::Backend, "bandwidth") => Self::Bandwidth,
            (Self::Backend, "mirror") => Self::Mirror,
            (Self::Check, "steps") => Self::Step,
            (Self::Check, "password") | (Self::Token, "secret") => Self::Secret,
            _ => return None,
        })
    }

    /// What it is called in a sentence.
    pub(in crate::config) const fn called(self) -> &'static str {
        match self {
            Self::Root => "the file",
            Self::Global => "[global]",
            Self::Admin => "admin in [global]",
            Self::AdminSocket => "admin.socket in [global]",
            Self::Token => "a token of admin in [global]",
            Self::Log => "log in [global]",
            Self::AccessLog => "access_log in [global]",
            Self::Resolver => "resolver in [global]",
            Self::Frontend => "[[frontend]]",
            Self::Timeout => "timeout in [[frontend]]",
            Self::Backend => "[[backend]]",
            Self::Affinity => "affinity in [[backend]]",
            Self::Route => "a route of [[frontend]]",
            Self::PerClient => "per_client in [[frontend]]",
            Self::Queue => "queue in [[backend]]",
            Self::Server => "a server of [[backend]]",
            Self::AcceptProxy => "accept_proxy in [[frontend]]",
            Self::Tcp => "tcp in [[frontend]] or [[backend]]",
            Self::Keepalive => "keepalive in tcp",
            Self::Check => "check in [[backend]]",
            Self::Outlier => "outlier in [[backend]]",
            Self::SendProxy => "send_proxy in [[backend]]",
            Self::Bandwidth => "bandwidth in [[backend]]",
            Self::Mirror => "mirror in [[backend]]",
            Self::Step => "a step of a check",
            Self::Secret => "a secret",
        }
    }

    pub(in crate::config) fn has(self, key: &str) -> bool {
        self.key(key).is_some()
    }
}

/// Whether values of a key of this name, or inside it, may contain a password: what variables put
/// there is never shown.
pub(in crate::config) fn may_hold_a_secret(key: &str) -> bool {
    ["password", "secret", "send", "send_hex", "command"].contains(&key)
}
