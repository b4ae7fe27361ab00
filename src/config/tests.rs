//! What the whole module promises: every kind of error with its report, no panic on any text, and
//! documentation and examples that are accepted.

mod accepted;
mod documents;
mod properties;
mod refused;
mod refused_structure;

use std::io;
use std::net::SocketAddr;

use super::{Config, Report, parse_with};

/// A backend that frontends of a test can name.
const BACKEND: &str = "\
[[backend]]
name = \"pg\"
server = [{ address = \"10.0.0.1:5432\" }]
";

/// Knows one name, so that no test asks the network.
fn resolver(name: &str) -> io::Result<Vec<SocketAddr>> {
    match name {
        "db.example:5432" => Ok(vec![SocketAddr::from(([10, 0, 0, 7], 5432))]),
        _ => Err(io::Error::other("Name or service not known")),
    }
}

fn parse(text: &str) -> Result<Config, Report> {
    parse_with("test.toml", text, resolver)
}

/// A whole file around lines of a frontend, which begin at line 5.
fn frontend(lines: &str) -> String {
    let head = "[[frontend]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\nbackend = \"pg\"\n";
    format!("{head}{lines}\n{BACKEND}")
}

/// A whole file around lines of a backend, which begin at line 7.
fn backend(lines: &str) -> String {
    let head = "[[frontend]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\nbackend = \"pg\"\n";
    format!("{head}[[backend]]\nname = \"pg\"\n{lines}\n")
}

/// A whole file around lines of `[global]`, which begin at line 2.
fn global(lines: &str) -> String {
    format!("[global]\n{lines}\n{}", frontend(""))
}

/// The report on `text`, which must be refused, is `expected`, blanks at line ends aside.
#[track_caller]
fn check(text: &str, expected: &str) {
    let report = parse(text).expect_err("this configuration must be refused").to_string();
    let report: Vec<&str> = report.lines().map(str::trim_end).collect();
    assert_eq!(report.join("\n"), expected.trim(), "\n{}", report.join("\n"));
}
