//! What the samples say: medians, ratios within a round, and whether the bars are met.
//!
//! Pure: samples in, text out. A ratio compares two relays of the same round, so that a slow moment
//! of the machine is in both; the verdict is on the median of the ratios.

use std::fmt::Write;

use clap::ValueEnum;

use crate::l4::{Sample, Workload};
use crate::relay::Relay;

/// Workload, relay compared with, and the most that this balancer may cost relative to it.
const BARS: &[(Workload, Relay, f64)] = &[
    (Workload::Rr32, Relay::Haproxy, 1.0),
    (Workload::Rr32, Relay::Nginx, 1.0),
    (Workload::Rr256, Relay::Haproxy, 1.0),
    (Workload::Rr256, Relay::Nginx, 1.0),
    (Workload::Bulk, Relay::Nginx, 0.5),
    (Workload::Crr, Relay::Haproxy, 1.0),
    (Workload::Crr, Relay::Nginx, 1.0),
];

/// Median, least and greatest cost of every relay and its ratio to this balancer, per workload.
pub(crate) fn table(samples: &[Sample]) -> String {
    let mut text = String::new();
    for &workload in Workload::value_variants() {
        if !samples.iter().any(|sample| sample.workload == workload) {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{:<34} {:>9} {:>9} {:>9}   ringlane ÷ it",
            workload.unit(),
            "median",
            "min",
            "max"
        );
        for &relay in Relay::value_variants() {
            let costs = costs(samples, workload, relay);
            let Some((min, median, max)) = spread(&costs) else { continue };
            let _ = write!(text, "  {:<32} {median:>9.3} {min:>9.3} {max:>9.3}", relay.name());
            if let Some((least, ratio, most)) = spread(&ratios(samples, workload, relay)) {
                let _ = write!(text, "   {ratio:.3} ({least:.3} to {most:.3})");
            }
            text.push('\n');
        }
    }
    text
}

/// Every bar that the samples can judge, and whether all of those are met.
pub(crate) fn verdicts(samples: &[Sample]) -> (String, bool) {
    let mut text = String::from("\n");
    let mut all_met = true;
    for &(workload, relay, bar) in BARS {
        let Some((_, ratio, _)) = spread(&ratios(samples, workload, relay)) else { continue };
        let met = ratio <= bar;
        all_met &= met;
        let word = if met { "met   " } else { "MISSED" };
        let (unit, name) = (workload.unit(), relay.name());
        let _ = writeln!(text, "{word} {unit}: {ratio:.3} of {name}, the bar is {bar:.2}");
    }
    (text, all_met)
}

/// The part of its time that any relay may wait for its core before the comparison is doubtful.
const DISTURBED: f64 = 0.1;

/// A warning if the machine had other work on the relays' core.
pub(crate) fn disturbance(samples: &[Sample]) -> Option<String> {
    let waits: Vec<f64> = samples.iter().map(|sample| sample.disturbed).collect();
    let (_, median, most) = spread(&waits)?;
    (most > DISTURBED).then(|| {
        format!(
            "doubtful: something else ran on the relays' core, they waited for it {:.0} % of their \
             time (at worst {:.0} %). Repeat on a quiet machine.",
            median * 100.0,
            most * 100.0
        )
    })
}

fn costs(samples: &[Sample], workload: Workload, relay: Relay) -> Vec<f64> {
    let of_both = samples.iter().filter(|s| s.workload == workload && s.relay == relay);
    of_both.map(|sample| sample.cost).collect()
}

/// This balancer's cost over the relay's, in each round that has both.
fn ratios(samples: &[Sample], workload: Workload, relay: Relay) -> Vec<f64> {
    let of = |relay| samples.iter().filter(move |s| s.workload == workload && s.relay == relay);
    if relay == Relay::Ringlane {
        return Vec::new();
    }
    of(Relay::Ringlane)
        .filter_map(|own| {
            let other = of(relay).find(|other| other.round == own.round)?;
            Some(own.cost / other.cost)
        })
        .collect()
}

/// Least, median and greatest; `None` of nothing.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        *sorted.get(middle)?
    } else {
        sorted.get(middle.checked_sub(1)?).zip(sorted.get(middle)).map(|(a, b)| (a + b) / 2.0)?
    };
    Some((*sorted.first()?, median, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: usize, relay: Relay, cost: f64) -> Sample {
        Sample { round, workload: Workload::Bulk, relay, cost, disturbed: 0.0 }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in round 1; the ratio does not see it.
        let samples = [
            sample(0, Relay::Ringlane, 0.2),
            sample(0, Relay::Nginx, 0.5),
            sample(1, Relay::Nginx, 1.0),
            sample(1, Relay::Ringlane, 0.4),
        ];
        let (text, met) = verdicts(&samples);
        assert!(met && text.contains("met    CPU s per GB, 8 streams: 0.400 of nginx"), "{text}");
        let table = table(&samples);
        assert!(table.contains("0.400 (0.400 to 0.400)"), "{table}");
        assert!(!table.contains("round trip"), "{table}");
    }

    #[test]
    fn a_missed_bar_is_said() {
        let samples = [sample(0, Relay::Ringlane, 0.4), sample(0, Relay::Nginx, 0.5)];
        let (text, met) = verdicts(&samples);
        assert!(!met && text.contains("MISSED"), "{text}");
        assert!(verdicts(&[sample(0, Relay::Nginx, 0.5)]).1, "nothing to judge");
    }

    #[test]
    fn a_disturbed_comparison_is_called_doubtful() {
        let quiet = sample(0, Relay::Nginx, 0.5);
        assert_eq!(disturbance(&[quiet, quiet]), None);
        let disturbed = Sample { disturbed: 0.4, ..quiet };
        let warning = disturbance(&[quiet, disturbed, disturbed]).unwrap();
        assert!(warning.contains("40 %"), "{warning}");
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[]), None);
    }
}
