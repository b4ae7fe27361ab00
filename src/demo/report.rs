//! What the demo prints: a line per second and a sum at the end.

use std::time::Duration;

use super::servers::NAMES;
use crate::control::traffic::Traffic;
use ringlane_core::ids::ServerId;

/// One second of the demo.
pub(super) struct Second {
    /// Since the start.
    pub(super) at: Duration,
    /// Sessions that live now.
    pub(super) live: u32,
    /// Sessions opened in this second.
    pub(super) opened: u64,
    /// New sessions that failed in this second.
    pub(super) failed: u64,
    /// Bytes in this second, both directions.
    pub(super) bytes: u64,
    /// Median round trip, microseconds.
    pub(super) p50: u64,
    /// 99th percentile, microseconds.
    pub(super) p99: u64,
    /// Sessions that each server got in this second.
    pub(super) servers: Vec<u64>,
}

/// The names of the columns.
pub(super) fn header() -> String {
    let mut line = format!(
        "{:>5} {:>9} {:>6} {:>7} {:>9} {:>9} {:>9}",
        "time", "sessions", "new/s", "failed", "KB/s", "p50", "p99"
    );
    for name in NAMES {
        line.push_str(&format!(" {name:>7}"));
    }
    line
}

impl Second {
    /// The line of this second.
    pub(super) fn line(&self) -> String {
        let mut line = format!(
            "{:>4}s {:>9} {:>6} {:>7} {:>9} {:>9} {:>9}",
            self.at.as_secs(),
            self.live,
            self.opened,
            self.failed,
            self.bytes / 1000,
            milliseconds(self.p50),
            milliseconds(self.p99),
        );
        let all: u64 = self.servers.iter().sum();
        for share in &self.servers {
            line.push_str(&format!(" {:>5} %", (share * 100).checked_div(all).unwrap_or(0)));
        }
        line
    }
}

/// Sessions that each server has accepted since the start.
pub(super) fn accepted(traffic: &Traffic) -> Vec<u64> {
    let accepted_by = |id| {
        let shards = traffic.counters.iter();
        shards.map(|counters| counters.server(ServerId(id)).sessions.get()).sum()
    };
    (0u32..).zip(NAMES).map(|(id, _)| accepted_by(id)).collect()
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_under_its_header() {
        let second = Second {
            at: Duration::from_secs(7),
            live: 32,
            opened: 300,
            failed: 0,
            bytes: 4_123_456,
            p50: 210,
            p99: 1234,
            servers: vec![150, 0, 150],
        };
        let line = second.line();
        assert_eq!(line.len(), header().len());
        assert!(line.starts_with("   7s        32    300       0      4123   0.21 ms   1.23 ms"));
        assert!(line.ends_with("50 %     0 %    50 %"));
    }
}
