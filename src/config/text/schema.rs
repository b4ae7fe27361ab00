//! Every key of the configuration, table by table.
//!
//! The only list of keys: readers use it, hints quote its examples, and a test compares the
//! documentation with it. Not here: hints for unknown keys (`synonyms`).

/// A table of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) enum Section {
    /// The file itself.
    Root,
    /// `[global]`.
    Global,
    /// `admin` in `[global]`.
    Admin,
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

/// A key and an example of its use.
pub(in crate::config) type Key = (&'static str, &'static str);

impl Section {
    /// All tables. If several have a key, hints name the first one.
    pub(in crate::config) const ALL: [Self; 24] = [
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
            Self::Root => ROOT,
            Self::Global => &[
                ("shards", "shards = \"auto\""),
                ("driver", "driver = \"auto\""),
                ("pin", "pin = true"),
                ("admin", "admin = { socket = \"/run/ringlane/admin.sock\" }"),
                ("user", "user = \"ringlane\""),
                ("group", "group = \"ringlane\""),
                ("max_connections", "max_connections = 100000"),
                ("shutdown_delay", "shutdown_delay = \"10s\""),
                ("drain_timeout", "drain_timeout = \"30s\""),
                ("log", "log = { level = \"info\", to = \"stderr\" }"),
                ("access_log", "access_log = { format = \"json\", to = \"stderr\" }"),
                ("resolver", "resolver = { servers = [\"10.0.0.53:53\"] }"),
            ],
            Self::Admin => &[
                ("socket", "socket = \"/run/ringlane/admin.sock\""),
                ("http", "http = \"127.0.0.1:9000\""),
            ],
            Self::AccessLog => &[
                ("format", "format = \"json\""),
                ("to", "to = \"file:/var/log/ringlane.log\""),
                ("log_empty", "log_empty = false"),
                ("fields", "fields = [\"time\", \"client\", \"server\", \"close\"]"),
            ],
            Self::Log => &[
                ("level", "level = \"info\""),
                ("format", "format = \"json\""),
                ("to", "to = \"stderr\""),
            ],
            Self::Resolver => &[
                ("servers", "servers = [\"10.0.0.53:53\"]"),
                ("timeout", "timeout = \"2s\""),
                ("hold", "hold = \"30s\""),
            ],
            Self::Frontend => FRONTEND,
            Self::Timeout => TIMEOUT,
            Self::Backend => BACKEND,
            Self::Server => SERVER,
            Self::Affinity => &[
                ("key", "key = \"client_ip\""),
                ("ttl", "ttl = \"30m\""),
                ("size", "size = 100000"),
            ],
            Self::Route => ROUTE,
            Self::PerClient => PER_CLIENT,
            Self::Queue => &[("size", "size = 1024"), ("timeout", "timeout = \"5s\"")],
            Self::AcceptProxy => {
                &[("trusted", "trusted = [\"10.0.0.0/8\"]"), ("timeout", "timeout = \"5s\"")]
            }
            Self::Tcp => TCP,
            Self::Keepalive => KEEPALIVE,
            Self::Check => CHECK,
            Self::Outlier => OUTLIER,
            Self::SendProxy => {
                &[("version", "version = \"v2\""), ("details", "details = [\"authority\"]")]
            }
            Self::Bandwidth => &[
                ("per_session", "per_session = \"10Mbit\""),
                ("per_backend", "per_backend = \"1Gbit\""),
            ],
            Self::Mirror => &[("server", "server = \"10.0.0.99:5432\""), ("share", "share = 0.01")],
            Self::Step => STEP,
            Self::Secret => SECRET,
        }
    }

    /// An example of one of its keys.
    pub(in crate::config) fn example(self, key: &str) -> &'static str {
        self.keys().iter().find(|(name, _)| *name == key).map_or("", |(_, example)| example)
    }

    /// What it is called in a sentence.
    pub(in crate::config) const fn called(self) -> &'static str {
        match self {
            Self::Root => "the file",
            Self::Global => "[global]",
            Self::Admin => "admin in [global]",
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
            Self::Secret => "a password",
        }
    }

    pub(in crate::config) fn has(self, key: &str) -> bool {
        self.keys().iter().any(|(name, _)| *name == key)
    }
}

