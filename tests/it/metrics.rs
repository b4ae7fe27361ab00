//! `/metrics` of a busy balancer, as Prometheus' own tools see it.
//!
//! Not here: the values of single metrics, which the stories of their features check.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::balancer::{Ringlane, Setup, TOKEN, path_str};
use crate::harness::client::{connect, read_to_end, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::{program, wait_until};

/// What Prometheus 2 sends, and what an older scraper or a person does.
const ACCEPTS: [(&str, &str); 2] = [
    ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "openmetrics"),
    ("*/*", "plain"),
];

/// A balancer with every feature that has metrics, that is or has been used.
fn busy(echo: &Echo) -> Ringlane {
    let mut setup = Setup::to(&[])
        .frontend("max_connections = 100\nper_client = { max_connections = 50 }")
        .backend(
            "affinity = {}\nqueue = { size = 9 }\nbandwidth = { per_session = \"100Mbit\" }\n\
             check = { kind = \"tcp\", interval = \"50ms\" }",
        )
        .backend(&format!("mirror = {{ server = \"{}\" }}", echo.address));
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 50", echo.address));
    setup.server(&format!("name = \"s2 \\\"\\\\\", address = \"{}\"", free_port()));
    setup.server(&format!("name = \"s3\", address = \"localhost:{}\"", echo.address.port()));
    let ringlane = setup.start();
    for _ in 0..5 {
        round_trip(&mut connect(ringlane.address()), b"hello");
    }
    wait_until("a check of a server that is not there", || {
        ringlane.server_field(1, "/check/ok") == false
    });
    ringlane
}

/// The head and the body of a scrape.
fn scrape(ringlane: &Ringlane, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(ringlane.admin_http()).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    let token = format!("Authorization: Bearer {TOKEN}");
    write!(stream, "{request}\r\n{token}\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The files for Prometheus and Grafana.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/prometheus");

/// Every expression of the dashboard, with values for its variables.
fn dashboard_expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| collect(value, found)),
            Value::Object(object) => {
                found.extend(object.get("expr").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| collect(value, found));
            }
            _ => {}
        }
    }
    let file = fs::read_to_string(format!("{FILES}/grafana.json")).unwrap();
    let mut found = Vec::new();
    collect(&serde_json::from_str(&file).unwrap(), &mut found);
    let fill = |expression: String| {
        expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
    };
    found.into_iter().map(fill).collect()
}

/// Runs promtool on this text, which must find nothing to complain about.
fn promtool_check_metrics(text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("metrics");
    fs::write(&file, text).unwrap();
    let output = program::bound_to_us()
        .arg(program::find("promtool", "prometheus"))
        .args(["check", "metrics"])
        .stdin(Stdio::from(File::open(&file).unwrap()))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "promtool: {said}\n{text}");
}

/// The names of samples, and those that `# TYPE` lines announce with their type.
fn names(text: &str) -> (HashSet<&str>, Vec<(&str, &str)>) {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    (samples, types.collect())
}

#[test]
fn promtool_has_nothing_to_say_about_a_busy_balancer() {
    let echo = Echo::start();
    let ringlane = busy(&echo);
    let held = session(ringlane.address());
    let (head, text) = scrape(&ringlane, "*/*");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    promtool_check_metrics(&text);
    drop(held);
    assert!(text.contains("server=\"s2 \\\"\\\\\""), "an escaped name: {text}");
    ringlane.end();
}

#[test]
fn every_sample_has_its_type_and_help_in_both_formats() {
    let echo = Echo::start();
    let ringlane = busy(&echo);
    for (accept, format) in ACCEPTS {
        let (head, text) = scrape(&ringlane, accept);
        let openmetrics = format == "openmetrics";
        assert_eq!(head.contains("application/openmetrics-text; version=1.0.0"), openmetrics);
        assert_eq!(text.ends_with("\n# EOF\n"), openmetrics, "{text}");
        assert_eq!(text.matches("# EOF").count(), usize::from(openmetrics));
        let (mut samples, types) = names(&text);
        for (family, kind) in types {
            assert!(text.contains(&format!("# HELP {family} ")), "{family} has no help");
            let suffixes: &[&str] = match kind {
                "counter" if openmetrics => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "counter" | "gauge" => &[""],
                other => panic!("{family} is a {other}"),
            };
            for suffix in suffixes {
                samples.remove(format!("{family}{suffix}").as_str());
            }
        }
        assert_eq!(samples, HashSet::new(), "samples without a type in the format {format}");
    }
    ringlane.end();
}

