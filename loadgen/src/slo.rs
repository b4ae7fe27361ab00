//! Objectives: `p99<2ms`, `p99.9<=500us`, `max<1s`, `errors<0.1%`; several with commas.

use std::fmt;

use crate::report::Report;

/// The part of the schedule that must be kept whatever the objective says: below, the rate that was
/// asked for is not the rate that was measured.
const NEVER_SENT_MOST: f64 = 0.01;

/// What a figure must be below.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// The quantile of the latencies from the intended time, in microseconds.
    Latency { quantile: f64, micros: f64 },
    /// The part of all requests that fails.
    Errors { share: f64 },
}

/// All that must hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slo {
    words: String,
    limits: Vec<Limit>,
}

impl Slo {
    /// Why the report does not meet it; `None` if it does.
    pub(crate) fn missed(&self, report: &Report) -> Option<String> {
        let kept = &report.account.kept;
        let never_sent = kept.never_sent as f64 / kept.due.max(1) as f64;
        if never_sent > NEVER_SENT_MOST {
            return Some(format!("{:.1} % were never sent", never_sent * 100.0));
        }
        let failed = report.failures_total() as f64;
        let errors = failed / (failed + report.requests as f64).max(1.0);
        let tolerated = self.limits.iter().find_map(|limit| match limit {
            Limit::Errors { share } => Some(*share),
            Limit::Latency { .. } => None,
        });
        if errors > tolerated.unwrap_or(0.0) {
            return Some(format!("{:.3} % failed", errors * 100.0));
        }
        if report.requests == 0 {
            return Some("nothing was answered".to_owned());
        }
        self.limits.iter().find_map(|limit| match *limit {
            Limit::Latency { quantile, micros } => {
                let found = report.account.headline().at(quantile);
                (found > micros).then(|| format!("{found:.0} µs where {micros:.0} are allowed"))
            }
            Limit::Errors { .. } => None,
        })
    }

    /// Reads it as it stands on the command line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let limits: Result<Vec<_>, String> = text.split(',').map(limit).collect();
        Ok(Self { words: text.to_owned(), limits: limits? })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

fn limit(text: &str) -> Result<Limit, String> {
    let wrong = || format!("{text}: say p99<2ms, p99.9<500us, max<1s or errors<0.1%");
    let (figure, most) = text.split_once('<').ok_or_else(wrong)?;
    let most = most.trim_start_matches('=').trim();
    let number =
        |digits: &str| digits.trim().parse::<f64>().ok().filter(|n| *n > 0.0 && n.is_finite());
    if figure.trim() == "errors" {
        let percent = most.strip_suffix('%').and_then(number).ok_or_else(wrong)?;
        return Ok(Limit::Errors { share: percent / 100.0 });
    }
    let quantile = match figure.trim() {
        "max" => 1.0,
        figure => {
            let percent = figure.strip_prefix('p').and_then(number).filter(|p| *p < 100.0);
            percent.ok_or_else(wrong)? / 100.0
        }
    };
    let units = [("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    let micros =
        units.iter().find_map(|(unit, micros)| Some(number(most.strip_suffix(unit)?)? * micros));
    Ok(Limit::Latency { quantile, micros: micros.ok_or_else(wrong)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn objectives_are_read_or_refused() {
        let slo = Slo::parse("p99<2ms,p99.9<=500us,max<1s,errors<0.1%").unwrap();
        assert_eq!(
            slo.limits,
            [
                Limit::Latency { quantile: 0.99, micros: 2000.0 },
                Limit::Latency { quantile: 99.9 / 100.0, micros: 500.0 },
                Limit::Latency { quantile: 1.0, micros: 1e6 },
                Limit::Errors { share: 0.001 },
            ]
        );
        for text in
            ["", "p99", "p99<", "p99<2", "p100<2ms", "p0<1ms", "q<1ms", "p99<-2ms", "errors<1"]
        {
            assert!(Slo::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_objective_is_met_or_says_why_not() {
        let slo = Slo::parse("p50<2ms").unwrap();
        let mut report = Report::new().unwrap();
        assert!(slo.missed(&report).unwrap().contains("nothing"));
        report.requests = 2;
        report.account.answered(Some(0), 0, 1_000_000);
        report.account.answered(Some(0), 0, 9_000_000);
        assert_eq!(slo.missed(&report), None);
        assert!(Slo::parse("p90<2ms").unwrap().missed(&report).unwrap().contains("9"));
        report.failed(Failure::Reset, 1, String::new);
        assert!(slo.missed(&report).unwrap().contains("failed"));
        assert_eq!(Slo::parse("p50<2ms,errors<50%").unwrap().missed(&report), None);
        report.account.kept.due = 10;
        report.account.kept.never_sent = 1;
        assert!(slo.missed(&report).unwrap().contains("never sent"));
    }
}
