//! The bars: what this balancer may cost at most, relative to others of the same run.
//!
//! Pure. A bar compares medians over all rounds. Verdicts are printed and written down; nothing
//! fails on them, because a busy machine must not.

use crate::plan::{Figure, Setting, Workload};
use crate::relay::Relay;
use crate::samples::{Run, Spread};

/// One bar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) setting: Setting,
    pub(crate) workload: Workload,
    pub(crate) against: Relay,
    /// This balancer's figure over that of the other, at most.
    pub(crate) most: f64,
}

const fn bar(setting: Setting, workload: Workload, against: Relay, most: f64) -> Bar {
    Bar { setting, workload, against, most }
}

/// All bars.
pub(crate) const BARS: &[Bar] = &[
    bar(Setting::Cubic, Workload::Rr32, Relay::Haproxy, 0.92),
    bar(Setting::Cubic, Workload::Rr32, Relay::Nginx, 0.92),
    bar(Setting::Cubic, Workload::Rr32, Relay::Floor, 1.06),
    bar(Setting::Cubic, Workload::Rr256, Relay::Haproxy, 0.92),
    bar(Setting::Cubic, Workload::Rr256, Relay::Nginx, 0.92),
    bar(Setting::Cubic, Workload::Rr256, Relay::Floor, 1.06),
    bar(Setting::Cubic, Workload::Stream, Relay::Nginx, 0.45),
    bar(Setting::Cubic, Workload::Stream, Relay::HaproxySplice, 0.55),
    bar(Setting::Guide, Workload::Stream, Relay::Nginx, 0.25),
    bar(Setting::Guide, Workload::Stream, Relay::HaproxySplice, 0.20),
    bar(Setting::Cubic, Workload::Crr, Relay::Haproxy, 0.88),
    bar(Setting::Cubic, Workload::Crr, Relay::Nginx, 0.88),
    bar(Setting::Cubic, Workload::HalfRate, Relay::Haproxy, 1.0),
    bar(Setting::Cubic, Workload::Idle, Relay::Haproxy, 0.25),
];

/// A bar and what the run says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) bar: Bar,
    /// The ratio of the medians; `None` if the run can't tell.
    pub(crate) ratio: Option<f64>,
    /// The ratios within each round.
    pub(crate) rounds: Option<Spread>,
}

impl Verdict {
    /// In a word.
    pub(crate) fn word(&self) -> &'static str {
        match self.ratio {
            Some(ratio) if ratio <= self.bar.most => "met",
            Some(_) => "MISSED",
            None => "not measured",
        }
    }

    /// What is compared.
    pub(crate) fn what(&self) -> String {
        let what = match self.bar.workload.figure() {
            Figure::Cost | Figure::P99 => self.bar.workload.unit(),
            Figure::Memory => "memory per idle session",
        };
        format!("{what}: {} ({})", self.bar.workload.title(), self.bar.setting.title())
    }

    /// The ratio and its range within the rounds.
    pub(crate) fn numbers(&self) -> String {
        match (self.ratio, self.rounds) {
            (Some(ratio), Some(Spread { least, most, .. })) => {
                format!("{ratio:.2} ({least:.2} to {most:.2})")
            }
            (Some(ratio), None) => format!("{ratio:.2}"),
            _ => "–".to_owned(),
        }
    }
}

/// What the run says of every bar.
pub(crate) fn verdicts(run: &Run) -> Vec<Verdict> {
    let judge = |&bar: &Bar| {
        let median = |relay| {
            let figures = run.spread(bar.setting, bar.workload, relay, |s| s.figure());
            figures.map(|spread| spread.median)
        };
        let pair = median(Relay::Ringlane).zip(median(bar.against));
        let ratio = pair.map(|(own, other)| own / other);
        Verdict { bar, ratio, rounds: run.ratios(bar.setting, bar.workload, bar.against) }
    };
    BARS.iter().map(judge).collect()
}

/// The part of its time that any relay may wait for its core before the comparison is doubtful.
const DISTURBED: f64 = 0.1;

/// A warning if the machine had other work on the relays' core.
pub(crate) fn disturbance(run: &Run) -> Option<String> {
    let Spread { median, most, .. } = run.disturbance()?;
    (most > DISTURBED).then(|| {
        format!(
            "doubtful: something else ran on the relays' core, they waited for it {:.0} % of their \
             time (at worst {:.0} %). Repeat on a quiet machine.",
            median * 100.0,
            most * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::run;

    fn judged(costs: &[(usize, Relay, f64)]) -> Vec<Verdict> {
        verdicts(&run(costs)).into_iter().filter(|verdict| verdict.ratio.is_some()).collect()
    }

    #[test]
    fn a_bar_compares_medians() {
        let found = judged(&[
            (0, Relay::Ringlane, 0.2),
            (0, Relay::Nginx, 0.5),
            (1, Relay::Ringlane, 0.2),
            (1, Relay::Nginx, 0.4),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].word(), "met");
        assert_eq!(found[0].numbers(), "0.44 (0.40 to 0.50)");
    }

    #[test]
    fn a_missed_bar_is_said_and_so_is_one_that_was_not_measured() {
        let found = judged(&[(0, Relay::Ringlane, 0.4), (0, Relay::Nginx, 0.5)]);
        assert_eq!(found[0].word(), "MISSED");
        assert!(judged(&[(0, Relay::Nginx, 0.5)]).is_empty(), "nothing to judge");
        assert!(verdicts(&run(&[])).iter().all(|verdict| verdict.word() == "not measured"));
    }

    #[test]
    fn a_disturbed_comparison_is_called_doubtful() {
        let mut run = run(&[(0, Relay::Nginx, 0.5), (0, Relay::Haproxy, 0.5)]);
        assert_eq!(disturbance(&run), None);
        run.samples.iter_mut().for_each(|sample| sample.disturbed = Some(0.4));
        let warning = disturbance(&run).unwrap();
        assert!(warning.contains("40 %"), "{warning}");
    }
}
