//! Every key of the configuration, table by table, and what is said about a word that is none.
//!
//! The only list of keys: readers take from it, hints quote its examples, and a test holds the
//! documentation to it. The words of other balancers are known here so that they can be answered
//! with ours; they are accepted nowhere.

use strsim::damerau_levenshtein;

use super::report::quoted;

/// Words longer than this are not compared with others.
const COMPARED_MAX: usize = 64;

/// Candidates that a word is compared with.
const CANDIDATES_MAX: usize = 1000;

/// A table of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The file itself.
    Root,
    /// `[global]`.
    Global,
    /// `admin` in `[global]`.
    Admin,
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
    /// A password that is kept elsewhere.
    Secret,
}

/// A key and an example of its use.
pub(super) type Key = (&'static str, &'static str);

impl Place {
    /// All tables, the likelier home of a key that several have first.
    pub(super) const ALL: [Self; 23] = [
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

    /// The keys that it may have.
    pub(super) const fn keys(self) -> &'static [Key] {
        match self {
            Self::Root => {
                &[("global", "[global]"), ("frontend", "[[frontend]]"), ("backend", "[[backend]]")]
            }
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
                ("access_log", "access_log = { format = \"json\", to = \"stderr\" }"),
                ("resolver", "resolver = { servers = [\"10.0.0.53:53\"] }"),
            ],
            Self::Admin => &[
                ("socket", "socket = \"/run/ringlane/admin.sock\""),
                ("http", "http = \"127.0.0.1:9000\""),
            ],
            Self::AccessLog => {
                &[("format", "format = \"json\""), ("to", "to = \"file:/var/log/ringlane.log\"")]
            }
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
    pub(super) fn example(self, key: &str) -> &'static str {
        self.keys().iter().find(|(name, _)| *name == key).map_or("", |(_, example)| example)
    }

