//! Reports as files: each `reports/NAME.toml` gives exactly the report in `reports/NAME.txt`.
//!
//! `UPDATE=1 cargo test -p ringlane --lib config::tests::golden` writes the reports anew; look at the
//! difference before you keep it. Nothing of the host is looked at.

use std::fs;
use std::path::{Path, PathBuf};

use super::parse;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/reports")
}

/// What is said about a file, errors or warnings, without blanks at line ends.
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

#[test]
fn every_file_gives_its_report() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some("toml".as_ref()) && path.extension() != Some("cfg".as_ref()) {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = report(name, &fs::read_to_string(&path).unwrap());
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(said, expected, "{name} gives\n{said}");
        seen += 1;
    }
    assert!(seen >= 5, "{seen} files");
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
    let expected = "warning: test.toml:7: every server of backend \"pg\" has weight 0: a server of \
                    weight 0 gets no new sessions; give at least one server a weight from 1 to 1000";
    assert_eq!(lines, [expected]);
}
