//! What a run looks like: for people, for machines, and beside another one.
//!
//! Everything here is pure but the writing of files. Latencies are in microseconds on paper, in
//! milliseconds in `.hgrm` files, as its readers expect.

pub(crate) mod compare;
mod hgrm;
mod json;
mod mixed;
mod plot;
pub(crate) mod progress;
mod svg;
mod text;

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::load::Plan;
use crate::report::Report;

/// Where the result goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    /// One JSON object on stdout instead of the table.
    pub(crate) json: bool,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) hgrm: Option<PathBuf>,
}

/// How a run ended, as the exit code says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing failed.
    Fine,
    /// Something failed; it is counted by kind.
    Failed,
    /// The generator was the limit: the figures say nothing about the server.
    Invalid,
}

impl Verdict {
    /// Of a report.
    pub(crate) fn of(report: &Report) -> Self {
        if !report.invalid_because().is_empty() {
            Self::Invalid
        } else if report.failures.is_empty() {
            Self::Fine
        } else {
            Self::Failed
        }
    }
}

impl Output {
    /// Prints and writes everything.
    pub(crate) fn write(&self, plan: &Plan, report: &Report) -> Result<Verdict, String> {
        let text = match self.json {
            true => json::object(plan, report).to_string(),
            false => text::table(plan, report),
        };
        print(&text)?;
        if let Some(words) = &report.first_failure {
            say(format!(
                "ringlane-loadgen: {} failed, the first: {words}",
                report.failures_total()
            ));
        }
        for reason in report.invalid_because() {
            say(format!("ringlane-loadgen: invalid, the generator itself was the limit: {reason}"));
        }
        for (path, text) in [
            (&self.svg, svg::plot as fn(&Plan, &Report) -> String),
            (&self.hgrm, |_, report| hgrm::text(report.account.headline())),
        ] {
            if let Some(path) = path {
                fs::write(path, text(plan, report))
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
        }
        Ok(Verdict::of(report))
    }
}

/// Prints the result. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot print the result: {error}"))
        }
        _ => Ok(()),
    }
}

/// Says something to whoever watches; nobody has to.
pub(crate) fn say(words: impl Display) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// The series of a plot: a name, and the latencies.
fn series(report: &Report) -> Vec<(&'static str, &crate::latency::Latencies)> {
    let account = &report.account;
    [
        ("from the intended time", &account.intended),
        ("as measured, from sending", &account.measured),
    ]
    .into_iter()
    .filter(|(_, latencies)| latencies.count() > 0)
    .collect()
}

/// Microseconds for people: `870 µs`, `1.24 ms`, `2.1 s`.
fn time(micros: f64) -> String {
    match micros {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests;
