//! What a run found, as it is kept: one line of JSON with every sample and the machine's facts.
//!
//! Pure, but for the statistics that tables and verdicts are made of. Invariant: a ratio compares
//! two relays under one setting and workload; [`Run::ratios`] those of the same round, so that a
//! slow moment of the machine is in both.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::plan::{Figure, Setting, Workload};
use crate::plot::number;
use crate::relay::Relay;

/// A whole run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    /// When it began, in UTC.
    pub(crate) date: String,
    /// The commit that was measured, with `+` if files differed from it.
    pub(crate) commit: String,
    /// What it was called with.
    pub(crate) arguments: String,
    pub(crate) machine: Machine,
    /// Names and versions of the relays.
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) rounds: usize,
    /// The shortest and the longest measurement, in seconds.
    pub(crate) seconds: (f64, f64),
    pub(crate) samples: Vec<Sample>,
    /// What could not be measured, and why.
    pub(crate) left_out: Vec<String>,
}

/// One measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) setting: Setting,
    pub(crate) workload: Workload,
    pub(crate) relay: Relay,
    /// CPU time per unit of work, in the workload's unit.
    pub(crate) cost: Option<f64>,
    /// The part of that which was user code, from 0 to 1.
    pub(crate) user: Option<f64>,
    /// Work per second, in the workload's unit.
    pub(crate) rate: f64,
    /// Latencies in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// KiB of the relay's memory per session.
    pub(crate) memory: Option<f64>,
    /// The part of its time that the relay could run and did not, from 0 to 1.
    pub(crate) disturbed: Option<f64>,
    /// CPU seconds that the kernel put off to `ksoftirqd`; they are in `cost`.
    pub(crate) put_off: f64,
    /// Whether the load generator says that it was the limit itself.
    pub(crate) load_limited: bool,
}

impl Sample {
    /// In one line, as progress.
    pub(crate) fn line(&self) -> String {
        let figure = self.figure().map_or_else(|| "–".to_owned(), number);
        let (workload, setting) = (self.workload.name(), self.setting.name());
        let disturbed = self.disturbed.unwrap_or_default() * 100.0;
        format!(
            "{setting:<6} {workload:<12} {:<19} {figure:>8} {:<24} {:>9} {:<6} p99 {:>9} µs, waited {disturbed:.0} %",
            self.relay.name(),
            self.workload.unit(),
            number(self.rate),
            self.workload.rate_unit(),
            number(self.p99)
        )
    }

    /// What its workload is there to show.
    pub(crate) fn figure(&self) -> Option<f64> {
        match self.workload.figure() {
            Figure::Cost => self.cost,
            Figure::P99 => (!self.load_limited).then_some(self.p99),
            Figure::Memory => self.memory,
        }
    }
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of these values; `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let odd = sorted.len() % 2 == 1;
        let median = if odd { upper } else { f64::midpoint(sorted[middle - 1], upper) };
        Some(Self { median, least: *sorted.first()?, most: *sorted.last()? })
    }
}

impl Run {
    /// The samples of one relay under one workload.
    pub(crate) fn of(
        &self,
        setting: Setting,
        workload: Workload,
        relay: Relay,
    ) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            (sample.setting, sample.workload, sample.relay) == (setting, workload, relay)
        })
    }

    /// One value of those samples.
    pub(crate) fn spread(
        &self,
        setting: Setting,
        workload: Workload,
        relay: Relay,
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.of(setting, workload, relay).filter_map(value))
    }

    /// This balancer's figure over that of another relay, in each round that has both.
    pub(crate) fn ratios(
        &self,
        setting: Setting,
        workload: Workload,
        against: Relay,
    ) -> Option<Spread> {
        if against == Relay::Ringlane {
            return None;
        }
        let own = self.of(setting, workload, Relay::Ringlane);
        let in_round = |own: &Sample| {
            let other =
                self.of(setting, workload, against).find(|other| other.round == own.round)?;
            Some(own.figure()? / other.figure()?)
        };
        Spread::of(own.filter_map(in_round))
    }

    /// The highest rate at which a relay has answered so far, by medians.
    pub(crate) fn highest_rate(&self, setting: Setting, relay: Relay) -> Option<f64> {
        let workloads = [Workload::Rr32, Workload::Rr256];
        let rates = workloads.map(|w| self.spread(setting, w, relay, |sample| Some(sample.rate)));
        rates.into_iter().flatten().map(|rate| rate.median).max_by(f64::total_cmp)
    }

    /// The part of its time that a relay waited for its core, over all samples.
    pub(crate) fn disturbance(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| sample.disturbed))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run with one figure per (round, relay), all in bulk under cubic.
    pub(crate) fn run(costs: &[(usize, Relay, f64)]) -> Run {
        let sample = |&(round, relay, cost): &(usize, Relay, f64)| Sample {
            round,
            setting: Setting::Cubic,
            workload: Workload::Stream,
            relay,
            cost: Some(cost),
            user: Some(0.1),
            rate: 1000.0,
            p50: 1.0,
            p99: 2.0,
            p999: 3.0,
            memory: None,
            disturbed: Some(0.0),
            put_off: 0.0,
            load_limited: false,
        };
        Run {
            date: "2026-01-02T03:04Z".to_owned(),
            commit: "abc".to_owned(),
            arguments: String::new(),
            machine: Machine { processor: "AMD EPYC".to_owned(), ..Machine::default() },
            versions: vec![("nginx".to_owned(), "1".to_owned())],
            rounds: 2,
            seconds: (1.0, 1.0),
            samples: costs.iter().map(sample).collect(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in round 1; the ratio does not see it.
        let run = run(&[
            (0, Relay::Ringlane, 0.2),
            (0, Relay::Nginx, 0.5),
            (1, Relay::Nginx, 1.0),
            (1, Relay::Ringlane, 0.4),
            (2, Relay::Ringlane, 9.0),
        ]);
        let ratio = run.ratios(Setting::Cubic, Workload::Stream, Relay::Nginx).unwrap();
        assert_eq!(ratio, Spread { median: 0.4, least: 0.4, most: 0.4 });
        assert!(run.ratios(Setting::Bbr, Workload::Stream, Relay::Nginx).is_none());
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_run_is_kept_whole() {
        let run = run(&[(0, Relay::RinglaneEpoll, 0.2)]);
        let line = serde_json::to_string(&run).unwrap();
        assert!(!line.contains('\n') && line.contains("ringlane-epoll"), "{line}");
        let back: Run = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), line);
    }
}
