//! Tests of the whole module: a report for every kind of error, no panic on any text, and
//! documentation and examples that are accepted.

mod accepted;
mod checks;
mod defaults;
mod differences;
mod documents;
mod edited;
mod edits;
mod effects;
mod files;
mod golden;
mod mistakes;
mod properties;
mod sockets;

use super::{Config, Report};

/// A backend for the frontends of a test.
const BACKEND: &str = "\
[[backend]]
name = \"pg\"
server = [{ address = \"10.0.0.1:5432\" }]
";

/// Without any variable of the environment.
fn parse(text: &str) -> Result<Config, Report> {
    super::check(super::Input::Text("test.toml", text), &|_| None)
}

/// A whole file around lines of a frontend, which start at line 5.
fn frontend(lines: &str) -> String {
    let head = "[[frontend]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\nbackend = \"pg\"\n";
    format!("{head}{lines}\n{BACKEND}")
}

/// A whole file around lines of a backend, which start at line 7.
fn backend(lines: &str) -> String {
    let head = "[[frontend]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\nbackend = \"pg\"\n";
    format!("{head}[[backend]]\nname = \"pg\"\n{lines}\n")
}

/// A whole file around lines of `[global]`, which start at line 2.
fn global(lines: &str) -> String {
    format!("[global]\n{lines}\n{}", frontend(""))
}
