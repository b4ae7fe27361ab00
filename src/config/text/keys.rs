//! The keys of each table: name, example, and what a changed value does at a reload.
//!
//! The only list of keys: readers use it, hints quote its examples, and tests compare the
//! documentation of keys and of their effects with it. Not here: which table is inside which
//! (`schema`), what effects mean (`effect`).

use super::effect::Effect::{self, All, Check, Forgets, Listener, New, Process, Refused};

/// A key.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Key {
    pub(in crate::config) name: &'static str,
    /// An example of its use.
    pub(in crate::config) example: &'static str,
    pub(in crate::config) on_reload: OnReload,
}

/// What a changed value of a key does at a reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) enum OnReload {
    /// This.
    Has(Effect),
    /// What the key does that holds its table.
    AsHolder,
    /// It holds a table, and an empty one is the same as none: its keys have effects.
    Container,
    /// It names the object, so another value is another object.
    Identity,
}

/// Why `driver` is refused.
const DRIVER_STAYS: &str = "shards can't change their driver: restart";

/// Why `shards` is refused.
const SHARDS_STAY: &str = "the number of shards is fixed at the start: restart";

/// Why `pin` is refused.
const PIN_STAYS: &str = "shards stay on their cores: restart";

/// Why `admin` is refused.
const ADMIN_STAYS: &str = "the admin sockets stay as they are: restart";

/// Why `log` is refused.
const LOG_STAYS: &str = "the process log stays as it is: restart";

/// Why `user` and `group` are refused.
const USER_STAYS: &str = "only root may change it, and root was given up at the start: restart";

const fn key(name: &'static str, example: &'static str, effect: Effect) -> Key {
    Key { name, example, on_reload: OnReload::Has(effect) }
}

const fn as_holder(name: &'static str, example: &'static str) -> Key {
    Key { name, example, on_reload: OnReload::AsHolder }
}

const fn container(name: &'static str, example: &'static str) -> Key {
    Key { name, example, on_reload: OnReload::Container }
}

const fn identity(name: &'static str, example: &'static str) -> Key {
    Key { name, example, on_reload: OnReload::Identity }
}

/// The file itself.
pub(super) const ROOT: &[Key] = &[
    container("include", "include = [\"conf.d/*.toml\"]"),
    container("global", "[global]"),
    container("frontend", "[[frontend]]"),
    container("backend", "[[backend]]"),
];

/// `[global]`.
pub(super) const GLOBAL: &[Key] = &[
    key("shards", "shards = \"auto\"", Refused(SHARDS_STAY)),
    key("driver", "driver = \"auto\"", Refused(DRIVER_STAYS)),
    key("pin", "pin = true", Refused(PIN_STAYS)),
    key("admin", "admin = { socket = \"/run/ringlane/admin.sock\" }", Refused(ADMIN_STAYS)),
    key("user", "user = \"ringlane\"", Refused(USER_STAYS)),
    key("group", "group = \"ringlane\"", Refused(USER_STAYS)),
    key("max_connections", "max_connections = 100000", All),
    key("shutdown_delay", "shutdown_delay = \"10s\"", Process),
    key("drain_timeout", "drain_timeout = \"30s\"", Process),
    key("log", "log = { level = \"info\", to = \"stderr\" }", Refused(LOG_STAYS)),
    key("access_log", "access_log = { format = \"json\", to = \"stderr\" }", New),
    key("resolver", "resolver = { servers = [\"10.0.0.53:53\"] }", Process),
];

/// `admin` in `[global]`.
pub(super) const ADMIN: &[Key] = &[
    key("socket", "socket = \"/run/ringlane/admin.sock\"", Refused(ADMIN_STAYS)),
    key("http", "http = \"127.0.0.1:9000\"", Refused(ADMIN_STAYS)),
    key(
        "tokens",
        "tokens = [{ name = \"prometheus\", secret = { file = \"/etc/ringlane/prometheus.token\" } }]",
        Refused(ADMIN_STAYS),
    ),
    key("allow_hosts", "allow_hosts = [\"lb1.example.org\"]", Refused(ADMIN_STAYS)),
];