const ROOT: &[Key] = &[
    ("include", "include = [\"conf.d/*.toml\"]"),
    ("global", "[global]"),
    ("frontend", "[[frontend]]"),
    ("backend", "[[backend]]"),
];

/// Whether values of a key of this name, or inside it, may contain a password: what variables put
/// there is never shown.
pub(in crate::config) fn may_hold_a_secret(key: &str) -> bool {
    ["password", "send", "send_hex", "command"].contains(&key)
}

/// The keys of `[[frontend]]`.
const FRONTEND: &[Key] = &[
    ("name", "name = \"pg-write\""),
    ("bind", "bind = [\"0.0.0.0:5432\", \"[::]:5432\"]"),
    ("mode", "mode = \"tcp\""),
    ("backend", "backend = \"postgres\""),
    ("max_connections", "max_connections = 10000"),
    ("timeout", "timeout = { connect = \"2s\", idle = \"1h\" }"),
    ("congestion", "congestion = \"auto\""),
    ("tcp", "tcp = { keepalive = true, user_timeout = \"30s\" }"),
    ("transparent", "transparent = true"),
    ("path", "path = \"auto\""),
    ("role", "role = \"primary\""),
    ("protocol", "protocol = \"tls\""),
    ("route", "route = [{ sni = \"db.example.org\", backend = \"postgres\" }]"),
    ("no_sni", "no_sni = \"reject\""),
    ("unmatched", "unmatched = \"reject\""),
    ("rate", "rate = 1000"),
    ("per_client", "per_client = { max_connections = 20, rate = 10 }"),
    ("priority", "priority = \"high\""),
    ("accept_proxy", "accept_proxy = { trusted = [\"10.0.0.0/8\"] }"),
];

const ROUTE: &[Key] = &[
    ("sni", "sni = [\"db.example.org\", \"*.eu.example.org\"]"),
    ("alpn", "alpn = \"h2\""),
    ("user", "user = \"report\""),
    ("database", "database = \"shop\""),
    ("backend", "backend = \"postgres\""),
    ("role", "role = \"replica\""),
];

/// The keys of `[[backend]]`.
const BACKEND: &[Key] = &[
    ("name", "name = \"postgres\""),
    ("balance", "balance = \"least_conn\""),
    ("hash", "hash = \"client_ip\""),
    ("bounded_load", "bounded_load = 1.25"),
    ("affinity", "affinity = { key = \"client_ip\", ttl = \"30m\", size = 100000 }"),
    ("congestion", "congestion = \"auto\""),
    ("tcp", "tcp = { keepalive = true, user_timeout = \"30s\" }"),
    ("source", "source = \"10.0.0.5\""),
    ("source_ports", "source_ports = \"20000-29999\""),
    ("transparent", "transparent = true"),
    ("send_proxy", "send_proxy = \"v2\""),
    ("race_after", "race_after = \"100ms\""),
    ("queue", "queue = { size = 1024, timeout = \"5s\" }"),
    ("bandwidth", "bandwidth = { per_session = \"10Mbit\", per_backend = \"1Gbit\" }"),
    ("mirror", "mirror = { server = \"10.0.0.99:5432\", share = 0.01 }"),
    ("server", "server = [{ name = \"pg1\", address = \"10.0.0.11:5432\" }]"),
    ("check", "check = { kind = \"tcp\", interval = \"2s\", rise = 2, fall = 3 }"),
    ("max_lag", "max_lag = \"10s\""),
    ("on_conflict", "on_conflict = \"stop\""),
    ("on_down", "on_down = \"fence\""),
    ("on_role_change", "on_role_change = \"fence\""),
    ("on_lag", "on_lag = \"drain\""),
    ("on_drain", "on_drain = \"drain\""),
    ("drain_idle", "drain_idle = \"1s\""),
    ("slow_start", "slow_start = \"30s\""),
    ("fail_open", "fail_open = 50"),
    ("outlier", "outlier = { failures = 5, base = \"30s\", max = \"5m\", share = 50 }"),
];

