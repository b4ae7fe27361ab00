//! Outlier detection: servers are ejected because of session failures.
//!
//! Pure: takes counts and the time. Failures are counted in a window of `interval`; a server with
//! enough of them, and at least as many failures as sessions that went well, is ejected for a
//! while, longer each time. Not here: counting (`counters`), and the effect of an ejection
//! ([`super::Backend::set_ejected`]). Invariants: at most `share` percent of the servers are
//! ejected at once; after an ejection only later sessions count.

use std::fmt;
use std::time::{Duration, Instant};

/// When a server is ejected, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// Number of failures that eject a server.
    pub failures: u32,
    /// Length of the window in which failures are counted.
    pub interval: Duration,
    /// Duration of the first ejection; it doubles each time.
    pub base: Duration,
    /// Longest ejection; after this time without one, the next lasts for `base` again.
    pub max: Duration,
    /// Percentage of the servers that may be ejected at once, rounded down.
    pub share: u32,
    /// Percentage of retransmitted segments above which a session is a failure, if set.
    pub retransmits: Option<u32>,
    /// Longest time from the client's first byte to the server's first byte before a session is a
    /// failure, if set.
    pub first_byte: Option<Duration>,
}

/// Session outcomes of a server since the start; the counts only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Met {
    /// Sessions that it accepted, including those that failed early.
    pub sessions: u64,
    /// Connects that failed or timed out.
    pub connects_failed: u64,
    /// Sessions that it reset before its first byte, or did not answer before their timeout.
    pub failed_early: u64,
    /// Sessions with too many retransmissions.
    pub lossy: u64,
    /// Sessions whose first byte came too late.
    pub late: u64,
}

impl Met {
    fn since(self, before: Self) -> Self {
        Self {
            sessions: self.sessions.saturating_sub(before.sessions),
            connects_failed: self.connects_failed.saturating_sub(before.connects_failed),
            failed_early: self.failed_early.saturating_sub(before.failed_early),
            lossy: self.lossy.saturating_sub(before.lossy),
            late: self.late.saturating_sub(before.late),
        }
    }

    fn failures(self) -> u64 {
        self.connects_failed + self.sessions_failed()
    }

    fn sessions_failed(self) -> u64 {
        self.failed_early + self.lossy + self.late
    }

    fn is_enough(self, failures: u32) -> bool {
        let went_well = self.sessions.saturating_sub(self.sessions_failed());
        self.failures() >= failures.into() && self.failures() >= went_well
    }
}

impl fmt::Display for Met {
    /// As in `3 connects failed, 2 of 4 sessions got no answer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (count, of_sessions, what) in [
            (self.connects_failed, false, "connects failed"),
            (self.failed_early, true, "sessions got no answer"),
            (self.lossy, true, "sessions had too many retransmissions"),
            (self.late, true, "sessions were answered too late"),
        ] {
            match (count, of_sessions) {
                (0, _) => continue,
                (_, true) => write!(f, "{gap}{count} of {} {what}", self.sessions)?,
                (_, false) => write!(f, "{gap}{count} {what}")?,
            }
            gap = ", ";
        }
        Ok(())
    }
}

/// A change of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Ejected for this time, because of these outcomes.
    Ejected(Duration, Met),
    /// The ejection is over.
    Back,
}

/// The servers of one backend.
#[derive(Debug)]
pub struct Outlier {
    rules: Ejection,
    seats: Vec<Seat>,
    /// Servers that have an address, and those of them that are ejected: the sums of all seats.
    present: usize,
    out: usize,
}

#[derive(Debug)]
struct Seat {
    /// Whether the server has an address.
    present: bool,
    /// The counts at the start of this half of the window, and of the half before it.
    marks: [Met; 2],
    /// When this half began.
    since: Instant,
    /// End of the ejection; set while it lasts.
    out_until: Option<Instant>,
    /// End of the last ejection.
    back: Instant,
    /// Number of ejections that still count for the duration of the next.
    times: u32,
}

impl Outlier {
    /// Starts with the counts that servers have now.
    pub fn new(rules: Ejection, met: impl IntoIterator<Item = Met>, now: Instant) -> Self {
        let seats: Vec<Seat> = met.into_iter().map(|met| Seat::new(met, now)).collect();
        Self { rules, present: seats.len(), out: 0, seats }
    }