/// `socket` in `admin`, as a table.
pub(super) const ADMIN_SOCKET: &[Key] = &[
    key("path", "path = \"/run/ringlane/admin.sock\"", Refused(ADMIN_STAYS)),
    key("mode", "mode = \"0660\"", Refused(ADMIN_STAYS)),
    key("owner", "owner = \"ringlane\"", Refused(ADMIN_STAYS)),
    key("group", "group = \"operators\"", Refused(ADMIN_STAYS)),
];

/// An entry of `tokens` in `admin`.
pub(super) const TOKEN: &[Key] = &[
    key("name", "name = \"prometheus\"", Refused(ADMIN_STAYS)),
    key("secret", "secret = { file = \"/etc/ringlane/prometheus.token\" }", Refused(ADMIN_STAYS)),
    key("role", "role = \"read\"", Refused(ADMIN_STAYS)),
];

/// `log` in `[global]`.
pub(super) const LOG: &[Key] = &[
    key("level", "level = \"info\"", Refused(LOG_STAYS)),
    key("format", "format = \"json\"", Refused(LOG_STAYS)),
    key("to", "to = \"stderr\"", Refused(LOG_STAYS)),
];

/// `access_log` in `[global]`.
pub(super) const ACCESS_LOG: &[Key] = &[
    key("format", "format = \"json\"", Process),
    key("to", "to = \"file:/var/log/ringlane.log\"", Process),
    key("log_empty", "log_empty = false", Process),
    key("fields", "fields = [\"time\", \"client\", \"server\", \"close\"]", Process),
];

/// `resolver` in `[global]`.
pub(super) const RESOLVER: &[Key] = &[
    key("servers", "servers = [\"10.0.0.53:53\"]", Process),
    key("timeout", "timeout = \"2s\"", Process),
    key("hold", "hold = \"30s\"", Process),
];

/// `[[frontend]]`.
pub(super) const FRONTEND: &[Key] = &[
    identity("name", "name = \"pg-write\""),
    key("bind", "bind = [\"0.0.0.0:5432\", \"[::]:5432\"]", Listener),
    key("mode", "mode = \"tcp\"", New),
    key("backend", "backend = \"postgres\"", New),
    key("max_connections", "max_connections = 10000", All),
    key("timeout", "timeout = { connect = \"2s\", idle = \"1h\" }", New),
    key("congestion", "congestion = \"auto\"", Listener),
    key("tcp", "tcp = { keepalive = true, user_timeout = \"30s\" }", Listener),
    key("transparent", "transparent = true", Listener),
    key("path", "path = \"auto\"", New),
    key("role", "role = \"primary\"", New),
    key("protocol", "protocol = \"tls\"", New),
    key("route", "route = [{ sni = \"db.example.org\", backend = \"postgres\" }]", New),
    key("no_sni", "no_sni = \"reject\"", New),
    key("unmatched", "unmatched = \"reject\"", New),
    key("rate", "rate = 1000", All),
    key("per_client", "per_client = { max_connections = 20, rate = 10 }", All),
    key("priority", "priority = \"high\"", New),
    key("accept_proxy", "accept_proxy = { trusted = [\"10.0.0.0/8\"] }", New),
];

/// `timeout` in `[[frontend]]`.
pub(super) const TIMEOUT: &[Key] = &[
    key("greeting", "greeting = \"5s\"", New),
    key("connect", "connect = \"2s\"", New),
    key("client", "client = \"10m\"", New),
    key("server", "server = \"10m\"", New),
    key("idle", "idle = \"1h\"", New),
    key("fin", "fin = \"30s\"", New),
];

/// `accept_proxy` in `[[frontend]]`.
pub(super) const ACCEPT_PROXY: &[Key] =
    &[key("trusted", "trusted = [\"10.0.0.0/8\"]", New), key("timeout", "timeout = \"5s\"", New)];

