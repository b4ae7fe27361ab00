//! The registry against its rules and against docs/metrics.md; one scrape, line by line.

use std::collections::BTreeSet;
use std::time::Duration;

use ringlane_core::ids::ServerId;
use ringlane_core::machine::sys::DriverKind;
use ringlane_health::{Lag, Role, Seen};

use super::read::Read;
use super::registry::Metric;
use super::*;
use crate::control::report::status::tests::{running, snapshot};
use crate::control::start::Listening;
use crate::control::traffic::buckets::Timings;

/// Names that every Prometheus client gives, in no room of ours.
const PROCESS: &[&str] = &[
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
];

/// Metrics of things that the balancer of this test has not.
const ELSEWHERE: &[&str] = &[
    "ringlane_check_duration_seconds",
    "ringlane_control_cpu_seconds_total",
    "ringlane_shard_cpu_seconds_total",
    "ringlane_server_checks_total",
    "ringlane_server_checks_failed_total",
    "ringlane_server_sessions_max",
];

#[test]
fn names_follow_the_rules() {
    let mut families = BTreeSet::new();
    for metric in METRICS {
        let family = metric.family();
        assert!(families.insert(family), "{family} twice, which the format forbids");
        let ours = family.starts_with("ringlane_");
        assert!(ours || PROCESS.contains(&metric.name), "{family}");
        assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{family}");
        assert!(family.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{family}");
        assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '|', '\\', '"']));
    }
}

#[test]
fn the_documentation_lists_exactly_the_registry() {
    let rows: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            let kind = metric.kind.metric_type();
            let kind = kind.as_str();
            let labels = metric.read.labels().join(", ");
            format!("| `{}` | {kind} | {labels} | {} |", metric.name, metric.help)
        })
        .collect();
    let documented: Vec<&str> = include_str!("../../../../docs/metrics.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert_eq!(documented, rows, "docs/metrics.md must have these rows:\n{}", rows.join("\n"));
}

/// Bounds as the documentation lists them.
fn bounds(metric: &Metric) -> String {
    let buckets = match metric.read {
        Read::Times(bounds, which) => Buckets::merge(&running().traffic, bounds, which),
        Read::CheckTimes | Read::ControlLag => Timings::default().buckets(),
        _ => panic!("{} is no histogram", metric.name),
    };
    let bounds: Vec<String> = buckets.counts.iter().map(|(le, _)| le.to_string()).collect();
    bounds.join(", ").replace("inf", "+Inf")
}

#[test]
fn the_documentation_lists_the_bounds_of_every_histogram() {
    let page = include_str!("../../../../docs/metrics.md");
    for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
        let row = format!("- `{}`: {}\n", metric.name, bounds(metric));
        assert!(page.contains(&row), "docs/metrics.md must have\n{row}");
    }
}

#[test]
fn a_scrape_has_every_metric_with_its_labels() {
    let running = running();
    let lag = Lag { time: Some(Duration::from_millis(1500)), bytes: Some(12) };
    let replica = Seen { role: Some(Role::Replica), lag: Some(lag), ..Seen::default() };
    running.servers.observe(ServerId(0), Ok(replica), Some(-2));
    let text = scrape(&running, Format::Plain).unwrap();
    for metric in METRICS.iter().filter(|metric| !ELSEWHERE.contains(&metric.name)) {
        let sample = text.lines().find(|line| {
            let rest = line.strip_prefix(metric.name);
            let rest = rest.map(|rest| rest.strip_prefix("_sum").unwrap_or(rest));
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let sample = sample.unwrap_or_else(|| panic!("{} is missing in\n{text}", metric.name));
        for label in metric.read.labels() {
            assert!(sample.contains(&format!("{label}=\"")), "{sample}");
        }
    }
    for line in [
        "# HELP ringlane_frontend_sessions_total Sessions started.",
        "# TYPE ringlane_frontend_sessions_total counter",
        "# TYPE ringlane_session_duration_seconds histogram",
        "ringlane_frontend_sessions_total{frontend=\"pg \\\"write\\\"\"} 3",
        "ringlane_frontend_received_bytes_total{frontend=\"pg \\\"write\\\"\"} 30",
        "ringlane_frontend_sessions_max{frontend=\"pg \\\"write\\\"\"} 100",
        "ringlane_affinity_clients{backend=\"postgres\"} 1",
        "ringlane_affinity_hits_total{backend=\"postgres\"} 5",
        "ringlane_server_rate_bytes_per_second{backend=\"postgres\",server=\"pg1\"} 4096",
        "ringlane_server_up{backend=\"postgres\",server=\"pg1\"} 1",
        "ringlane_server_lag_seconds{backend=\"postgres\",server=\"pg1\"} 1.5",
        "ringlane_server_lag_bytes{backend=\"postgres\",server=\"pg1\"} 12",
        "ringlane_server_certificate_expiry_seconds{backend=\"postgres\",server=\"pg1\"} -172800.0",
        "ringlane_server_admin_state{backend=\"postgres\",server=\"pg1\",state=\"ready\"} 1",
        "ringlane_server_admin_state{backend=\"postgres\",server=\"pg1\",state=\"maint\"} 0",
        "ringlane_server_check_ok{backend=\"postgres\",server=\"pg1\"} 1",
        "ringlane_backend_servers_up{backend=\"postgres\"} 1",
        "ringlane_server_up{backend=\"postgres\",server=\"pg2\"} 0",
        "ringlane_server_connects_failed_total{backend=\"postgres\",server=\"pg2\"} 1",
        "ringlane_shard_turns_total{shard=\"0\"} 5",
        "ringlane_shard_turns_total{shard=\"1\"} 7",
        "ringlane_session_duration_seconds_bucket{le=\"0.001\"} 0",
        "ringlane_session_duration_seconds_bucket{le=\"0.005\"} 2",
        "ringlane_session_duration_seconds_bucket{le=\"+Inf\"} 2",
        "ringlane_session_duration_seconds_sum 0.003",
        "ringlane_session_duration_seconds_count 2",
        "ringlane_process_draining 0",
        concat!(
            "ringlane_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\",revision=\"",
            env!("RINGLANE_REVISION"),
            "\"} 1"
        ),
        "ringlane_frontend_closes_total{frontend=\"pg \\\"write\\\"\",code=\"--\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    let openmetrics = scrape(&running, Format::OpenMetrics).unwrap();
    assert!(!text.contains("# EOF") && openmetrics.ends_with("\n# EOF\n"));
}

#[test]
fn a_server_without_address_is_neither_up_nor_down() {
    let mut snapshot = snapshot();
    snapshot.servers[1].address = None;
    let (cpus, listening) = (vec![None], Listening::new(vec![Vec::new()]));
    let running = Running::for_test(snapshot, Vec::new(), DriverKind::Epoll, cpus, listening);
    let text = scrape(&running, Format::Plain).unwrap();
    let has = |sample: &str| text.lines().any(|line| line.starts_with(sample));
    assert!(has("ringlane_server_up{backend=\"postgres\",server=\"pg1\"} 1"), "{text}");
    assert!(!has("ringlane_server_up{backend=\"postgres\",server=\"pg2\"}"), "{text}");
    assert!(has("ringlane_server_open{backend=\"postgres\",server=\"pg2\"} 0"), "{text}");
}