#[test]
fn ends_waits_and_what_the_machine_gives_are_counted() {
    let echo = Echo::start();
    let mut setup = Setup::to(&[]).backend("queue = { size = 1, timeout = \"20ms\" }");
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 1", echo.address));
    let ringlane = setup.start();
    let held = session(ringlane.address());
    assert_eq!(read_to_end(&mut connect(ringlane.address())), b"", "waited in vain");
    drop(held);
    ringlane.wait_until_idle();

    let metrics = ringlane.metrics();
    let front =
        |code| format!("ringlane_frontend_closes_total{{frontend=\"front\",code={code:?}}}");
    assert_eq!((metrics[&front("--")], metrics[&front("sQ")]), (1.0, 1.0), "{metrics:#?}");
    assert!(!metrics.contains_key(&front("KD")), "no session ended like this");
    assert_eq!(metrics["ringlane_queue_wait_seconds_count"], 1.0);
    assert!(metrics["ringlane_queue_wait_seconds_sum"] >= 0.02);
    assert_eq!(metrics["ringlane_queue_wait_seconds_bucket{le=\"0.01\"}"], 0.0);

    let server = "{backend=\"back\",server=\"s1\"}";
    assert_eq!(metrics[&format!("ringlane_server_sessions_max{server}")], 1.0);
    assert!(metrics[&format!("ringlane_server_source_ports{server}")] > 0.0);
    let shards: f64 = (0..2)
        .map(|n| metrics[&format!("ringlane_shard_cpu_seconds_total{{shard=\"{n}\"}}")])
        .sum();
    let control = metrics["ringlane_control_cpu_seconds_total"];
    assert!(shards > 0.0 && control > 0.0, "{metrics:#?}");
    assert!(shards + control <= metrics["process_cpu_seconds_total"] + 0.01);
    let start = "process_start_time_seconds";
    assert_eq!(metrics[start], ringlane.metrics()[start], "another time would be a restart");
    let open = metrics["process_open_fds"];
    assert!(open >= 4.0 && open <= metrics["process_max_fds"], "{open}");
    ringlane.end();
}

#[test]
fn the_alert_rules_pass_their_tests() {
    let rules = format!("{FILES}/rules.yml");
    program::run("promtool", "prometheus", &["check", "rules", &rules]);
    let tests = format!("{FILES}/rules_test.yml");
    program::run("promtool", "prometheus", &["test", "rules", &tests]);
    let (rules, tests) = (fs::read_to_string(rules).unwrap(), fs::read_to_string(tests).unwrap());
    let alerts: Vec<&str> =
        rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} is never seen to fire");
        assert!(
            tests.contains(&format!("alertname: {alert} }}\n")),
            "{alert} is never seen silent"
        );
    }
}

#[test]
fn the_expressions_of_the_dashboard_are_valid() {
    let expressions = dashboard_expressions();
    assert!(!expressions.is_empty());
    let rules: Vec<Value> = expressions
        .iter()
        .zip(0..)
        .map(|(expression, n)| json!({ "record": format!("dashboard:{n}"), "expr": expression }))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dashboard.yml");
    // JSON is YAML.
    let text = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    fs::write(&file, text).unwrap();
    program::run("promtool", "prometheus", &["check", "rules", path_str(&file)]);
}

#[test]
fn rules_and_dashboard_use_only_metrics_that_a_balancer_has() {
    let echo = Echo::start();
    let ringlane = busy(&echo);
    let (_, text) = scrape(&ringlane, "*/*");
    let (_, types) = names(&text);
    let known: HashSet<String> = types
        .into_iter()
        .flat_map(|(family, kind)| match kind {
            "histogram" => ["_bucket", "_sum", "_count"].map(|s| format!("{family}{s}")).to_vec(),
            _ => vec![family.to_owned()],
        })
        .collect();
    let rules = fs::read_to_string(format!("{FILES}/rules.yml")).unwrap();
    let used = format!("{rules}\n{}", dashboard_expressions().join("\n"));
    let words = used.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let used: HashSet<&str> = words
        .filter(|word| word.starts_with("ringlane_") || word.starts_with("process_"))
        .collect();
    assert!(used.len() > 40, "{used:?}");
    let unknown: Vec<_> = used.iter().filter(|name| !known.contains(**name)).collect();
    assert!(unknown.is_empty(), "no balancer has {unknown:?}");
    ringlane.end();
}
