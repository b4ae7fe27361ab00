//! A file with as many keys as go together, and another value for each of them.
//!
//! Not here: what an edit must show (`differences`).

/// The base of most edits.
pub(super) const BASE: &str = r#"
[global]
max_connections = 1000
admin = { socket = "/run/a.sock" }
access_log = { format = "json" }
[[frontend]]
name = "a"
bind = ["127.0.0.1:80", "127.0.0.1:81"]
backend = "pg"
protocol = "postgres"
route = [{ sni = "x", backend = "pg" }]
per_client = { rate = 10 }
accept_proxy = { trusted = ["10.0.0.0/8"] }
tcp = { keepalive = { idle = "60s" } }
[[backend]]
name = "pg"
balance = "maglev"
affinity = { ttl = "1h" }
queue = { size = 10 }
outlier = { failures = 3 }
mirror = { server = "10.0.0.99:5432" }
send_proxy = { version = "v2" }
max_lag = "10s"
on_drain = "drain"
check = { kind = "postgres", password = { file = "/a" } }
server = [{ address = "db.example:5432", name = "one" }, { address = "10.0.0.2:5432", name = "two" }]
[[backend]]
name = "other"
server = [{ address = "10.0.0.3:5432" }]
"#;

/// Another value for each key of the base.
pub(super) const EDITS: &[(&str, &str)] = &[
    ("global.shards", "3"),
    ("global.driver", "\"epoll\""),
    ("global.pin", "false"),
    ("global.user", "\"u\""),
    ("global.group", "\"g\""),
    ("global.max_connections", "2000"),
    ("global.shutdown_delay", "\"5s\""),
    ("global.drain_timeout", "\"5s\""),
    ("global.admin.socket", "\"/run/b.sock\""),
    ("global.admin.http", "\"127.0.0.1:9000\""),
    (
        "global.admin.socket",
        "{ path = \"/run/b.sock\", mode = \"0600\", owner = \"a\", group = \"b\" }",
    ),
    ("global.admin.tokens", "[{ name = \"a\", role = \"write\", secret = { file = \"/a\" } }]"),
    ("global.admin.allow_hosts", "[\"lb1\"]"),
    ("global.log.level", "\"error\""),
    ("global.log.format", "\"json\""),
    ("global.log.to", "\"file:/tmp/x\""),
    ("global.access_log.format", "\"text\""),
    ("global.access_log.to", "\"file:/tmp/y\""),
    ("global.access_log.log_empty", "false"),
    ("global.access_log.fields", "[\"time\"]"),
    ("global.resolver.servers", "[\"127.0.0.1\"]"),
    ("global.resolver.timeout", "\"3s\""),
    ("global.resolver.hold", "\"1m\""),
    ("frontend.bind", "\"127.0.0.1:81\""),
    ("frontend.backend", "\"other\""),
    ("frontend.max_connections", "5"),
    ("frontend.timeout.greeting", "\"1s\""),
    ("frontend.timeout.connect", "\"1s\""),
    ("frontend.timeout.client", "\"1s\""),
    ("frontend.timeout.server", "\"1s\""),
    ("frontend.timeout.idle", "\"1s\""),
    ("frontend.timeout.fin", "\"1s\""),
    ("frontend.congestion", "\"host\""),
    ("frontend.tcp.keepalive.idle", "\"30s\""),
    ("frontend.tcp.keepalive.interval", "\"30s\""),
    ("frontend.tcp.keepalive.count", "3"),
    ("frontend.tcp.keepalive", "false"),
    ("frontend.tcp.user_timeout", "\"30s\""),
    ("frontend.tcp.fast_open", "true"),
    ("frontend.tcp.mark", "7"),
    ("frontend.tcp.dscp", "\"af21\""),
    ("frontend.transparent", "true"),
    ("frontend.path", "\"copy\""),
    ("frontend.role", "\"primary\""),
    ("frontend.protocol", "\"tls\""),
    ("frontend.route", "[{ sni = \"x\", user = \"u\", database = \"x\", backend = \"other\" }]"),
    ("frontend.no_sni", "\"reject\""),
    ("frontend.unmatched", "\"reject\""),
    ("frontend.rate", "5"),
    ("frontend.per_client.max_connections", "5"),
    ("frontend.per_client.rate", "5.5"),
    ("frontend.per_client.burst", "50"),
    ("frontend.per_client.allow", "[\"10.0.0.0/8\"]"),
    ("frontend.per_client.size", "5"),
    ("frontend.per_client.refuse", "\"close\""),
    ("frontend.priority", "\"low\""),
    ("frontend.accept_proxy.trusted", "[\"10.0.0.0/9\"]"),
    ("frontend.accept_proxy.timeout", "\"1s\""),
    ("frontend.accept_proxy", "true"),
    ("backend.balance", "\"ring_hash\""),
    ("backend.hash", "\"client\""),
    ("backend.bounded_load", "1.5"),
    ("backend.affinity.key", "\"sni\""),
    ("backend.affinity.ttl", "\"2h\""),
    ("backend.affinity.size", "5"),
    ("backend.congestion", "\"host\""),
    ("backend.tcp.mark", "5"),
    ("backend.source", "\"10.0.0.5\""),
    ("backend.source_ports", "\"20000-20010\""),
    ("backend.transparent", "true"),
    ("backend.send_proxy.version", "\"v1\""),
    ("backend.send_proxy.details", "[\"alpn\"]"),
    ("backend.race_after", "\"50ms\""),
    ("backend.queue.size", "5"),
    ("backend.queue.timeout", "\"5s\""),
    ("backend.bandwidth.per_session", "\"10Mbit\""),
    ("backend.bandwidth.per_backend", "\"10Mbit\""),
    ("backend.mirror.server", "\"10.0.0.98:5432\""),
    ("backend.mirror.share", "0.5"),
    ("backend.max_lag", "\"20s\""),
    ("backend.on_conflict", "\"first\""),
    ("backend.on_down", "\"fence\""),
    ("backend.on_role_change", "\"fence\""),
    ("backend.on_lag", "\"drain\""),
    ("backend.on_drain", "\"fence\""),
    ("backend.drain_idle", "\"5s\""),
    ("backend.slow_start", "\"5s\""),
    ("backend.fail_open", "5"),
    ("backend.outlier.failures", "5"),
    ("backend.outlier.interval", "\"5s\""),
    ("backend.outlier.base", "\"5s\""),
    ("backend.outlier.max", "\"10m\""),
    ("backend.outlier.share", "5"),
    ("backend.outlier.retransmits", "5"),
    ("backend.outlier.first_byte", "\"5s\""),
    ("backend.check.interval", "\"5s\""),
    ("backend.check.fast_interval", "\"1s\""),
    ("backend.check.timeout", "\"1s\""),
    ("backend.check.rise", "5"),
    ("backend.check.fall", "5"),
    ("backend.check.address", "\"10.0.0.9\""),
    ("backend.check.port", "5"),
    ("backend.check.user", "\"u\""),
    ("backend.check.password", "\"p\""),
    ("backend.check.password.file", "\"/b\""),
    ("backend.check.database", "\"d\""),
    ("backend.check.login", "\"kept\""),
    ("backend.check.tls", "\"require\""),
    ("backend.check.send_proxy", "false"),
    ("backend.check.source", "false"),
    ("backend.check.tcp", "false"),
    ("server.address", "\"db.example:5433\""),
    ("server.weight", "5"),
    ("server.backup", "true"),
    ("server.max_connections", "5"),
    ("server.slots", "2"),
    ("server.check_address", "\"10.0.0.9:5\""),
    ("server.state", "\"maint\""),
];

