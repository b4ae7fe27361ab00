//! The registry against its rules and against docs/metrics.md; one scrape, line by line.

use std::collections::BTreeSet;
use std::time::Duration;

use ringlane_core::health::{Lag, Role, Seen};
use ringlane_core::snapshot::ServerId;

use super::*;
use crate::control::status::tests::running;

#[test]
fn names_follow_the_rules() {
    let mut families = BTreeSet::new();
    for metric in METRICS {
        let family = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        assert!(families.insert(family), "{family} twice, which the format forbids");
        assert!(family.starts_with("ringlane_"), "{family}");
        assert!(family.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{family}");
        assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '|']), "{family}");
    }
}

#[test]
fn the_documentation_lists_exactly_the_registry() {
    let rows: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            let kind = metric.kind().metric_type();
            let kind = kind.as_str();
            let labels = metric.labels().join(", ");
            format!("| `{}` | {kind} | {labels} | {} |", metric.name, metric.help)
        })
        .collect();
    let documented: Vec<&str> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert_eq!(documented, rows, "docs/metrics.md must have these rows:\n{}", rows.join("\n"));
}

#[test]
fn a_scrape_has_every_metric_with_its_labels() {
    let running = running();
    let lag = Lag { time: Some(Duration::from_millis(1500)), bytes: Some(12) };
    let replica = Seen { role: Some(Role::Replica), lag: Some(lag), ..Seen::default() };
    running.servers.observe(ServerId(0), Ok(replica), Some(-2));
    let text = scrape(&running).unwrap();
    for metric in METRICS {
        let sample = text.lines().find(|line| {
            line.strip_prefix(metric.name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let sample = sample.unwrap_or_else(|| panic!("{} is missing in\n{text}", metric.name));
        for label in metric.labels() {
            assert!(sample.contains(&format!("{label}=\"")), "{sample}");
        }
    }
    for line in [
        "# HELP ringlane_frontend_sessions Sessions begun.",
        "# TYPE ringlane_frontend_sessions counter",
        "ringlane_frontend_sessions_total{frontend=\"pg \\\"write\\\"\"} 3",
        "ringlane_frontend_received_bytes_total{frontend=\"pg \\\"write\\\"\"} 30",
        "ringlane_frontend_sessions_max{frontend=\"pg \\\"write\\\"\"} 100",
        "ringlane_affinity_clients{backend=\"postgres\"} 1",
        "ringlane_affinity_hits_total{backend=\"postgres\"} 5",
        "ringlane_server_rate_bytes_per_second{backend=\"postgres\",server=\"pg1\"} 4096",
        "ringlane_server_up{backend=\"postgres\",server=\"pg1\"} 1",
        "ringlane_server_lag_seconds{backend=\"postgres\",server=\"pg1\"} 1.5",
        "ringlane_server_lag_bytes{backend=\"postgres\",server=\"pg1\"} 12.0",
        "ringlane_server_certificate_days{backend=\"postgres\",server=\"pg1\"} -2.0",
        "ringlane_server_up{backend=\"postgres\",server=\"pg2\"} 0",
        "ringlane_server_connects_failed_total{backend=\"postgres\",server=\"pg2\"} 1",
        "ringlane_shard_turns_total{shard=\"0\"} 5",
        "ringlane_shard_turns_total{shard=\"1\"} 7",
        "ringlane_session_duration_seconds{quantile=\"0.999\"} 0.002015",
        "ringlane_session_duration_seconds_sum 0.003",
        "ringlane_session_duration_seconds_count 2",
        "ringlane_process_draining 0",
        concat!("ringlane_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}
