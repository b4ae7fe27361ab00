//! Latencies: one histogram as measured, one free of coordinated omission, and how well the
//! schedule was kept. Pure: told of nanoseconds, knows no clock.
//!
//! *As measured* counts from the moment of sending. A client that waits for a slow answer sends
//! nothing meanwhile, so that it asks least while the server is at its slowest; *from the intended
//! time* counts from the moment that the schedule had fixed before, so that the waiting of what
//! could not be sent is in the figures. Arrivals that were never sent are in there as well, with
//! what they had waited at the end: the least that they would have seen.

use hdrhistogram::Histogram;

/// The longest latency that is told apart: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// What may pass between the intended time and the sending while the schedule counts as kept.
pub(crate) const TOLERANCE_NS: u64 = 1_000_000;

/// The part of the schedule that the generator may notice too late before a run is invalid.
const LAGGING_SHARE: f64 = 0.01;

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// With nothing in it.
    pub(crate) fn new() -> Result<Self, String> {
        Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map(Self)
            .map_err(|error| format!("cannot make a histogram: {error}"))
    }

    /// Counts one.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    /// Counts those of another thread.
    pub(crate) fn merge(&mut self, other: &Self) {
        // All have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// How many took longer.
    pub(crate) fn slower_than(&self, nanos: u64) -> u64 {
        self.count() - self.0.count_between(0, nanos)
    }

    /// Mean, in microseconds.
    pub(crate) fn mean(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    /// In microseconds; `quantile` is from 0 to 1.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        let nanos = if quantile >= 1.0 { self.0.max() } else { self.0.value_at_quantile(quantile) };
        nanos.min(self.0.max()) as f64 / 1000.0
    }

    /// The figures that everybody asks for, in microseconds.
    pub(crate) fn quantiles(&self) -> [(&'static str, f64); 5] {
        [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
            .map(|(name, quantile)| (name, self.at(quantile)))
    }

    /// The histogram itself.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

/// How well an open loop's schedule was kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Kept {
    /// Arrivals that the schedule had before the end.
    pub(crate) due: u64,
    /// Of those, sent later than the tolerance allows, for whatever reason.
    pub(crate) late: u64,
    /// Never sent: every session was waiting for an answer until the end.
    pub(crate) never_sent: u64,
    /// Arrivals that the generator itself noticed later than the tolerance allows.
    pub(crate) lagging: u64,
    /// The longest time that it took to notice one, in nanoseconds.
    pub(crate) lag_max: u64,
}

impl Kept {
    /// An arrival became due, and was noticed `lag` nanoseconds later.
    pub(crate) fn came_due(&mut self, lag: u64) {
        self.due += 1;
        self.lagging += u64::from(lag > TOLERANCE_NS);
        self.lag_max = self.lag_max.max(lag);
    }

    /// It was sent `wait` nanoseconds after its intended time.
    pub(crate) fn sent(&mut self, wait: u64) {
        self.late += u64::from(wait > TOLERANCE_NS);
    }

    /// The part of the schedule that was not kept, from 0 to 1.
    pub(crate) fn not_kept(&self) -> f64 {
        share(self.late + self.never_sent, self.due)
    }

    /// Why the generator and not the server decided about the figures, if it did.
    pub(crate) fn generator_limit(&self) -> Option<String> {
        let lagging = share(self.lagging, self.due);
        (lagging > LAGGING_SHARE).then(|| {
            format!(
                "it noticed {:.1} % of the arrivals more than {} ms late (at worst {:.1} ms)",
                lagging * 100.0,
                TOLERANCE_NS / 1_000_000,
                self.lag_max as f64 / 1e6
            )
        })
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.due += other.due;
        self.late += other.late;
        self.never_sent += other.never_sent;
        self.lagging += other.lagging;
        self.lag_max = self.lag_max.max(other.lag_max);
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// All that is known about the latencies of a run or of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// From the moment of sending.
    pub(crate) measured: Latencies,
    /// From the intended time; empty in a closed loop.
    pub(crate) intended: Latencies,
    pub(crate) kept: Kept,
}

impl Account {
    /// With nothing in it.
    pub(crate) fn new() -> Result<Self, String> {
        let (measured, intended) = (Latencies::new()?, Latencies::new()?);
        Ok(Self { measured, intended, kept: Kept::default() })
    }

    /// Something was answered: `intended` (in an open loop), sent and answered at these moments.
    pub(crate) fn answered(&mut self, intended: Option<u64>, sent: u64, answered: u64) {
        self.measured.record(answered.saturating_sub(sent));
        if let Some(intended) = intended {
            self.intended.record(answered.saturating_sub(intended));
        }
    }

    /// An arrival was still waiting for a session at the end.
    pub(crate) fn never_sent(&mut self, intended: u64, end: u64) {
        self.kept.never_sent += 1;
        self.intended.record(end.saturating_sub(intended));
    }

    /// The honest figures: from the intended time where there is one.
    pub(crate) fn headline(&self) -> &Latencies {
        if self.intended.count() > 0 { &self.intended } else { &self.measured }
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.measured.merge(&other.measured);
        self.intended.merge(&other.intended);
        self.kept.merge(&other.kept);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::{Arrivals, Open, Schedule};

    const MS: u64 = 1_000_000;

    /// One session against a server that takes `takes` for an answer and once stalls: a simulation
    /// on a clock of its own, with the accounting of the real sessions.
    fn one_session(rate: f64, takes: u64, stall_at: u64, stall: u64, end: u64) -> Account {
        let open = Open { rate, arrivals: Arrivals::Constant, seed: 0 };
        let mut account = Account::new().unwrap();
        let mut free_at = 0;
        let mut stalled = false;
        for intended in Schedule::new(open, 0, 1).take_while(|at| *at < end) {
            account.kept.came_due(0);
            let sent = intended.max(free_at);
            if sent >= end {
                account.never_sent(intended, end);
                continue;
            }
            account.kept.sent(sent - intended);
            let stalls = !stalled && sent >= stall_at;
            stalled |= stalls;
            free_at = sent + takes + if stalls { stall } else { 0 };
            account.answered(Some(intended), sent, free_at);
        }
        account
    }

    #[test]
    fn a_stall_is_in_the_corrected_tail_and_not_in_the_measured_one() {
        let account = one_session(1000.0, MS / 10, 2000 * MS, 200 * MS, 5000 * MS);
        assert_eq!(account.measured.count(), 5000);
        assert_eq!(account.measured.slower_than(100 * MS), 1, "one request saw it");
        assert!(account.measured.at(0.999) < 1000.0);
        assert_eq!(account.intended.count(), 5000);
        assert!(account.intended.slower_than(100 * MS) >= 100, "all that were due saw it");
        assert!(account.intended.at(0.999) > 100_000.0);
        assert!(account.kept.late > 150 && account.kept.not_kept() > 0.03);
        assert_eq!(account.kept.generator_limit(), None, "that was the server");
    }

    #[test]
    fn what_was_never_sent_has_waited_to_the_end() {
        let account = one_session(1000.0, MS / 10, 2000 * MS, 10_000 * MS, 5000 * MS);
        assert_eq!(account.measured.count(), 2001);
        assert_eq!(account.kept.never_sent, 2999);
        assert_eq!(account.intended.count(), account.kept.due);
        assert!(account.intended.at(0.5) > 400_000.0, "{}", account.intended.at(0.5));
    }

    #[test]
    fn a_generator_that_notices_late_says_so() {
        let mut kept = Kept::default();
        (0..100).for_each(|n| kept.came_due(if n < 2 { 3 * MS } else { 10 }));
        let words = kept.generator_limit().unwrap();
        assert!(words.contains("2.0 %") && words.contains("3.0 ms"), "{words}");
        (0..200).for_each(|_| kept.came_due(10));
        assert_eq!(kept.generator_limit(), None);
    }

    proptest! {
        #[test]
        fn merged_threads_have_the_quantiles_of_all_together(
            threads in prop::collection::vec(
                prop::collection::vec(1_u64..10_000_000_000, 0..200), 1..6),
            quantile in 0.0_f64..=1.0,
        ) {
            let mut merged = Latencies::new().unwrap();
            let mut together = Latencies::new().unwrap();
            let mut exact: Vec<u64> = Vec::new();
            for nanos in threads {
                let mut one = Latencies::new().unwrap();
                nanos.iter().for_each(|n| { one.record(*n); together.record(*n); });
                exact.extend(nanos);
                merged.merge(&one);
            }
            prop_assert_eq!(merged.count(), exact.len() as u64);
            prop_assert_eq!(merged.at(quantile), together.at(quantile));
            exact.sort_unstable();
            if let Some(last) = exact.len().checked_sub(1) {
                let rank = ((exact.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
                let truth = exact[rank.min(last)] as f64 / 1000.0;
                prop_assert!((merged.at(quantile) / truth - 1.0).abs() < 0.002);
            }
        }

        #[test]
        fn the_corrected_figures_hide_no_slow_answer(
            rate in 100.0_f64..5000.0,
            takes in 1000_u64..5_000_000,
            stall in 0_u64..500_000_000,
        ) {
            let account = one_session(rate, takes, 300 * MS, stall, 1000 * MS);
            for nanos in [MS / 2, MS, 5 * MS, 20 * MS, 100 * MS, 400 * MS] {
                let (seen, found) =
                    (account.intended.slower_than(nanos), account.measured.slower_than(nanos));
                prop_assert!(seen >= found, "{seen} of {found} slower than {nanos}");
            }
            prop_assert_eq!(account.intended.count(), account.kept.due);
            prop_assert_eq!(account.measured.count() + account.kept.never_sent, account.kept.due);
        }
    }
}
