//! What a run measured: counts, failures by kind, latencies, and whether it is worth anything.
//!
//! Each thread fills its own and they are merged at the end. How it looks on paper is in `output`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::failure::Failure;
use crate::flow::Flow;
use crate::latency::Account;
use crate::load::lost::Loss;
use crate::load::mixed::Found;

/// The share of its cores that the generator may use before it counts as the limit.
const CPU_MOST: f64 = 0.9;

/// Losses that are kept to be listed; all are counted.
const LOSSES_LISTED: usize = 10_000;

/// What one thread used of its core while it was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuUse {
    pub(crate) spent: Duration,
    pub(crate) of: Duration,
}

impl CpuUse {
    fn share(self) -> f64 {
        self.spent.as_secs_f64() / self.of.as_secs_f64().max(1e-9)
    }
}

/// What a process that holds the sessions' other side needed for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    /// Resident bytes before the first session was opened, and at the end.
    pub(crate) memory: (u64, u64),
    /// Its CPU time during the silence.
    pub(crate) cpu: Duration,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// Round trips, connections, pipelines, queries, streams or datagrams that were completed.
    pub(crate) requests: u64,
    /// Commands in them; the same as `requests` but with pipelines.
    pub(crate) operations: u64,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) received: u64,
    /// Sessions that were opened.
    pub(crate) sessions: u64,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    pub(crate) account: Account,
    /// Datagram streams: what happened on the way to the server, and on the way back.
    pub(crate) flow_up: Option<Flow>,
    pub(crate) flow_down: Option<Flow>,
    /// Sessions that were lost, where that is watched.
    pub(crate) losses: Vec<Loss>,
    pub(crate) holding: Option<Holding>,
    /// Of a mixed run.
    pub(crate) mixed: Option<Box<Found>>,
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// The first failure in words.
    pub(crate) first_failure: Option<String>,
    pub(crate) cpu: Vec<CpuUse>,
    /// Cores that the threads could use.
    pub(crate) cores: usize,
}

impl Report {
    /// With nothing in it.
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self {
            requests: 0,
            operations: 0,
            sent: 0,
            received: 0,
            sessions: 0,
            elapsed: Duration::ZERO,
            account: Account::new()?,
            flow_up: None,
            flow_down: None,
            losses: Vec::new(),
            holding: None,
            mixed: None,
            failures: BTreeMap::new(),
            first_failure: None,
            cpu: Vec::new(),
            cores: 1,
        })
    }

    /// Counts what failed.
    pub(crate) fn failed(&mut self, failure: Failure, times: u64, words: impl FnOnce() -> String) {
        if times > 0 {
            *self.failures.entry(failure).or_default() += times;
            self.first_failure.get_or_insert_with(words);
        }
    }

    /// Keeps what happened to a session.
    pub(crate) fn lost(&mut self, loss: Loss) {
        if self.losses.len() < LOSSES_LISTED {
            self.losses.push(loss);
        }
    }

    /// Adds what another thread measured.
    pub(crate) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.operations += other.operations;
        self.sent += other.sent;
        self.received += other.received;
        self.sessions += other.sessions;
        self.account.merge(&other.account);
        merge_flow(&mut self.flow_up, other.flow_up);
        merge_flow(&mut self.flow_down, other.flow_down);
        other.losses.into_iter().for_each(|loss| self.lost(loss));
        if let Some(found) = &other.mixed {
            self.mixed.get_or_insert_default().merge(found);
        }
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.cpu.extend(other.cpu);
    }

    /// Everything that failed.
    pub(crate) fn failures_total(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The generator's own CPU: its busiest thread's share of a core, or all threads' share of the
    /// cores, whichever is greater. `None` if the kernel does not say.
    pub(crate) fn cpu_share(&self) -> Option<f64> {
        let busiest = self.cpu.iter().map(|cpu| cpu.share()).reduce(f64::max)?;
        let all: f64 = self.cpu.iter().map(|cpu| cpu.share()).sum();
        Some(busiest.max(all / self.cores.max(1) as f64))
    }

    /// Why the figures are the generator's and not the server's; empty if they are the server's.
    pub(crate) fn invalid_because(&self) -> Vec<String> {
        let lag = self.account.kept.generator_limit();
        let cpu = self.cpu_share().filter(|share| *share > CPU_MOST).map(|share| {
            format!(
                "it used {:.0} % of its CPU ({:.0} % at most): give it more threads and cores, \
                 or ask less",
                share * 100.0,
                CPU_MOST * 100.0
            )
        });
        lag.into_iter().chain(cpu).collect()
    }
}

/// Adds a flow to others, if there are any.
pub(crate) fn merge_flow(all: &mut Option<Flow>, other: Option<Flow>) {
    match (all.as_mut(), other) {
        (Some(all), Some(other)) => all.merge(&other),
        (None, Some(other)) => *all = Some(other),
        (_, None) => {}
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
            (1..=500).for_each(|n| one.account.answered(None, 0, (base + n) * 1000));
            one.requests = 500;
            one.failed(Failure::Reset, 1, || format!("reset after {base}"));
            all.merge(one);
        }
        assert_eq!(all.requests, 1000);
        assert_eq!(all.failures[&Failure::Reset], 2);
        assert_eq!(all.failures_total(), 2);
        assert_eq!(all.first_failure.as_deref(), Some("reset after 0"));
        let p50 = all.account.headline().at(0.5);
        assert!((499.0..=502.0).contains(&p50), "{p50}");
    }

    #[test]
    fn a_generator_without_cpu_to_spare_is_the_limit() {
        let of = Duration::from_secs(1);
        let cpu = |millis| CpuUse { spent: Duration::from_millis(millis), of };
        let mut report = Report::new().unwrap();
        assert_eq!(report.cpu_share(), None);
        report.cores = 2;
        report.cpu = vec![cpu(100), cpu(950)];
        assert_eq!(report.invalid_because().len(), 1, "one thread can't keep up");
        report.cpu = vec![cpu(500), cpu(480)];
        assert!(report.invalid_because().is_empty());
        report.cores = 1;
        assert_eq!(report.invalid_because().len(), 1, "two threads on one core");
    }
}
