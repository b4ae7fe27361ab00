//! Time limits that count only the time in which this process ran.
//!
//! After a process was stopped, suspended or migrated with its machine, all its deadlines have
//! passed, answers wait in its sockets and servers have closed their ends. Servers are not to
//! blame: a limit of [`within`] continues where it was, and a check that fails after a pause is
//! repeated. Not here: the same for sessions (`ringlane-l4`).

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Number of slices of a limit; after each, lost time is looked for.
const SLICES: u32 = 8;

/// The longest time between two looks.
const SLICE_MAX: Duration = Duration::from_millis(500);

/// How late a wake-up may be before it counts as a pause of the process.
const LATE_MAX: Duration = Duration::from_millis(250);

/// What became of something that had a limit.
pub(super) struct Limited<T> {
    /// Its outcome, if it was in time.
    pub(super) outcome: Option<T>,
    /// The process was paused in that time.
    pub(super) paused: bool,
}

/// Whether a wake-up due at this time was so late that the process must have been paused.
pub(super) fn overslept(at: Instant) -> bool {
    Instant::now().saturating_duration_since(at) > LATE_MAX
}

/// Waits for `work` for so much time in which the process ran.
pub(super) async fn within<F: Future>(limit: Duration, work: F) -> Limited<F::Output> {
    let mut work = pin!(work);
    let slice = (limit / SLICES).min(SLICE_MAX);
    let (mut left, mut paused) = (limit, false);
    let mut slice_start = Instant::now();
    while !left.is_zero() {
        let until = slice_start + slice.min(left);
        let outcome = tokio::select! {
            biased;
            outcome = &mut work => Some(outcome),
            () = sleep_until(until) => None,
        };
        let was_away = overslept(until);
        paused |= was_away;
        if outcome.is_some() {
            return Limited { outcome, paused };
        }
        // A slice with a pause counts with its planned length only.
        left =
            left.saturating_sub(if was_away { until - slice_start } else { slice_start.elapsed() });
        slice_start = Instant::now();
    }
    Limited { outcome: None, paused }
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
        // The thread blocks, as all threads of a stopped process do; then two more turns of the
        // loop are needed.
        let away = async {
            let (_open, silent) = mpsc::channel::<()>();
            assert!(silent.recv_timeout(3 * LATE_MAX).is_err());
            // PAUSE: one turn of the loop.
            sleep_until(Instant::now() + Duration::from_millis(1)).await;
            // PAUSE: another turn.
            sleep_until(Instant::now() + Duration::from_millis(1)).await;
        };
        let ended = run(within(LATE_MAX, away));
        assert!(ended.outcome.is_some() && ended.paused);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let ended = run(within(Duration::from_millis(20), std::future::pending::<()>()));
        assert!(ended.outcome.is_none());
    }
}
