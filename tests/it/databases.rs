//! Real databases with their own benchmarks, and the numbers that a run of them leaves behind.

use crate::harness::balancer::{Ringlane, Setup, TOKEN, get_over_tcp, parse_metrics, path_str};
use crate::harness::heavy;
use crate::harness::postgres::Postgres;
use crate::harness::program::run;
use crate::harness::redis::Redis;

const CLIENTS: &str = "32";

/// Runs pgbench through the balancer; what it said.
fn pgbench(ringlane: &Ringlane, arguments: &[&str]) -> String {
    let (host, port) = (ringlane.address().ip().to_string(), ringlane.address().port().to_string());
    let mut all = vec!["-h", &host, "-p", &port, "-U", "it"];
    all.extend(arguments);
    all.push("postgres");
    let output = run("pgbench", "postgresql-contrib", &all);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn pgbench_meets_no_error() {
    let _alone = heavy();
    let postgres = Postgres::start();
    let ringlane = Setup::to(&[postgres.address]).start();
    pgbench(&ringlane, &["--initialize", "--quiet", "--scale", "2"]);
    let begun = ringlane.frontend("sessions");
    for (script, transactions) in [("select-only", 500), ("tpcb-like", 60)] {
        let each = transactions.to_string();
        let said = pgbench(
            &ringlane,
            &["-b", script, "-c", CLIENTS, "-j", "2", "-t", &each, "--no-vacuum"],
        );
        let total = 32 * transactions;
        assert!(said.contains(&format!("actually processed: {total}/{total}")), "{said}");
        assert!(said.contains("number of failed transactions: 0 "), "{said}");
        let figure = said.lines().find(|line| line.starts_with("tps = ")).unwrap();
        println!("pgbench {script}, {CLIENTS} clients: {figure}");
    }
    ringlane.wait_until_idle();
    // Each run has its clients, and a session of its own that looks at the tables first.
    assert_eq!(ringlane.frontend("sessions") - begun, 2 * (32 + 1));
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    assert!(ringlane.log(67).iter().all(|record| record["close"] == "--"));
    ringlane.end();
}

#[test]
fn redis_benchmark_meets_no_error() {
    let _alone = heavy();
    let redis = Redis::start(&[]);
    let ringlane = Setup::to(&[redis.address]).start();
    let (host, port) = (ringlane.address().ip().to_string(), ringlane.address().port().to_string());
    for (pipeline, requests) in [("1", "10000"), ("16", "50000")] {
        let output = run(
            "redis-benchmark",
            "redis-tools",
            &[
                "-h",
                &host,
                "-p",
                &port,
                "-c",
                CLIENTS,
                "-n",
                requests,
                "-P",
                pipeline,
                "--csv",
                "-t",
                "ping,set,get,incr,lpush,lrange_100,mset",
            ],
        );
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("\"SET\"") && said.contains("\"LRANGE_100"), "{said}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.to_lowercase().contains("err"), "{errors}");
        let figures = said.lines().filter_map(|line| {
            let mut fields = line.split(',');
            Some(format!("{} {}", fields.next()?, fields.next()?))
        });
        println!("redis-benchmark -P {pipeline}: {}", figures.collect::<Vec<_>>().join(", "));
    }
    ringlane.wait_until_idle();
    // A benchmark closes its clients as a whole, with answers it no longer reads among them.
    let normal = ["--", "CD"];
    for record in ringlane.log(2 * 32) {
        assert!(normal.contains(&record["close"].as_str().unwrap()), "{record}");
    }
    assert_eq!(ringlane.servers("sessions_failed"), [0]);
    ringlane.end();
}

#[test]
fn the_admin_pages_say_what_was_done() {
    const SESSIONS: u32 = 7;
    const BYTES: usize = 1000;
    let echo = crate::harness::echo::Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    for _ in 0..SESSIONS {
        let mut client = crate::harness::client::connect(ringlane.address());
        crate::harness::client::round_trip(&mut client, &[1; BYTES]);
    }
    ringlane.wait_until_idle();
    let socket = ringlane.admin_socket();
    let http = ringlane.admin_http();
    let over_socket = |page: &str| {
        let page = format!("http://ringlane{page}");
        let output = run(
            "curl",
            "curl",
            &["--silent", "--show-error", "--fail", "--unix-socket", path_str(&socket), &page],
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let over_tcp = |page: &str| {
        let page = format!("http://{http}{page}");
        let token = format!("Authorization: Bearer {TOKEN}");
        let arguments = ["--silent", "--show-error", "--fail", "--header", &token, &page];
        let output = run("curl", "curl", &arguments);
        String::from_utf8(output.stdout).unwrap()
    };
    let bytes = f64::from(SESSIONS) * BYTES as f64;
    for page in [over_socket("/metrics"), over_tcp("/metrics")] {
        let metrics = parse_metrics(&page);
        for (name, expected) in [
            ("ringlane_frontend_sessions_total{frontend=\"front\"}", f64::from(SESSIONS)),
            ("ringlane_frontend_sessions_ended_total{frontend=\"front\"}", f64::from(SESSIONS)),
            ("ringlane_frontend_sessions_failed_total{frontend=\"front\"}", 0.0),
            ("ringlane_frontend_received_bytes_total{frontend=\"front\"}", bytes),
            ("ringlane_frontend_sent_bytes_total{frontend=\"front\"}", bytes),
            ("ringlane_server_sent_bytes_total{backend=\"back\",server=\"s1\"}", bytes),
            ("ringlane_server_received_bytes_total{backend=\"back\",server=\"s1\"}", bytes),
            ("ringlane_server_sessions_total{backend=\"back\",server=\"s1\"}", 7.0),
            ("ringlane_server_up{backend=\"back\",server=\"s1\"}", 1.0),
            ("ringlane_process_sessions_live", 0.0),
            ("ringlane_session_duration_seconds_count", f64::from(SESSIONS)),
            ("ringlane_connect_time_seconds_count", f64::from(SESSIONS)),
        ] {
            assert_eq!(metrics.get(name), Some(&expected), "{name}\n{page}");
        }
    }
    for page in [over_socket("/status"), over_tcp("/status")] {
        let status: serde_json::Value = serde_json::from_str(&page).unwrap();
        assert_eq!(status["state"], "serving", "{status:#}");
        assert_eq!(status["shards"].as_array().unwrap().len(), 2);
        assert_eq!(status["frontends"][0]["sessions"], SESSIONS);
        assert_eq!(status["frontends"][0]["bytes_in"], bytes as u64);
        assert_eq!(status["backends"][0]["servers"][0]["bytes_out"], bytes as u64);
        assert_eq!(status["latency"]["session_duration"]["count"], SESSIONS);
    }
    over_socket("/healthz");
    over_tcp("/healthz");
    assert!(get_over_tcp(http, "/nothing").0.contains(" 404 "));
    ringlane.end();
}