/// One entry of `route` in `[[frontend]]`.
pub(super) const ROUTE: &[Key] = &[
    key("sni", "sni = [\"db.example.org\", \"*.eu.example.org\"]", New),
    key("alpn", "alpn = \"h2\"", New),
    key("user", "user = \"report\"", New),
    key("database", "database = \"shop\"", New),
    key("backend", "backend = \"postgres\"", New),
    key("role", "role = \"replica\"", New),
];

/// `per_client` in `[[frontend]]`.
pub(super) const PER_CLIENT: &[Key] = &[
    key("max_connections", "max_connections = 20", All),
    key("rate", "rate = 10", All),
    key("burst", "burst = 20", All),
    key("allow", "allow = [\"10.0.0.0/8\"]", New),
    key("size", "size = 100000", Forgets),
    key("refuse", "refuse = \"reset\"", New),
];

/// `tcp` in `[[frontend]]` and `[[backend]]`.
pub(super) const TCP: &[Key] = &[
    as_holder("keepalive", "keepalive = { idle = \"60s\", interval = \"10s\", count = 5 }"),
    as_holder("user_timeout", "user_timeout = \"30s\""),
    as_holder("fast_open", "fast_open = true"),
    as_holder("mark", "mark = 7"),
    as_holder("dscp", "dscp = \"af21\""),
];

/// `keepalive` in `tcp`.
pub(super) const KEEPALIVE: &[Key] = &[
    as_holder("idle", "idle = \"60s\""),
    as_holder("interval", "interval = \"10s\""),
    as_holder("count", "count = 5"),
];

/// `[[backend]]`. The order of servers matters for `balance = "first"`.
pub(super) const BACKEND: &[Key] = &[
    identity("name", "name = \"postgres\""),
    key("balance", "balance = \"least_conn\"", New),
    key("hash", "hash = \"client_ip\"", New),
    key("bounded_load", "bounded_load = 1.25", New),
    key("affinity", "affinity = { key = \"client_ip\", ttl = \"30m\", size = 100000 }", Forgets),
    key("congestion", "congestion = \"auto\"", New),
    key("tcp", "tcp = { keepalive = true, user_timeout = \"30s\" }", New),
    key("source", "source = \"10.0.0.5\"", New),
    key("source_ports", "source_ports = \"20000-29999\"", New),
    key("transparent", "transparent = true", New),
    key("send_proxy", "send_proxy = \"v2\"", New),
    key("race_after", "race_after = \"100ms\"", New),
    key("queue", "queue = { size = 1024, timeout = \"5s\" }", All),
    container("bandwidth", "bandwidth = { per_session = \"10Mbit\", per_backend = \"1Gbit\" }"),
    key("mirror", "mirror = { server = \"10.0.0.99:5432\", share = 0.01 }", New),
    key("server", "server = [{ name = \"pg1\", address = \"10.0.0.11:5432\" }]", New),
    key("check", "check = { kind = \"tcp\", interval = \"2s\", rise = 2, fall = 3 }", Check),
    key("max_lag", "max_lag = \"10s\"", All),
    key("on_conflict", "on_conflict = \"stop\"", All),
    key("on_down", "on_down = \"fence\"", All),
    key("on_role_change", "on_role_change = \"fence\"", All),
    key("on_lag", "on_lag = \"drain\"", All),
    key("on_drain", "on_drain = \"drain\"", All),
    key("drain_idle", "drain_idle = \"1s\"", New),
    key("slow_start", "slow_start = \"30s\"", All),
    key("fail_open", "fail_open = 50", All),
    key("outlier", "outlier = { failures = 5, base = \"30s\", max = \"5m\", share = 50 }", All),
];

/// One entry of `server` in `[[backend]]`.
pub(super) const SERVER: &[Key] = &[
    identity("name", "name = \"pg1\""),
    key("address", "address = \"10.0.0.11:5432\"", New),
    key("weight", "weight = 10", All),
    key("backup", "backup = true", All),
    key("max_connections", "max_connections = 500", All),
    key("slots", "slots = 4", All),
    key("check_address", "check_address = \"10.0.0.11:8008\"", Check),
    key("state", "state = \"maint\"", All),
];

