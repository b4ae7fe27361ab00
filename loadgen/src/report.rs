//! What a run measured: counts, failures by kind, and a histogram of latencies.
//!
//! Each thread fills its own and they are merged at the end. Latencies are in nanoseconds inside
//! and in microseconds on paper.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest latency that is told apart: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Why something failed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection was not accepted in time.
    ConnectTimeout,
    /// The connection was reset.
    Reset,
    /// The stream ended before all bytes had come.
    ClosedEarly,
    /// Bytes are not those that were sent.
    Corrupt,
    /// Still waiting when the time was over.
    Unfinished,
    /// Anything else.
    Other,
}

impl Failure {
    /// The kind of an error of the kernel's.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => Self::ClosedEarly,
            io::ErrorKind::InvalidData => Self::Corrupt,
            io::ErrorKind::Interrupted => Self::Unfinished,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed_early",
            Self::Corrupt => "corrupt",
            Self::Unfinished => "unfinished",
            Self::Other => "other",
        }
    }
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// Round trips, connections or streams that were completed.
    pub(crate) requests: u64,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) received: u64,
    /// Sessions that were opened.
    pub(crate) sessions: u64,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    failures: BTreeMap<Failure, u64>,
    /// The first failure in words.
    first_failure: Option<String>,
    latency: Histogram<u64>,
}

impl Report {
    /// With nothing in it.
    pub(crate) fn new() -> Result<Self, String> {
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map_err(|error| format!("cannot make a histogram: {error}"))?;
        Ok(Self {
            requests: 0,
            sent: 0,
            received: 0,
            sessions: 0,
            elapsed: Duration::ZERO,
            failures: BTreeMap::new(),
            first_failure: None,
            latency,
        })
    }

    /// Counts something completed and how long it took.
    pub(crate) fn completed(&mut self, latency: Duration) {
        self.requests += 1;
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS);
        self.latency.saturating_record(nanos.max(1));
    }

    /// Counts what failed.
    pub(crate) fn failed(&mut self, failure: Failure, times: u64, words: impl FnOnce() -> String) {
        if times > 0 {
            *self.failures.entry(failure).or_default() += times;
            self.first_failure.get_or_insert_with(words);
        }
    }

    /// Adds what another thread measured.
    pub(crate) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.sent += other.sent;
        self.received += other.received;
        self.sessions += other.sessions;
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self.first_failure = self.first_failure.take().or(other.first_failure);
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
    }

    /// Prints everything; `true` if nothing failed.
    pub(crate) fn print(&self, as_json: bool) -> bool {
        if as_json {
            println!("{}", self.to_json());
        } else {
            println!("{}", self.to_text());
        }
        if let Some(words) = &self.first_failure {
            eprintln!("ringlane-loadgen: {} failed, the first: {words}", self.failures_total());
        }
        self.failures.is_empty()
    }

    fn failures_total(&self) -> u64 {
        self.failures.values().sum()
    }

    fn quantiles(&self) -> [(&'static str, f64); 5] {
        let at = |quantile| self.latency.value_at_quantile(quantile);
        let nanos = [
            ("p50", at(0.5)),
            ("p90", at(0.9)),
            ("p99", at(0.99)),
            ("p99.9", at(0.999)),
            ("max", self.latency.max()),
        ];
        nanos.map(|(name, nanos)| (name, nanos as f64 / 1000.0))
    }

    fn to_json(&self) -> Value {
        let errors: serde_json::Map<String, Value> =
            self.failures.iter().map(|(f, n)| (f.name().to_owned(), json!(n))).collect();
        let mut object = json!({
            "requests": self.requests,
            "bytes": self.sent + self.received,
            "bytes_sent": self.sent,
            "bytes_received": self.received,
            "sessions": self.sessions,
            "failed": self.failures_total(),
            "errors": errors,
            "seconds": self.elapsed.as_secs_f64(),
        });
        self.quantiles().into_iter().for_each(|(name, micros)| object[name] = json!(micros));
        object
    }

    fn to_text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        let quantiles: Vec<_> =
            self.quantiles().iter().map(|(name, us)| format!("{name} {us:.1}")).collect();
        let errors: Vec<_> =
            self.failures.iter().map(|(f, n)| format!("{} {n}", f.name())).collect();
        format!(
            "requests  {} ({:.0}/s) over {} sessions in {seconds:.2} s\n\
             bytes     {} sent, {} received ({:.1} MB/s)\n\
             latency   {} µs\n\
             errors    {}",
            self.requests,
            self.requests as f64 / seconds,
            self.sessions,
            self.sent,
            self.received,
            (self.sent + self.received) as f64 / seconds / 1e6,
            quantiles.join("  "),
            if errors.is_empty() { "none".to_owned() } else { errors.join(", ") },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_threads_merge_into_one() {
        let mut all = Report::new().unwrap();
        for base in [0, 500] {
            let mut one = Report::new().unwrap();
            (1..=500).for_each(|n| one.completed(Duration::from_micros(base + n)));
            one.failed(Failure::Reset, 1, || format!("reset after {base}"));
            all.merge(one);
        }
        let json = all.to_json();
        assert_eq!(json["requests"], 1000);
        assert_eq!(json["errors"]["reset"], 2);
        assert_eq!(json["failed"], 2);
        let p50 = json["p50"].as_f64().unwrap();
        assert!((499.0..=502.0).contains(&p50), "{p50}");
        assert!(json["max"].as_f64().unwrap() >= 1000.0);
        assert!(all.to_text().contains("reset 2"));
        assert!(!all.print(true));
    }
}
