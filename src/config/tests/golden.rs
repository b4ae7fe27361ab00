//! Reports as files: each file below `reports/` gives exactly the report in the `.txt` beside it.
//!
//! `values`: single values that are refused; `structure`: keys, references, repetitions, syntax;
//! `routes` and `sockets`: what their names say; at the top: warnings and whole files.
//! `UPDATE=1 cargo test -p ringlane --lib config::tests::golden` rewrites the reports; read the
//! difference before you commit it. The host is not checked.

use std::fs;
use std::path::{Path, PathBuf};

use super::parse;

/// Least number of cases; fewer means that some were not found.
const CASES_MIN: usize = 88;

/// Every configuration below a folder, sorted, and every report.
fn files(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut cases, mut reports) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (inner_cases, inner_reports) = files(&path);
            cases.extend(inner_cases);
            reports.extend(inner_reports);
        } else if path.extension() == Some("txt".as_ref()) {
            reports.push(path);
        } else {
            cases.push(path);
        }
    }
    cases.sort();
    (cases, reports)
}

/// What is reported about a file, errors or warnings, without blanks at line ends.
fn report(name: &str, text: &str) -> String {
    let report = match super::super::parse(name, text) {
        Ok(config) => config.warnings,
        Err(report) => report,
    };
    let mut lines: Vec<String> =
        report.to_string().lines().map(|l| l.trim_end().to_owned()).collect();
    lines.extend([
        String::new(),
        format!("{} errors, {} warnings", report.errors(), report.warnings()),
    ]);
    lines.join("\n") + "\n"
}

/// The lines that differ, `-` expected and `+` found, with the equal line before them.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old[same..].iter().rev().zip(new[same..].iter().rev());
    let tail = rest.take_while(|(old, new)| old == new).count();
    let mut lines: Vec<String> =
        old[same.saturating_sub(1)..same].iter().map(|l| format!("  {l}")).collect();
    lines.extend(old[same..old.len() - tail].iter().map(|line| format!("- {line}")));
    lines.extend(new[same..new.len() - tail].iter().map(|line| format!("+ {line}")));
    lines.join("\n")
}

#[test]
fn every_file_gives_its_report() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/reports");
    let (cases, reports) = files(&root);
    let mut failures = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let found = report(name, &fs::read_to_string(case).unwrap());
        let expected = case.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let shown = case.strip_prefix(&root).unwrap().display();
        match fs::read_to_string(expected) {
            Ok(expected) if expected == found => {}
            Ok(expected) => failures.push(format!("{shown}:\n{}", difference(&expected, &found))),
            Err(_) => failures.push(format!("{shown} has no report yet; it gives\n{found}")),
        }
    }
    for report in
        reports.iter().filter(|report| !cases.iter().any(|c| c.with_extension("txt") == **report))
    {
        failures.push(format!("{} belongs to no configuration", report.display()));
    }
    let count = failures.len();
    assert!(
        count == 0,
        "{count} reports differ (UPDATE=1 rewrites them)\n\n{}",
        failures.join("\n\n")
    );
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
}

#[test]
fn differences_are_shown_with_the_line_before() {
    assert_eq!(difference("a\nb\nc\nd\n", "a\nb\nx\ny\nd\n"), "  b\n- c\n+ x\n+ y");
    assert_eq!(difference("a\n", "b\na\n"), "+ b");
    assert_eq!(difference("a\nb\n", "a\n"), "  a\n- b");
    assert_eq!(difference("", ""), "");
}

#[test]
fn a_file_without_mistakes_has_no_warnings() {
    let config = parse(&super::frontend("")).unwrap();
    assert_eq!((config.warnings.warnings(), config.warnings.to_string().as_str()), (0, ""));
    assert_eq!(config.warnings.lines().count(), 0);
}

#[test]
fn a_warning_as_a_line_names_its_place() {
    let config = parse(&super::backend("server = [{ address = \"10.0.0.1:1\", weight = 0 }]"));
    let lines: Vec<String> = config.unwrap().warnings.lines().collect();
    let expected = "warning: test.toml:7: every server of backend \"pg\" has weight 0: a server \
                    of weight 0 gets no new sessions; give at least one server a weight from 1 to \
                    1000";
    assert_eq!(lines, [expected]);
}

#[test]
fn the_slots_of_all_names_together_are_limited() {
    let server = |n| format!("{{ name = \"s{n}\", address = \"db.example:5432\", slots = 1024 }}");
    let servers: Vec<String> = (0..65).map(server).collect();
    let report = parse(&super::backend(&format!("server = [{}]", servers.join(", "))));
    let report = report.expect_err("too many").to_string();
    assert_eq!(report.matches("error: ").count(), 1, "{report}");
    assert!(report.contains("server \"s64\" of backend \"pg\" exceeds the limit on slots"));
}