/// `affinity` in `[[backend]]`.
pub(super) const AFFINITY: &[Key] = &[
    key("key", "key = \"client_ip\"", Forgets),
    key("ttl", "ttl = \"30m\"", New),
    key("size", "size = 100000", Forgets),
];

/// `queue` in `[[backend]]`.
pub(super) const QUEUE: &[Key] =
    &[key("size", "size = 1024", All), key("timeout", "timeout = \"5s\"", New)];

/// `check` in `[[backend]]`, for all kinds; `read::check` has the keys of each kind.
pub(super) const CHECK: &[Key] = &[
    key("kind", "kind = \"tcp\"", Check),
    key("interval", "interval = \"2s\"", Check),
    key("fast_interval", "fast_interval = \"500ms\"", Check),
    key("timeout", "timeout = \"1s\"", Check),
    key("rise", "rise = 2", Check),
    key("fall", "fall = 3", Check),
    key("address", "address = \"10.0.0.9\"", Check),
    key("port", "port = 8008", Check),
    key("steps", "steps = [{ send = \"PING\\r\\n\" }, { expect = \"+PONG\" }]", Check),
    key("method", "method = \"HEAD\"", Check),
    key("path", "path = \"/health\"", Check),
    key("host", "host = \"www.example.org\"", Check),
    key("version", "version = \"1.0\"", Check),
    key("status", "status = \"200-399\"", Check),
    key("body", "body = \"ok\"", Check),
    key("body_regex", "body_regex = \"^(ok|fine)\"", Check),
    key("user", "user = \"monitor\"", Check),
    key("password", "password = { file = \"/etc/ringlane/check.pass\" }", Check),
    key("database", "database = \"postgres\"", Check),
    key("login", "login = \"kept\"", Check),
    key("tls", "tls = \"require\"", Check),
    key("server_name", "server_name = \"db.example.org\"", Check),
    key("ca", "ca = \"/etc/ringlane/ca.pem\"", Check),
    key("verify", "verify = false", Check),
    key("alpn", "alpn = [\"h2\", \"http/1.1\"]", Check),
    key("min_days", "min_days = 14", Check),
    key("command", "command = [\"/usr/local/bin/check-it\", \"--quick\"]", Check),
    key("send", "send = \"state\\n\"", Check),
    key("send_proxy", "send_proxy = false", Check),
    key("source", "source = false", Check),
    key("tcp", "tcp = false", Check),
];

/// One entry of `steps` in a check.
pub(super) const STEP: &[Key] = &[
    key("send", "send = \"PING\\r\\n\"", Check),
    key("send_hex", "send_hex = \"0d 0a\"", Check),
    key("expect", "expect = \"+PONG\"", Check),
    key("expect_hex", "expect_hex = \"2b\"", Check),
];

/// A password that is a table.
pub(super) const SECRET: &[Key] = &[
    key("file", "file = \"/etc/ringlane/check.pass\"", Check),
    key("env", "env = \"CHECK_PASS\"", Check),
    key("credential", "credential = \"check-pass\"", Check),
    key("text", "text = \"…\"", Check),
];

/// `outlier` in `[[backend]]`.
pub(super) const OUTLIER: &[Key] = &[
    key("failures", "failures = 5", All),
    key("interval", "interval = \"10s\"", All),
    key("base", "base = \"30s\"", All),
    key("max", "max = \"5m\"", All),
    key("share", "share = 50", All),
    key("retransmits", "retransmits = 10", All),
    key("first_byte", "first_byte = \"2s\"", All),
];

/// `send_proxy` in `[[backend]]`.
pub(super) const SEND_PROXY: &[Key] =
    &[key("version", "version = \"v2\"", New), key("details", "details = [\"authority\"]", New)];

/// `bandwidth` in `[[backend]]`.
pub(super) const BANDWIDTH: &[Key] = &[
    key("per_session", "per_session = \"10Mbit\"", New),
    key("per_backend", "per_backend = \"1Gbit\"", All),
];

/// `mirror` in `[[backend]]`.
pub(super) const MIRROR: &[Key] =
    &[key("server", "server = \"10.0.0.99:5432\"", New), key("share", "share = 0.01", New)];