    /// Goes on with other rules and servers; each with its place before, if it was there, and what
    /// it has met so far.
    pub fn follow(
        &mut self,
        rules: Ejection,
        servers: impl IntoIterator<Item = (Option<usize>, Met)>,
        now: Instant,
    ) {
        let mut before: Vec<Option<Seat>> = self.seats.drain(..).map(Some).collect();
        let kept = |at: usize, before: &mut Vec<Option<Seat>>| before.get_mut(at)?.take();
        let seat = |(at, met): (Option<usize>, Met)| {
            at.and_then(|at| kept(at, &mut before)).unwrap_or_else(|| Seat::new(met, now))
        };
        self.seats = servers.into_iter().map(seat).collect();
        self.rules = rules;
        self.present = self.seats.iter().filter(|seat| seat.present).count();
        self.out = self.seats.iter().filter(|seat| seat.is_out()).count();
    }

    /// The address of a server has changed or is gone: its history is reset.
    pub fn forget(&mut self, index: usize, met: Met, present: bool, now: Instant) {
        if let Some(seat) = self.seats.get_mut(index) {
            self.out -= usize::from(seat.is_out());
            self.present = self.present + usize::from(present) - usize::from(seat.present);
            *seat = Seat { present, ..Seat::new(met, now) };
        }
    }

    /// Ignores the failures of a server until now, which it did not cause.
    pub fn forgive(&mut self, index: usize, met: Met, now: Instant) {
        if let Some(seat) = self.seats.get_mut(index) {
            (seat.marks, seat.since) = ([met; 2], now);
        }
    }

    /// Takes the counts of a server. Must be called for each server a few times per `interval`.
    pub fn observe(&mut self, index: usize, met: Met, now: Instant) -> Option<Verdict> {
        let may_go = (self.out + 1) * 100 <= self.present * self.rules.share as usize;
        let (rules, seat) = (self.rules, self.seats.get_mut(index)?);
        if let Some(until) = seat.out_until {
            if now < until {
                return None;
            }
            self.out -= usize::from(seat.is_out());
            (seat.out_until, seat.back) = (None, now);
            (seat.marks, seat.since) = ([met; 2], now);
            return Some(Verdict::Back);
        }
        if now.saturating_duration_since(seat.back) >= rules.max {
            seat.times = 0;
        }
        if now.saturating_duration_since(seat.since) >= rules.interval / 2 {
            (seat.marks, seat.since) = ([met, seat.marks[0]], now);
        }
        let lately = met.since(seat.marks[1]);
        if may_go && lately.is_enough(rules.failures) {
            let time = rules.base.saturating_mul(1 << seat.times.min(31)).min(rules.max);
            seat.times = seat.times.saturating_add(1);
            seat.out_until = Some(now + time);
            self.out += usize::from(seat.is_out());
            return Some(Verdict::Ejected(time, lately));
        }
        None
    }
}

impl Seat {
    fn new(met: Met, now: Instant) -> Self {
        Self { present: true, marks: [met; 2], since: now, out_until: None, back: now, times: 0 }
    }

