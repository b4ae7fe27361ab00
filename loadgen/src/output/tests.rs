//! What a result looks like.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::failure::Failure;
use crate::load::{Interval, Kind};
use crate::schedule::{Arrivals, Open};

fn plan() -> Plan {
    Plan {
        kind: Kind::RoundTrip { size: 128 },
        sessions: 1,
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
        sources: Vec::new(),
        threads: 1,
        cpus: Vec::new(),
        open: Some(Open { rate: 1000.0, arrivals: Arrivals::Constant, seed: 0 }),
        for_: Some(Duration::from_secs(1)),
        give_up: Duration::from_secs(1),
        marks: false,
        progress: false,
    }
}

/// 990 answers after 100 µs, 10 after 50 ms, of which the server's clients saw 20.
fn report() -> Report {
    let mut report = Report::new().unwrap();
    report.requests = 1000;
    report.operations = 1000;
    report.sessions = 1;
    report.elapsed = Duration::from_secs(1);
    for n in 0..1000_u64 {
        let (takes, waited) = match n {
            0..10 => (50_000_000, 0),
            10..20 => (100_000, 49_000_000),
            _ => (100_000, 0),
        };
        report.account.kept.came_due(0);
        report.account.kept.sent(waited);
        report.account.answered(Some(0), waited, waited + takes);
    }
    report
}

#[test]
fn json_has_both_latencies_and_the_schedule() {
    let mut report = report();
    report.failed(Failure::Reset, 2, || "reset".to_owned());
    let json = json::object(&plan(), &report);
    assert_eq!(json["errors"]["reset"], 2);
    assert_eq!(json["failed"], 2);
    assert_eq!(json["latency"]["measured"]["slower_than"]["10ms"], 10);
    assert_eq!(json["latency"]["intended"]["slower_than"]["10ms"], 20);
    assert_eq!(json["p99.9"], json["latency"]["intended"]["p99.9"]);
    assert_eq!(json["schedule"]["due"], 1000);
    assert_eq!(json["schedule"]["late"], 10);
    assert_eq!((&json["valid"], &json["rate"]), (&true.into(), &1000.0.into()));
}

#[test]
fn the_table_says_what_people_look_for() {
    let mut report = report();
    let text = text::table(&plan(), &report);
    for words in
        ["1000 (1000/s)", "1.00 % not kept", "p99.9", "errors     none", "open loop", "90 %"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("INVALID"));
    (0..1000).for_each(|_| report.account.kept.came_due(5_000_000));
    let text = text::table(&plan(), &report);
    assert!(text.starts_with("INVALID    the load generator itself was the limit"), "{text}");
    assert_eq!(Verdict::of(&report), Verdict::Invalid);
}

#[test]
fn plots_show_every_series() {
    let report = report();
    let text = plot::terminal(&series(&report));
    assert!(text.contains('o') && text.contains('x') && text.contains("99.9 %"), "{text}");
    let svg = svg::plot(&plan(), &report);
    assert_eq!(svg.matches("<polyline").count(), 2);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let nothing = svg::plot(&plan(), &Report::new().unwrap());
    assert!(nothing.contains("nothing was answered"));
    assert_eq!(plot::terminal(&[]), "");
}

#[test]
fn hgrm_ends_at_the_last_one() {
    let text = hgrm::text(&report().account.measured);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("1/(1-Percentile)") && lines[1].is_empty());
    let last: Vec<&str> = lines[lines.len() - 4].split_whitespace().collect();
    assert_eq!(last[1..], ["1.000000000000", "1000", "inf"]);
    assert!(last[0].starts_with("50.") || last[0].starts_with("49."), "{last:?}");
    assert!(text.contains("Total count    =         1000]"));
}

#[test]
fn comparisons_say_what_changed_and_what_makes_them_doubtful() {
    let a = json::object(&plan(), &report());
    let mut slower = report();
    slower.requests = 500;
    (0..100).for_each(|_| slower.account.answered(Some(0), 0, 900_000_000));
    let mut b = json::object(&plan(), &slower);
    b["rate"] = 500.into();
    b["valid"] = false.into();
    let text = compare::table(&a, &b);
    assert!(text.contains("DIFFERENT  rate: 1000.0 and 500"), "{text}");
    assert!(text.contains("INVALID    b"), "{text}");
    let line = |name| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("requests ").contains("-50.0 % worse"), "{text}");
    assert!(line("p99 ").ends_with("worse"), "{text}");
    assert!(line("p50 ").ends_with("same"), "{text}");
}

#[test]
fn progress_forgets_what_it_has_shown() {
    let mut progress = progress::Progress::new().unwrap();
    let mut interval = Interval::new().unwrap();
    interval.requests = 10;
    interval.latencies.record(1000);
    progress.add(&interval);
    progress.show(Duration::from_secs(1));
    assert!(format!("{progress:?}").contains("requests: 0"));
}

#[test]
fn times_are_readable() {
    assert_eq!(
        [12.4, 1234.0, 123_456.0, 2e6].map(time),
        ["12 µs", "1.23 ms", "123.5 ms", "2.00 s"]
    );
}
