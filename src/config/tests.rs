//! What the whole module promises: every kind of error with its report, no panic on any text, and
//! documentation and examples that are accepted.

mod accepted;
mod checks;
mod documents;
mod golden;
mod properties;
mod sockets;

use super::{Config, Report};

/// A backend that frontends of a test can name.
const BACKEND: &str = "\
[[backend]]
name = \"pg\"
server = [{ address = \"10.0.0.1:5432\" }]
";

fn parse(text: &str) -> Result<Config, Report> {
    super::parse("test.toml", text)
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
