//! Time limits that count the time in which this process ran.
//!
//! A process that is stopped, suspended or moved with its machine finds all its deadlines passed when it
//! goes on, while answers wait in its sockets and servers have given it up. That is no failure of theirs:
//! a limit of [`within`] goes on where it stood, and a check that fails after a pause is made again. Not
//! here: the same for sessions (`ringlane-l4`).

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Shares of a limit after which it is looked whether time was lost.
const SLICES: u32 = 8;

/// The longest time between two looks.
const SLICE_MAX: Duration = Duration::from_millis(500);

/// How much later than asked for the process may be woken without having been away.
const LATE: Duration = Duration::from_millis(250);

/// What became of something that had a limit.
pub(super) struct Ended<T> {
    /// Its outcome, if it was in time.
    pub(super) outcome: Option<T>,
    /// The process was away meanwhile.
    pub(super) paused: bool,
}

/// Whether whoever was to be woken at that time was woken so late that the process was away.
pub(super) fn overslept(at: Instant) -> bool {
    Instant::now().saturating_duration_since(at) > LATE
}

/// Waits for `work` for so much time in which the process ran.
pub(super) async fn within<F: Future>(limit: Duration, work: F) -> Ended<F::Output> {
    let mut work = pin!(work);
    let slice = (limit / SLICES).min(SLICE_MAX);
    let (mut left, mut paused) = (limit, false);
    let mut looked = Instant::now();
    while !left.is_zero() {
        let until = looked + slice.min(left);
        let outcome = tokio::select! {
            biased;
            outcome = &mut work => Some(outcome),
            () = sleep_until(until) => None,
        };
        let was_away = overslept(until);
        paused |= was_away;
        if outcome.is_some() {
            return Ended { outcome, paused };
        }
        // Of a slice in which it was away, only what was asked for.
        left = left.saturating_sub(if was_away { until - looked } else { looked.elapsed() });
        looked = Instant::now();
    }
    Ended { outcome: None, paused }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;

    fn run<F: Future>(work: F) -> F::Output {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn a_pause_takes_nothing_from_the_limit() {
        // The thread is held up, as all threads of a process are that is stopped; then two more turns
        // of the loop are needed.
        let away = async {
            let (_open, silent) = mpsc::channel::<()>();
            assert!(silent.recv_timeout(3 * LATE).is_err());
            sleep_until(Instant::now() + Duration::from_millis(1)).await;
            sleep_until(Instant::now() + Duration::from_millis(1)).await;
        };
        let ended = run(within(LATE, away));
        assert!(ended.outcome.is_some() && ended.paused);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let ended = run(within(Duration::from_millis(20), std::future::pending::<()>()));
        assert!(ended.outcome.is_none());
    }
}
