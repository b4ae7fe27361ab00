//! The highest rate that meets an objective: up by doubling until it is missed, then by bisection.
//!
//! The search is pure ([`Search`]); only [`run`] makes traffic. A rate that the generator itself
//! could not keep ends the search upwards: what the server could do beyond it is not known, and the
//! result says so.

use crate::load::{self, Plan};
use crate::machine::Interrupt;
use crate::output::{Output, Verdict, say};
use crate::report::Report;
use crate::schedule::{Arrivals, Open};
use crate::slo::Slo;

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) slo: Slo,
    /// The first rate that is tried, in arrivals a second.
    pub(crate) from: f64,
    /// The highest rate that is tried.
    pub(crate) to: f64,
    /// How close the answer must be, as a part of it.
    pub(crate) precision: f64,
    pub(crate) arrivals: Arrivals,
    pub(crate) seed: u64,
}

/// What trying a rate said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    Met,
    Missed,
    /// The generator was the limit.
    Unknown,
}

/// Where the search stands.
#[derive(Clone, Debug, PartialEq)]
struct Search {
    /// The highest rate that met the objective.
    met: Option<f64>,
    /// The lowest rate that did not.
    missed: Option<f64>,
    /// Whether the generator was the limit at `missed`.
    unknown: bool,
    to: f64,
    precision: f64,
    next: f64,
}

impl Search {
    fn new(question: &Question) -> Self {
        let Question { from, to, precision, .. } = *question;
        Self { met: None, missed: None, unknown: false, to, precision, next: from.min(to) }
    }

    /// Takes an answer for `next`; the next rate to try, or `None` when the search is over.
    fn answer(&mut self, answer: Answer) -> Option<f64> {
        if answer == Answer::Met {
            self.met = Some(self.next);
        } else {
            self.missed = Some(self.next);
            self.unknown = answer == Answer::Unknown;
        }
        self.next = match (self.met, self.missed) {
            (Some(met), None) if met >= self.to => return None,
            (Some(met), None) => (met * 2.0).min(self.to),
            (Some(met), Some(missed)) if missed <= met * (1.0 + self.precision) => return None,
            (Some(met), Some(missed)) => f64::midpoint(met, missed),
            // Not even the first one: lower, but not for ever.
            (None, missed) if missed.unwrap_or(1.0) < 1.0 => return None,
            (None, missed) => missed.unwrap_or(1.0) / 4.0,
        };
        Some(self.next)
    }
}

/// Searches, telling each step on stderr; prints the run at the highest rate that met it.
pub(crate) fn run(
    question: &Question,
    plan: &Plan,
    output: &Output,
    interrupt: &Interrupt,
) -> Result<Verdict, String> {
    let mut search = Search::new(question);
    let mut best: Option<(Plan, Report)> = None;
    loop {
        let mut step = plan.clone();
        let Question { arrivals, seed, .. } = *question;
        step.open = Some(Open { rate: search.next, arrivals, seed });
        let report = load::run(&step, interrupt)?;
        if interrupt.has_come() {
            say("interrupted: this step does not count");
            break;
        }
        let (answer, words) = judge(&question.slo, &report);
        say(format_args!("{:>10.0} a second: {words}", search.next));
        if answer == Answer::Met {
            best = Some((step, report));
        }
        if search.answer(answer).is_none() {
            break;
        }
    }
    let Some((plan, report)) = best else {
        let rate = search.missed.unwrap_or(search.next);
        if search.unknown {
            say(format_args!(
                "ringlane-loadgen: invalid, the generator itself was the limit down to {rate:.1} a \
                 second: is the machine busy?"
            ));
            return Ok(Verdict::Invalid);
        }
        return Err(format!(
            "{} was not met at any rate, down to {rate:.1} a second",
            question.slo
        ));
    };
    let rate = plan.open.map_or(0.0, |open| open.rate);
    say(format_args!("{} is met up to {rate:.0} a second", question.slo));
    let verdict = output.write(&plan, &report)?;
    if search.missed.is_some() && search.unknown {
        say(
            "ringlane-loadgen: invalid as a maximum, the generator itself was the limit above that: \
             give it more threads and cores",
        );
        return Ok(Verdict::Invalid);
    }
    Ok(verdict)
}

fn judge(slo: &Slo, report: &Report) -> (Answer, String) {
    let p99 = report.account.headline().at(0.99);
    if let Some(reason) = report.invalid_because().first() {
        return (Answer::Unknown, format!("the load generator was the limit: {reason}"));
    }
    match slo.missed(report) {
        None => (Answer::Met, format!("met (p99 {p99:.0} µs)")),
        Some(why) => (Answer::Missed, format!("missed: {why} (p99 {p99:.0} µs)")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(from: f64, to: f64) -> Question {
        let slo = Slo::parse("p99<2ms").unwrap();
        Question { slo, from, to, precision: 0.05, arrivals: Arrivals::Constant, seed: 0 }
    }

    fn search(question: &Question, answer: impl Fn(f64) -> Answer) -> (Search, usize) {
        let mut search = Search::new(question);
        let mut steps = 1;
        while search.answer(answer(search.next)).is_some() {
            steps += 1;
        }
        (search, steps)
    }

    proptest! {
        #[test]
        fn the_border_is_found_in_few_steps(border in 1.0_f64..1e6, from in 1.0_f64..1e6) {
            let answer = |rate| if rate <= border { Answer::Met } else { Answer::Missed };
            let (search, steps) = search(&question(from, 1e9), answer);
            let met = search.met.unwrap();
            prop_assert!(met <= border && met * 1.051 >= border, "{met} for {border}");
            prop_assert!(steps < 60, "{steps}");
        }
    }

    #[test]
    fn the_search_ends_at_its_limits() {
        let (upwards, _) = search(&question(100.0, 1000.0), |_| Answer::Met);
        assert_eq!((upwards.met, upwards.missed), (Some(1000.0), None));
        let (downwards, steps) = search(&question(100.0, 1000.0), |_| Answer::Missed);
        assert_eq!(downwards.met, None);
        assert!(steps < 10);
        let limit = |rate| if rate <= 300.0 { Answer::Met } else { Answer::Unknown };
        assert!(search(&question(100.0, 1000.0), limit).0.unknown);
    }
}