    /// How it is called in a sentence.
    pub(super) const fn called(self) -> &'static str {
        match self {
            Self::Root => "the file",
            Self::Global => "[global]",
            Self::Admin => "admin in [global]",
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

    fn has(self, key: &str) -> bool {
        self.keys().iter().any(|(name, _)| *name == key)
    }
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

/// Keys of a check, whatever its kind; `check` knows which kind has which.
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
    ("status", "status = \"200-399\""),
    ("body", "body = \"ok\""),
    ("body_regex", "body_regex = \"^(ok|fine)\""),
    ("user", "user = \"monitor\""),
    ("password", "password = { file = \"/etc/ringlane/check.pass\" }"),
    ("database", "database = \"postgres\""),
    ("tls", "tls = \"require\""),
    ("server_name", "server_name = \"db.example.org\""),
    ("ca", "ca = \"/etc/ringlane/ca.pem\""),
    ("verify", "verify = false"),
    ("alpn", "alpn = [\"h2\", \"http/1.1\"]"),
    ("min_days", "min_days = 14"),
    ("command", "command = [\"/usr/local/bin/check-it\", \"--quick\"]"),
    ("send", "send = \"state\\n\""),
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

const SECRET: &[Key] =
    &[("file", "file = \"/etc/ringlane/check.pass\""), ("env", "env = \"CHECK_PASS\"")];

/// Words of other balancers with ours, most fitting first; one counts where its table has the key.
const FOREIGN: &[(&[&str], &[&str])] = &[
    (&["upstream", "cluster", "pool", "service", "target_group", "use_backend"], &["backend"]),
    (&["default_backend", "proxy_pass", "to_backend"], &["backend"]),
    (&["listener", "entrypoint", "proxy", "virtual_server", "vip"], &["frontend", "bind"]),
    (&["listen", "port", "ports", "listen_on"], &["bind", "frontend", "address"]),
    (
        &["host", "target", "endpoint", "addr", "ip", "url", "node", "uri", "real", "peer"],
        &["address", "bind", "server"],
    ),
    (
        &[
            "servers",
            "hosts",
            "targets",
            "endpoints",
            "nodes",
            "members",
            "member",
            "peers",
            "reals",
        ],
        &["server"],
    ),
    (&["maxconn", "max_conn", "max_conns", "max_clients", "connections"], &["max_connections"]),
    (&["connection_limit", "worker_connections", "maxconnections"], &["max_connections"]),
    (&["algorithm", "lb", "method", "lb_policy", "lb_method", "load_balancing"], &["balance"]),
    (&["policy", "scheduler", "strategy", "load_balancer"], &["balance"]),
    (&["protocol", "proto", "type", "kind"], &["mode"]),
    (&["workers", "threads", "worker_processes", "nbthread", "nbproc", "cores"], &["shards"]),
    (&["worker", "thread", "cpus", "concurrency", "processes"], &["shards"]),
    (&["cpu_affinity", "cpu_map", "affinity", "worker_cpu_affinity"], &["pin"]),
    (&["stats", "api", "metrics", "dashboard", "status"], &["admin", "http"]),
    (&["uid", "run_as"], &["user"]),
    (&["gid"], &["group"]),
    (&["log", "logs", "logging", "accesslog"], &["access_log"]),
    (&["grace", "lame_duck", "pre_stop", "drain_delay"], &["shutdown_delay"]),
    (&["graceful_timeout", "shutdown_timeout", "hard_stop_after"], &["drain_timeout"]),
    (&["timeouts", "timeout_idle", "idle_timeout", "proxy_timeout"], &["timeout", "idle"]),
    (&["connect_timeout", "timeout_connect", "proxy_connect_timeout"], &["timeout", "connect"]),
    (&["timeout_client", "client_timeout"], &["timeout", "client"]),
    (&["timeout_server", "server_timeout"], &["timeout", "server"]),
    (&["file", "path", "destination", "output", "target"], &["to", "socket"]),
    (&["unix", "sock"], &["socket"]),
    (&["tcp", "listen", "bind", "address", "port"], &["http"]),
    (&["id", "label", "title"], &["name"]),
    (&["tcpka", "clitcpka", "srvtcpka", "so_keepalive", "tcp_keepalive"], &["keepalive", "tcp"]),
    (&["keepalive_timeout", "keepidle"], &["idle"]),
    (&["tcp_user_timeout", "tcp_ut"], &["user_timeout", "tcp"]),
    (&["tfo", "fastopen", "tcp_fastopen"], &["fast_open", "tcp"]),
    (&["fwmark", "so_mark", "set_mark"], &["mark", "tcp"]),
    (&["tos", "qos", "set_tos"], &["dscp", "tcp"]),
    (&["proxy_bind", "bind_address", "source_address", "outgoing_address"], &["source"]),
    (&["usesrc", "tproxy", "source_transparent"], &["transparent"]),
    (&["tcp_congestion", "congestion_control", "cc"], &["congestion"]),
    (&["splice", "splicing", "option_splice"], &["path"]),
    (&["priority", "share", "load"], &["weight"]),
    (&["spare", "standby", "reserve", "fallback"], &["backup"]),
    (&["health_check", "healthcheck", "option_httpchk", "option"], &["check"]),
    (&["inter", "check_interval"], &["interval", "check"]),
    (&["fastinter", "fast_inter", "downinter"], &["fast_interval", "check"]),
    (&["fails", "max_fails", "unhealthy_threshold"], &["fall", "check"]),
    (&["passes", "healthy_threshold"], &["rise", "check"]),
    (&["uri", "url"], &["path"]),
    (&["slowstart", "warmup"], &["slow_start"]),
    (&["proxy_protocol", "expect_proxy"], &["accept_proxy", "send_proxy"]),
    (&["send_proxy_v2", "send_proxy_protocol"], &["send_proxy"]),
    (&["tlvs", "proxy_v2_options", "options"], &["details"]),
    (&["bwlim", "bwlim_in", "bwlim_out", "limit_rate", "throttle"], &["bandwidth"]),
    (&["proxy_download_rate", "proxy_upload_rate"], &["bandwidth"]),
    (&["shadow", "mirroring", "request_mirror_policies", "tee"], &["mirror"]),
    (&["on_marked_down", "on_error"], &["on_down"]),
    (&["max_replication_lag", "maximum_lag"], &["max_lag"]),
    (&["observe", "outlier_detection", "passive_health_check"], &["outlier"]),
    (&["consecutive_5xx", "consecutive_errors", "error_limit", "max_fails"], &["failures"]),
    (&["base_ejection_time", "fail_timeout"], &["base"]),
    (&["max_ejection_time"], &["max"]),
    (&["max_ejection_percent"], &["share"]),
    (&["panic_threshold", "healthy_panic_threshold"], &["fail_open"]),
    (&["target_session_attrs", "read_write"], &["role"]),
    (&["stick_table", "sticky", "stick", "stickiness", "session_affinity"], &["affinity"]),
    (&["persistence", "session_persistence", "persist"], &["affinity"]),
    (&["hash_key", "hash_on", "hash_type", "hash_policy"], &["hash"]),
    (&["hash_balance_factor", "balance_factor", "load_factor"], &["bounded_load"]),
    (&["rate_limit", "rate_limit_sessions", "conn_rate", "limit_req"], &["rate"]),
    (&["limit_conn", "per_ip", "client_limits", "per_source"], &["per_client"]),
    (&["whitelist", "allowlist", "except", "allow_list"], &["allow"]),
    (&["routes", "rules", "acl", "match", "use_backend_if"], &["route"]),
    (&["server_name", "servername", "req_ssl_sni", "hostname", "hosts"], &["sni"]),
    (&["inspect_delay", "preread_timeout", "greeting_timeout"], &["greeting", "timeout"]),
    (&["ssl_preread", "tls_inspector", "app", "application"], &["protocol"]),
    (&["max_queue", "maxqueue", "timeout_queue", "pending"], &["queue"]),
    (&["expire", "timeout", "ttl_seconds"], &["ttl"]),
    (&["entries", "max_entries", "capacity"], &["size"]),
    (&["resolvers", "dns", "nameserver", "nameservers"], &["servers", "resolver"]),
    (&["hold_valid", "hold_nx", "keep"], &["hold"]),
    (&["server_template", "instances", "count"], &["slots"]),
    (&["settings", "main", "general", "process", "defaults"], &["global"]),
];

/// Words that this balancer will know, or that ask for what it does not do yet.
const LATER: &[(&[&str], &str)] =
    &[(&["tls", "ssl", "cert", "certificate", "certificates"], "tls")];

/// The key of `place` that an unknown word stands for, if that is plain.
pub(super) fn meant(place: Place, word: &str) -> Option<&'static str> {
    let plain = plain(word);
    let key = |key: &str| place.keys().iter().map(|(name, _)| *name).find(|name| *name == key);
    if let Some(same) = key(&plain) {
        return Some(same);
    }
    let theirs = FOREIGN.iter().filter(|(words, _)| words.contains(&plain.as_str()));
    if let Some(ours) = theirs.flat_map(|(_, ours)| *ours).find_map(|ours| key(ours)) {
        return Some(ours);
    }
    if elsewhere(&plain).is_some() || later(&plain).is_some() {
        return None;
    }
    nearest(&plain, place.keys().iter().map(|(name, _)| *name))
}

/// What to say about a key that `place` does not have.
pub(super) fn hint_for_key(place: Place, word: &str) -> String {
    let plain = plain(word);
    if let Some(key) = meant(place, word) {
        let is_foreign = FOREIGN.iter().any(|(words, _)| words.contains(&plain.as_str()));
        return match (key == plain, is_foreign) {
            (true, _) => format!("this key is written {key}"),
            (_, true) => {
                format!("this balancer says {}: {}", quoted(key), place.example(key))
            }
            _ => format!("did you mean {}?", quoted(key)),
        };
    }
    if let Some(ours) = later(&plain) {
        return format!("this version has no {ours}; remove the key");
    }
    if let Some(other) = elsewhere(&plain) {
        return format!("{plain} is a key of {}", other.called());
    }
    let known: Vec<&str> = place.keys().iter().map(|(name, _)| *name).collect();
    format!("{} may have {}", place.called(), listed(&known))
}

/// A word as our keys are written.
pub(super) fn plain(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// The table that has this key.
fn elsewhere(key: &str) -> Option<Place> {
    Place::ALL.into_iter().find(|place| *place != Place::Root && place.has(key))
}

/// What a word asks for that this version does not have.
fn later(word: &str) -> Option<&'static str> {
    LATER.iter().find(|(words, _)| words.contains(&word)).map(|(_, ours)| *ours)
}

/// The candidate that `word` was most likely meant to be, if any is near.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > COMPARED_MAX {
        return None;
    }
    let near = (word.chars().count() / 3).max(1);
    candidates
        .take(CANDIDATES_MAX)
        .filter(|candidate| candidate.len() <= COMPARED_MAX && !candidate.is_empty())
        .map(|candidate| (damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= near && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`.
pub(super) fn listed<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_words_of_others_with_ours() {
        for (place, word, hint) in [
            (Place::Root, "upstream", "this balancer says \"backend\": [[backend]]"),
            (Place::Root, "cluster", "this balancer says \"backend\": [[backend]]"),
            (Place::Frontend, "pool", "says \"backend\""),
            (Place::Frontend, "service", "says \"backend\""),
            (Place::Frontend, "listen", "says \"bind\""),
            (Place::Frontend, "port", "says \"bind\""),
            (Place::Server, "host", "says \"address\""),
            (Place::Server, "target", "says \"address\""),
            (Place::Server, "endpoint", "says \"address\""),
            (Place::Server, "addr", "says \"address\""),
            (Place::Server, "node", "says \"address\""),
            (Place::Backend, "node", "says \"server\""),
            (Place::Frontend, "maxconn", "says \"max_connections\""),
            (Place::Global, "max-conn", "says \"max_connections\""),
            (Place::Backend, "algorithm", "says \"balance\""),
            (Place::Backend, "lb", "says \"balance\""),
            (Place::Backend, "method", "says \"balance\""),
            (Place::Global, "workers", "says \"shards\""),
            (Place::Frontend, "connect_timeout", "says \"timeout\""),
        ] {
            let found = hint_for_key(place, word);
            assert!(found.contains(hint), "{word} in {place:?}: {found}");
        }
    }

    #[test]
    fn finds_the_nearest_key_and_the_right_table() {
        for (place, word, hint) in [
            (Place::Frontend, "backnd", "did you mean \"backend\"?"),
            (Place::Frontend, "Max-Connections", "written max_connections"),
            (Place::Backend, "servers", "says \"server\""),
            (Place::Frontend, "balance", "balance is a key of [[backend]]"),
            (Place::Backend, "bind", "bind is a key of [[frontend]]"),
            (Place::Root, "server", "server is a key of [[backend]]"),
            (Place::Root, "shards", "shards is a key of [global]"),
            (Place::Check, "inter", "this balancer says \"interval\""),
            (Place::Backend, "role", "role is a key of [[frontend]]"),
            (Place::Backend, "rise", "rise is a key of check in [[backend]]"),
            (Place::Admin, "xyzzy", "admin in [global] may have socket or http"),
        ] {
            let found = hint_for_key(place, word);
            assert!(found.contains(hint), "{word} in {place:?}: {found}");
        }
    }
}