const SERVER: &[Key] = &[
    ("name", "name = \"pg1\""),
    ("address", "address = \"10.0.0.11:5432\""),
    ("weight", "weight = 10"),
    ("backup", "backup = true"),
    ("max_connections", "max_connections = 500"),
    ("slots", "slots = 4"),
    ("check_address", "check_address = \"10.0.0.11:8008\""),
    ("state", "state = \"maint\""),
];

const TIMEOUT: &[Key] = &[
    ("greeting", "greeting = \"5s\""),
    ("connect", "connect = \"2s\""),
    ("client", "client = \"10m\""),
    ("server", "server = \"10m\""),
    ("idle", "idle = \"1h\""),
    ("fin", "fin = \"30s\""),
];

const TCP: &[Key] = &[
    ("keepalive", "keepalive = { idle = \"60s\", interval = \"10s\", count = 5 }"),
    ("user_timeout", "user_timeout = \"30s\""),
    ("fast_open", "fast_open = true"),
    ("mark", "mark = 7"),
    ("dscp", "dscp = \"af21\""),
];

const KEEPALIVE: &[Key] =
    &[("idle", "idle = \"60s\""), ("interval", "interval = \"10s\""), ("count", "count = 5")];

const PER_CLIENT: &[Key] = &[
    ("max_connections", "max_connections = 20"),
    ("rate", "rate = 10"),
    ("burst", "burst = 20"),
    ("allow", "allow = [\"10.0.0.0/8\"]"),
    ("size", "size = 100000"),
    ("refuse", "refuse = \"reset\""),
];

/// Keys of a check, for all kinds; `read::check` has the keys of each kind.
const CHECK: &[Key] = &[
    ("kind", "kind = \"tcp\""),
    ("interval", "interval = \"2s\""),
    ("fast_interval", "fast_interval = \"500ms\""),
    ("timeout", "timeout = \"1s\""),
    ("rise", "rise = 2"),
    ("fall", "fall = 3"),
    ("address", "address = \"10.0.0.9\""),
    ("port", "port = 8008"),
    ("steps", "steps = [{ send = \"PING\\r\\n\" }, { expect = \"+PONG\" }]"),
    ("method", "method = \"HEAD\""),
    ("path", "path = \"/health\""),
    ("host", "host = \"www.example.org\""),
    ("version", "version = \"1.0\""),
    ("status", "status = \"200-399\""),
    ("body", "body = \"ok\""),
    ("body_regex", "body_regex = \"^(ok|fine)\""),
    ("user", "user = \"monitor\""),
    ("password", "password = { file = \"/etc/ringlane/check.pass\" }"),
    ("database", "database = \"postgres\""),
    ("login", "login = \"kept\""),
    ("tls", "tls = \"require\""),
    ("server_name", "server_name = \"db.example.org\""),
    ("ca", "ca = \"/etc/ringlane/ca.pem\""),
    ("verify", "verify = false"),
    ("alpn", "alpn = [\"h2\", \"http/1.1\"]"),
    ("min_days", "min_days = 14"),
    ("command", "command = [\"/usr/local/bin/check-it\", \"--quick\"]"),
    ("send", "send = \"state\\n\""),
    ("send_proxy", "send_proxy = false"),
    ("source", "source = false"),
    ("tcp", "tcp = false"),
];

const OUTLIER: &[Key] = &[
    ("failures", "failures = 5"),
    ("interval", "interval = \"10s\""),
    ("base", "base = \"30s\""),
    ("max", "max = \"5m\""),
    ("share", "share = 50"),
    ("retransmits", "retransmits = 10"),
    ("first_byte", "first_byte = \"2s\""),
];

const STEP: &[Key] = &[
    ("send", "send = \"PING\\r\\n\""),
    ("send_hex", "send_hex = \"0d 0a\""),
    ("expect", "expect = \"+PONG\""),
    ("expect_hex", "expect_hex = \"2b\""),
];

const SECRET: &[Key] = &[
    ("file", "file = \"/etc/ringlane/check.pass\""),
    ("env", "env = \"CHECK_PASS\""),
    ("credential", "credential = \"check-pass\""),
];
