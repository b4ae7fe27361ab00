//! Files that are accepted, and the resulting configuration.

use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::machine::Congestion;
use ringlane_core::settings::{self, Affinity, BalanceKind, HashKey, LoadBound, Timeout};

use super::super::{
    AccessLog, Admin, AdminSocketFile, Config, Global, Log, LogDestination, LogField, LogFormat,
    LogLevel, Lookup, Name, Resolver, Secret, ShardCount, Token, TokenRole, load,
};
use super::{backend, frontend, parse};

pub(super) const EVERYTHING: &str = r#"
[global]
shards = 4
pin = false
user = "ringlane"
group = "lane"
max_connections = 100_000
shutdown_delay = "10s"
drain_timeout = "1m30s"
driver = "epoll"
log = { level = "debug", format = "json", to = "syslog:/dev/log" }
access_log = { format = "json", to = "file:/var/log/ringlane.log", log_empty = false }
resolver = { servers = ["127.0.0.1:5353", "::1"], timeout = "500ms", hold = "1m" }

[global.admin]
socket = { path = "/run/ringlane/admin.sock", mode = "0600", owner = "ringlane", group = "ops" }
http = "127.0.0.1:9000"
tokens = [
  { name = "prometheus", secret = { file = "/etc/ringlane/prometheus.token" } },
  { name = "deploy", secret = { env = "DEPLOY_TOKEN" }, role = "write" },
]
allow_hosts = ["LB1.example.org."]

[[frontend]]
name = "pg-write"
bind = ["0.0.0.0:5432", "[::]:5432", "unix:/run/pg.sock"]
mode = "tcp"
backend = "postgres"
max_connections = 10000
timeout = { connect = "2s", client = "3m", server = "4m" }
congestion = "host"
path = "splice"

[[frontend]]
name = "cache"
bind = "127.0.0.1:6379"
backend = "redis"
timeout = { idle = "10m", client = "500ms" }

[[backend]]
name = "redis"
balance = "maglev"
bounded_load = 1.25
hash = "client"
affinity = { key = "client", ttl = "10m", size = 5000 }
congestion = "cubic"

[[backend.server]]
name = "r1"
address = "unix:/run/redis.sock"
max_connections = 50

[[backend.server]]
address = "[::1]:6379"
weight = 0

[[backend]]
name = "postgres"
balance = "least_conn"
server = [
  { name = "pg1", address = "10.0.0.11:5432", weight = 1000 },
  { address = "db.example:5432", backup = true },
]
"#;

/// The admin API of it.
fn admin() -> Admin {
    Admin {
        socket: Some("/run/ringlane/admin.sock".into()),
        socket_file: AdminSocketFile {
            mode: Some(0o600),
            owner: Some("ringlane".to_owned()),
            group: Some("ops".to_owned()),
        },
        http: Some(([127, 0, 0, 1], 9000).into()),
        tokens: vec![
            Token {
                name: "prometheus".to_owned(),
                secret: Secret::File("/etc/ringlane/prometheus.token".into()),
                role: TokenRole::Read,
            },
            Token {
                name: "deploy".to_owned(),
                secret: Secret::Variable("DEPLOY_TOKEN".to_owned()),
                role: TokenRole::Write,
            },
        ],
        allow_hosts: vec!["lb1.example.org".to_owned()],
    }
}

