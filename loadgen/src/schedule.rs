//! When requests are due: fixed before the first is sent, whatever the answers do.
//!
//! A schedule is a pure function of rate, arrivals, seed and the thread's place among all threads;
//! it knows no clock. Read `load::turns` for how one is kept.

use clap::ValueEnum;

use crate::random::Random;

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Arrivals {
    /// Evenly.
    Constant,
    /// As from many independent clients: gaps are exponentially distributed.
    Poisson,
}

impl Arrivals {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// An open loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Open {
    /// Arrivals per second over all threads; above 0.
    pub(crate) rate: f64,
    pub(crate) arrivals: Arrivals,
    pub(crate) seed: u64,
}

/// The arrivals of one thread, in nanoseconds since the beginning; never ends, never goes back.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    /// Nanoseconds between two arrivals of all threads together.
    gap: f64,
    /// Nanoseconds between two arrivals of this thread.
    own_gap: f64,
    /// This thread's place.
    index: u64,
    threads: u64,
    done: u64,
    at: f64,
    random: Random,
}

impl Schedule {
    /// The part of the `index`th of `threads` threads.
    pub(crate) fn new(open: Open, index: usize, threads: usize) -> Self {
        let gap = 1e9 / open.rate;
        // Distant seeds, so that the threads' sequences have nothing in common.
        let seed = Random::new(open.seed ^ ((index as u64) << 48)).next();
        Self {
            arrivals: open.arrivals,
            gap,
            own_gap: gap * threads as f64,
            index: index as u64,
            threads: threads as u64,
            done: 0,
            at: 0.0,
            random: Random::new(seed),
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.at = match self.arrivals {
            // Multiplied, not added up: no error grows.
            Arrivals::Constant => self.gap * (self.done * self.threads + self.index) as f64,
            Arrivals::Poisson => self.at - self.random.fraction().ln() * self.own_gap,
        };
        self.done += 1;
        Some(self.at as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take_until(open: Open, index: usize, threads: usize, end: u64) -> Vec<u64> {
        Schedule::new(open, index, threads).take_while(|at| *at < end).collect()
    }

    proptest! {
        #[test]
        fn threads_share_a_constant_schedule_without_gap_or_overlap(
            rate in 1.0_f64..50_000.0,
            threads in 1_usize..8,
        ) {
            let open = Open { rate, arrivals: Arrivals::Constant, seed: 0 };
            let end = 500_000_000;
            let mut all: Vec<u64> =
                (0..threads).flat_map(|index| take_until(open, index, threads, end)).collect();
            all.sort_unstable();
            prop_assert_eq!(&all, &take_until(open, 0, 1, end));
            let due = rate * 0.5;
            prop_assert!((all.len() as f64 - due).abs() <= 1.0, "{} of {due}", all.len());
        }

        #[test]
        fn schedules_never_go_back_and_are_the_same_again(
            seed: u64,
            rate in 1.0_f64..1e6,
            threads in 1_usize..8,
        ) {
            let open = Open { rate, arrivals: Arrivals::Poisson, seed };
            let first: Vec<u64> = Schedule::new(open, threads - 1, threads).take(1000).collect();
            prop_assert!(first.is_sorted());
            let again: Vec<u64> = Schedule::new(open, threads - 1, threads).take(1000).collect();
            prop_assert_eq!(first, again);
        }

        #[test]
        fn poisson_arrivals_have_the_mean_and_the_spread_of_their_rate(
            seed: u64,
            rate in 100.0_f64..1e5,
            threads in 1_usize..4,
        ) {
            let open = Open { rate, arrivals: Arrivals::Poisson, seed };
            let count = 20_000;
            let times: Vec<u64> = Schedule::new(open, 0, threads).take(count).collect();
            let gap = 1e9 / rate * threads as f64;
            // The mean of n gaps has the deviation gap / √n; six of those never happen.
            let mean = times[count - 1] as f64 / count as f64;
            let allowed = 6.0 / (count as f64).sqrt();
            prop_assert!((mean / gap - 1.0).abs() < allowed, "{mean} of {gap}");
            // Of exponential gaps 1/e are longer than their mean.
            let long = times.windows(2).filter(|pair| (pair[1] - pair[0]) as f64 > gap).count();
            let share = long as f64 / (count - 1) as f64;
            prop_assert!((share - (-1.0_f64).exp()).abs() < 0.03, "{share}");
        }
    }

    #[test]
    fn other_seeds_and_other_threads_have_other_arrivals() {
        let open = Open { rate: 1000.0, arrivals: Arrivals::Poisson, seed: 1 };
        let first = |open, index| Schedule::new(open, index, 2).next();
        assert_ne!(first(open, 0), first(open, 1));
        assert_ne!(first(open, 0), first(Open { seed: 2, ..open }, 0));
    }
}