/// Checks of other kinds, and another value for each of their keys.
pub(super) const CHECKS: &[(&str, &[(&str, &str)])] = &[
    ("kind = \"tcp\"", &[("kind", "\"tls\"")]),
    (
        "kind = \"tcp\", steps = [{ send = \"a\" }]",
        &[
            ("steps", "[{ send = \"b\" }]"),
            ("steps", "[{ send = \"a\" }, { expect = \"a\" }]"),
            ("steps", "[{ send_hex = \"00\" }, { expect_hex = \"00\" }]"),
        ],
    ),
    (
        "kind = \"http\"",
        &[
            ("method", "\"HEAD\""),
            ("path", "\"/x\""),
            ("host", "\"x\""),
            ("version", "\"1.0\""),
            ("status", "\"200\""),
            ("body", "\"ok\""),
            ("body_regex", "\"^ok\""),
            ("tls", "true"),
        ],
    ),
    (
        "kind = \"tls\"",
        &[
            ("server_name", "\"a.b\""),
            ("ca", "\"/a\""),
            ("verify", "false"),
            ("alpn", "[\"h2\"]"),
            ("min_days", "5"),
        ],
    ),
    ("kind = \"exec\", command = [\"/a\"]", &[("command", "[\"/a\", \"b\"]")]),
    ("kind = \"agent\"", &[("send", "\"x\"")]),
    (
        "kind = \"redis\", password = \"a\"",
        &[
            ("password", "\"b\""),
            ("password", "{ env = \"B\" }"),
            ("password", "{ credential = \"b\" }"),
        ],
    ),
];