#[test]
fn every_setting_is_read() {
    let config = parse(EVERYTHING).unwrap();
    let global = Global {
        shards: ShardCount::Count(4),
        pin: false,
        admin: admin(),
        user: Some("ringlane".to_owned()),
        group: Some("lane".to_owned()),
        max_connections: Some(100_000),
        driver: crate::config::Driver::Epoll,
        shutdown_delay: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(90),
        log: Log {
            level: LogLevel::Debug,
            format: LogFormat::Json,
            destination: LogDestination::Syslog("/dev/log".into()),
        },
        access_log: Some(AccessLog {
            format: LogFormat::Json,
            destination: LogDestination::File("/var/log/ringlane.log".into()),
            log_empty: false,
            fields: LogField::ALL.to_vec(),
        }),
        resolver: Resolver {
            servers: vec![([127, 0, 0, 1], 5353).into(), (Ipv6Addr::LOCALHOST, 53).into()],
            timeout: Duration::from_millis(500),
            hold: Duration::from_secs(60),
        },
    };
    assert_eq!(config.global, global);
    let snapshot = config.snapshot;
    assert_eq!(
        (snapshot.generation, snapshot.max_connections, snapshot.log_sessions),
        (1, 100_000, true)
    );

    let [write, cache] = snapshot.frontends.as_slice() else { panic!("two frontends") };
    let bind: Vec<String> = write.bind.iter().map(ToString::to_string).collect();
    assert_eq!(bind, ["0.0.0.0:5432", "[::]:5432", "unix:/run/pg.sock"]);
    assert_eq!((write.name.as_str(), write.backend), ("pg-write", BackendId(1)));
    assert_eq!(write.max_connections, 10_000);
    assert_eq!(write.timeout, timeout(2000, 180_000, 240_000));
    assert_eq!((&write.congestion, write.path), (&Congestion::Host, settings::Path::Splice));
    assert_eq!((cache.name.as_str(), cache.backend), ("cache", BackendId(0)));
    assert_eq!(cache.timeout, timeout(5000, 500, 600_000), "idle is for what is not given");

    let [redis, postgres] = snapshot.backends.as_slice() else { panic!("two backends") };
    let balance = BalanceKind::Maglev(Some(LoadBound { percent: 125 }));
    assert_eq!((redis.name.as_str(), redis.balance), ("redis", balance));
    let affinity = Affinity { key: HashKey::Client, ttl: Duration::from_secs(600), size: 5000 };
    assert_eq!((redis.hash, redis.affinity), (HashKey::Client, Some(affinity)));
    let max_connections: Vec<u32> = snapshot.servers.iter().map(|s| s.max_connections).collect();
    assert_eq!(max_connections, [50, u32::MAX, u32::MAX, u32::MAX]);
    assert_eq!(redis.congestion, Congestion::Named("cubic".to_owned()));
    assert_eq!((postgres.first_server.0, postgres.server_count), (2, 2));
    let servers: Vec<(&str, String, u32, bool, u32)> = snapshot
        .servers
        .iter()
        .map(|s| (s, s.address.as_ref().map(ToString::to_string).unwrap_or_default()))
        .map(|(s, address)| (s.name.as_str(), address, s.weight, s.backup, s.backend.0))
        .collect();
    assert_eq!(
        servers,
        [
            ("r1", "unix:/run/redis.sock".to_owned(), 1, false, 0),
            ("[::1]:6379", "[::1]:6379".to_owned(), 0, false, 0),
            ("pg1", "10.0.0.11:5432".to_owned(), 1000, false, 1),
            ("db.example:5432", String::new(), 1, true, 1),
        ]
    );
}

fn timeout(connect: u64, client: u64, server: u64) -> Timeout {
    let [connect, client, server] = [connect, client, server].map(Duration::from_millis);
    Timeout { greeting: Duration::from_secs(5), connect, client, server, fin: None }
}

#[test]
fn defaults_apply_to_all_that_is_not_set() {
    let config = parse(&frontend("")).unwrap();
    assert_eq!(config.global, Global::default());
    assert_eq!(config.global.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.global.shutdown_delay, Duration::ZERO);
    let snapshot = &config.snapshot;
    assert_eq!((snapshot.max_connections, snapshot.log_sessions), (u32::MAX, false));
    let frontend = snapshot.frontend(FrontendId(0));
    assert_eq!(frontend.max_connections, u32::MAX);
    assert_eq!(frontend.timeout, timeout(5000, 3_600_000, 3_600_000));
    assert_eq!((&frontend.congestion, frontend.path), (&Congestion::Auto, settings::Path::Auto));
    let backend = snapshot.backend(frontend.backend);
    assert_eq!(
        (backend.balance, &backend.congestion),
        (BalanceKind::RoundRobin, &Congestion::Auto)
    );
    assert_eq!((backend.hash, backend.affinity), (HashKey::ClientIp, None));
    assert_eq!(snapshot.servers_of(frontend.backend).len(), 1);
}

#[test]
fn balance_policies_and_their_options() {
    let bound = |percent| Some(LoadBound { percent });
    for (lines, balance) in [
        ("balance = \"source\"\nhash = \"client\"", BalanceKind::Source),
        ("balance = \"maglev\"", BalanceKind::Maglev(None)),
        ("balance = \"ring_hash\"\nbounded_load = 2", BalanceKind::RingHash(bound(200))),
        ("balance = \"maglev\"\nbounded_load = 1.05", BalanceKind::Maglev(bound(105))),
        ("balance = \"least_bandwidth\"", BalanceKind::LeastBandwidth),
        ("balance = \"first\"", BalanceKind::First),
    ] {
        let server = "server = [{ address = \"10.0.0.1:5432\" }]";
        let config = parse(&backend(&format!("{lines}\n{server}"))).expect(lines);
        assert_eq!(config.snapshot.backends[0].balance, balance, "{lines}");
    }
    let server = "server = [{ address = \"10.0.0.1:5432\" }]";
    let config = parse(&backend(&format!("affinity = {{}}\n{server}"))).unwrap();
    let default =
        Affinity { key: HashKey::ClientIp, ttl: Duration::from_secs(1800), size: 100_000 };
    assert_eq!(config.snapshot.backends[0].affinity, Some(default));
}

