//! A line on stderr that says once a second how it goes.

use std::time::Duration;

use super::{say, time};
use crate::load::Interval;

/// What has come in since the last line.
#[derive(Debug)]
pub(crate) struct Progress {
    since: Duration,
    sum: Interval,
}

impl Progress {
    /// Before the first line.
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self { since: Duration::ZERO, sum: Interval::new()? })
    }

    /// Adds what a thread did.
    pub(crate) fn add(&mut self, interval: &Interval) {
        self.sum.requests += interval.requests;
        self.sum.failures += interval.failures;
        self.sum.latencies.merge(&interval.latencies);
    }

    /// Shows what came in since the last time; `at` is how long the run has been going on.
    pub(crate) fn show(&mut self, at: Duration) {
        say(self.line(at));
        self.since = at;
        self.sum.requests = 0;
        self.sum.failures = 0;
        self.sum.latencies.clear();
    }

    fn line(&self, at: Duration) -> String {
        let seconds = (at - self.since).as_secs_f64().max(1e-9);
        let rate = self.sum.requests as f64 / seconds;
        let latencies = &self.sum.latencies;
        let tail = match latencies.count() {
            0 => String::new(),
            _ => format!(
                "  p50 {:>8}  p99 {:>8}  max {:>8}",
                time(latencies.at(0.5)),
                time(latencies.at(0.99)),
                time(latencies.at(1.0))
            ),
        };
        let failures = match self.sum.failures {
            0 => String::new(),
            failures => format!("  {failures} failed"),
        };
        format!("{:>6.1} s  {rate:>9.0}/s{tail}{failures}", at.as_secs_f64())
    }
}
