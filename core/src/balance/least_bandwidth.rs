//! Least bandwidth: fewest bytes per second per weight, for long streams of different size.
//!
//! The control thread, which sees the counters of all shards, measures the rates about once a
//! second and shares one word per server: nothing is counted per byte here. In between, each
//! session newer than the measurement counts as an average one, or a burst of new sessions would
//! all go to one server. If all rates are equal this is least connections.

use std::time::{Duration, Instant};

use super::Candidate;
use super::least_conn::LeastConn;
use super::turns::Turns;

/// Time constant of the smoothing: after this time two thirds of a change are visible.
const MEMORY: Duration = Duration::from_secs(3);

/// The policy and its tie breaker.
#[derive(Debug, Default)]
pub(super) struct LeastBandwidth {
    equals: Vec<Candidate>,
    least_conn: LeastConn,
}

impl LeastBandwidth {
    pub(super) fn pick(&mut self, candidates: &[Candidate], turns: &Turns) -> Option<Candidate> {
        let rate: f64 = candidates.iter().map(|candidate| candidate.rate as f64).sum();
        let measured: f64 = candidates.iter().map(|candidate| f64::from(candidate.measured)).sum();
        // At least one session had the measured rate, even if all have ended since.
        let per_session = rate / measured.max(1.0);
        let load = |candidate: &Candidate| {
            let newer = candidate.sessions.saturating_sub(candidate.measured);
            let rate = candidate.rate as f64 + f64::from(newer) * per_session;
            rate / f64::from(candidate.weight)
        };
        let mut least = f64::INFINITY;
        for candidate in candidates {
            let load = load(candidate);
            if load < least {
                least = load;
                self.equals.clear();
            }
            if load <= least {
                self.equals.push(*candidate);
            }
        }
        let picked = self.least_conn.pick(&self.equals, turns);
        self.equals.clear();
        picked
    }
}

/// The rate of a counter, smoothed over a few seconds.
#[derive(Debug, Default)]
pub struct Meter {
    last: Option<(Instant, u64)>,
    per_second: f64,
}

impl Meter {
    /// Takes the value of the counter; returns the current rate per second.
    pub fn observe(&mut self, total: u64, now: Instant) -> u64 {
        let Some((then, before)) = self.last.replace((now, total)) else { return 0 };
        let elapsed = now.saturating_duration_since(then).as_secs_f64();
        if elapsed > 0.0 {
            let recent = total.saturating_sub(before) as f64 / elapsed;
            let kept = (-elapsed / MEMORY.as_secs_f64()).exp();
            self.per_second = self.per_second * kept + recent * (1.0 - kept);
        }
        // Never negative; a rate beyond 64 bits would be capped.
        self.per_second as u64
    }
}