#[test]
fn log_levels_and_destinations() {
    for (lines, level, destination) in [
        ("", LogLevel::Info, LogDestination::Stderr),
        ("log = {}", LogLevel::Info, LogDestination::Stderr),
        ("log = { level = \"error\" }", LogLevel::Error, LogDestination::Stderr),
        (
            "log = { level = \"warning\", to = \"file:/var/log/r.log\" }",
            LogLevel::Warning,
            LogDestination::File("/var/log/r.log".into()),
        ),
    ] {
        let log = parse(&super::global(lines)).expect(lines).global.log;
        assert_eq!(log, Log { level, format: LogFormat::Text, destination }, "{lines}");
    }
}

#[test]
fn shards_and_access_logs() {
    for (lines, shards, access_log) in [
        ("", ShardCount::Auto, None),
        ("shards = \"auto\"", ShardCount::Auto, None),
        ("shards = 256", ShardCount::Count(256), None),
        ("access_log = {}", ShardCount::Auto, Some((LogFormat::Text, LogDestination::Stderr))),
        (
            "access_log = { to = \"syslog:/dev/log\" }",
            ShardCount::Auto,
            Some((LogFormat::Text, LogDestination::Syslog("/dev/log".into()))),
        ),
    ] {
        let global = parse(&super::global(lines)).expect(lines).global;
        let access_log = access_log.map(|(format, destination)| AccessLog {
            format,
            destination,
            log_empty: true,
            fields: LogField::ALL.to_vec(),
        });
        assert_eq!((global.shards, global.access_log), (shards, access_log), "{lines}");
    }
}

#[test]
fn port_0_may_be_bound_any_number_of_times() {
    let text = frontend("").replace("\"127.0.0.1:80\"", "[\"127.0.0.1:0\", \"127.0.0.1:0\"]");
    assert_eq!(parse(&text).unwrap().snapshot.frontends[0].bind.len(), 2);
}

#[test]
fn an_unused_backend_is_no_error() {
    let text =
        frontend("") + "[[backend]]\nname = \"spare\"\nserver = [{ address = \"[::1]:1\" }]\n";
    assert_eq!(parse(&text).unwrap().snapshot.backends.len(), 2);
}

#[test]
fn line_ends_and_byte_order_marks_of_windows() {
    let text = format!("\u{feff}{}", frontend("").replace('\n', "\r\n"));
    assert_eq!(parse(&text).unwrap().snapshot.frontends.len(), 1);
}

#[test]
fn a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringlane.toml");
    std::fs::write(&path, frontend("")).unwrap();
    assert_eq!(load(&path).unwrap().snapshot.frontends.len(), 1);
    std::fs::write(&path, b"name = \"\xff\"\n").unwrap();
    let report = load(&path).unwrap_err().to_string();
    assert!(report.contains("not UTF-8") && report.contains("ringlane.toml:1:9"), "{report}");
}

#[test]
fn the_report_names_why_a_file_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    for (path, complaint) in [
        (folder.path().join("absent.toml"), "absent.toml: No such file or directory"),
        (folder.path().to_owned(), "Is a directory"),
        (Path::new("/dev/zero").to_owned(), "larger than 4 MiB"),
    ] {
        let report = load(&path).unwrap_err();
        assert_eq!(report.errors(), 1);
        assert!(report.to_string().contains(complaint), "{report}");
    }
}

#[test]
fn a_dns_name_gives_one_server_per_slot() {
    let text = backend(
        r#"server = [
  { name = "web", address = "web.internal:80", slots = 2, weight = 3 },
  { address = "10.0.0.1:80" },
  { name = "pg", address = "srv:_postgresql._tcp.example.org" },
  { name = "one", address = "localhost:81", backup = true },
]"#,
    );
    let Config { snapshot, lookups, .. } = parse(&text).unwrap();
    let names: Vec<&str> = snapshot.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names[..4], ["web-1", "web-2", "10.0.0.1:80", "pg-1"]);
    assert_eq!(names[18..], ["pg-16", "one"]);
    assert_eq!(snapshot.backends[0].server_count, 20);
    let absent = |id: usize| snapshot.servers[id].address.is_none();
    assert!(absent(0) && absent(1) && !absent(2) && absent(3) && absent(19));
    let lookup = |name, entry: &str, first, slots, weight| Lookup {
        name,
        entry: entry.to_owned(),
        first: ServerId(first),
        slots,
        weight,
    };
    let addresses = |name: &str, port| Name::Addresses { name: name.to_owned(), port };
    let srv = Name::Srv("_postgresql._tcp.example.org".to_owned());
    assert_eq!(
        lookups,
        [
            lookup(addresses("web.internal", 80), "web", 0, 2, 3),
            lookup(srv, "pg", 3, 16, 1000),
            lookup(addresses("localhost", 81), "one", 19, 1, 1),
        ]
    );
}