    /// Whether it counts as ejected.
    fn is_out(&self) -> bool {
        self.present && self.out_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULES: Ejection = Ejection {
        failures: 5,
        interval: Duration::from_secs(10),
        base: Duration::from_secs(30),
        max: Duration::from_secs(100),
        share: 50,
        retransmits: None,
        first_byte: None,
    };

    fn met(sessions: u64, connects_failed: u64, failed_early: u64) -> Met {
        Met { sessions, connects_failed, failed_early, ..Met::default() }
    }

    fn three(now: Instant) -> Outlier {
        Outlier::new(RULES, [Met::default(); 3], now)
    }

    #[test]
    fn forgiven_failures_eject_no_server() {
        let now = Instant::now();
        let mut outlier = three(now);
        outlier.forgive(0, met(0, 7, 0), now);
        assert_eq!(outlier.observe(0, met(0, 11, 0), now), None);
        let verdict = outlier.observe(0, met(0, 12, 0), now);
        assert_eq!(verdict, Some(Verdict::Ejected(RULES.base, met(0, 5, 0))));
    }

    #[test]
    fn enough_failures_eject_unless_more_went_well() {
        let now = Instant::now();
        for (met, ejected) in [
            (met(0, 4, 0), false),
            (met(0, 5, 0), true),
            (met(5, 0, 5), true),
            (met(3, 2, 3), true),
            (met(100, 5, 0), false),
            (met(10, 0, 5), true),
            (met(11, 0, 5), false),
            (Met { lossy: 4, ..met(6, 0, 1) }, true),
            (Met { lossy: 4, ..met(11, 0, 1) }, false),
            (Met { late: 3, lossy: 1, ..met(9, 0, 1) }, true),
            (Met { late: 3, lossy: 1, ..met(11, 0, 1) }, false),
        ] {
            let verdict = three(now).observe(0, met, now);
            assert_eq!(verdict == Some(Verdict::Ejected(RULES.base, met)), ejected, "{met}");
        }
    }

    #[test]
    fn failures_that_are_far_apart_eject_no_server() {
        let (mut outlier, mut now) = (three(Instant::now()), Instant::now());
        for failures in 1..100 {
            assert_eq!(outlier.observe(0, met(0, failures, 0), now), None, "{failures}");
            now += SECOND * 3;
        }
        // Closer together they do, also across the middle of a window.
        for failures in 100..110 {
            now += SECOND;
            if outlier.observe(0, met(0, failures, 0), now).is_some() {
                return;
            }
        }
        panic!("no server was ejected");
    }

    #[test]
    fn the_time_doubles_up_to_a_cap_and_is_forgotten() {
        let (mut now, mut failures) = (Instant::now(), 0);
        let mut outlier = three(now);
        for seconds in [30, 60, 100, 100] {
            failures += 5;
            let verdict = outlier.observe(1, met(0, failures, 0), now);
            assert_eq!(verdict, Some(Verdict::Ejected(SECOND * seconds, met(0, 5, 0))));
            // What ends meanwhile counts for nothing.
            failures += 50;
            now += SECOND * (seconds - 1);
            assert_eq!(outlier.observe(1, met(0, failures, 0), now), None);
            now += SECOND;
            assert_eq!(outlier.observe(1, met(0, failures, 0), now), Some(Verdict::Back));
            assert_eq!(outlier.observe(1, met(0, failures, 0), now), None);
        }
        now += RULES.max;
        let verdict = outlier.observe(1, met(0, failures + 5, 0), now);
        assert_eq!(verdict, Some(Verdict::Ejected(RULES.base, met(0, 5, 0))));
    }

    #[test]
    fn no_more_than_the_share_are_out_at_once() {
        let now = Instant::now();
        let mut outlier = three(now);
        let bad = met(0, 9, 0);
        assert!(outlier.observe(0, bad, now).is_some());
        assert_eq!(outlier.observe(1, bad, now), None, "one of three is out, and two were more");
        assert_eq!(outlier.observe(0, bad, now + RULES.base), Some(Verdict::Back));
        let worse = met(0, 18, 0);
        assert!(outlier.observe(1, worse, now + RULES.base).is_some(), "its turn");
        // Half of those that are there: none of one.
        let mut named = three(now);
        named.forget(1, Met::default(), false, now);
        named.forget(2, Met::default(), false, now);
        assert_eq!(named.observe(0, bad, now), None);
        let mut alone = Outlier::new(RULES, [Met::default()], now);
        assert_eq!(alone.observe(0, bad, now), None);
    }

    proptest! {
        #[test]
        fn whatever_happens_the_share_is_kept_and_everybody_comes_back(
            share in 1..=100_u32,
            steps in proptest::collection::vec((0..5_usize, 0..9_u64, 0..40_u64), 1..200),
        ) {
            let mut now = Instant::now();
            let rules = Ejection { share, ..RULES };
            let mut outlier = Outlier::new(rules, [Met::default(); 5], now);
            let (mut out, mut met) = ([None; 5], [Met::default(); 5]);
            for (index, failures, seconds) in steps {
                now += SECOND * seconds as u32;
                met[index].connects_failed += failures;
                match outlier.observe(index, met[index], now) {
                    Some(Verdict::Ejected(time, _)) => {
                        prop_assert!(out[index].is_none() && time <= rules.max);
                        out[index] = Some(now + time);
                    }
                    Some(Verdict::Back) => prop_assert!(out[index].take().is_some_and(|at| at <= now)),
                    None => prop_assert!(out[index].is_none_or(|at| now < at)),
                }
                let seats = outlier.seats.iter().filter(|seat| seat.is_out()).count();
                prop_assert_eq!(outlier.out, seats);
                let count = out.iter().flatten().count();
                prop_assert!(count * 100 <= 5 * share as usize, "{count} of 5 with {share}");
            }
        }
    }
}
