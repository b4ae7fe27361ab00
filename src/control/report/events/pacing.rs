//! Rate limits for log lines: plain structs that get totals and the time.
//!
//! Not here: the text of lines (`frontends`, `backends`, `servers`, `shards`). Invariants: nothing
//! is lost by a limit, because what was held back is part of the next line's count; the first
//! occurrence is reported at once; two lines about the same thing are at least an interval apart.

use std::time::{Duration, Instant};

/// Time between two lines about the same thing.
pub(super) const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Lines that one look may write; the rest waits for the next look. A machine on which everything
/// fails at once would otherwise log as many lines a second as it has servers.
pub(super) const LINES_PER_LOOK: usize = 64;

/// The lines that are left for this look.
#[derive(Debug)]
pub(super) struct Budget {
    lines: usize,
    /// There will be no other look, so everything must be reported now.
    is_last: bool,
}

impl Budget {
    /// The lines of an ordinary look.
    pub(super) fn new() -> Self {
        Self { lines: LINES_PER_LOOK, is_last: false }
    }

    /// The lines of the last look, which reports what was held back.
    pub(super) fn last() -> Self {
        Self { is_last: true, ..Self::new() }
    }

    /// Whether a line may be written, the last one about the same thing having been then.
    fn allows(&self, reported_at: Option<Instant>, now: Instant) -> bool {
        let is_early = || reported_at.is_some_and(|at| now < at + LINE_INTERVAL);
        self.lines > 0 && (self.is_last || !is_early())
    }

    fn spend(&mut self) {
        self.lines = self.lines.saturating_sub(1);
    }
}

/// Occurrences of one kind, from a total that only grows.
#[derive(Debug)]
pub(super) struct Tally {
    /// What has been reported, of the total.
    reported: u64,
    /// Up to when everything has been reported.
    complete: Instant,
    reported_at: Option<Instant>,
}

/// What a line reports of a [`Tally`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Repeats {
    /// Occurrences since the last line.
    pub(super) count: u64,
    /// The time in which they were.
    pub(super) within: Duration,
}

impl Tally {
    /// Nothing has happened yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { reported: 0, complete: now, reported_at: None }
    }

    /// The total is this now; what to report, if it is time to.
    pub(super) fn observe(
        &mut self,
        total: u64,
        now: Instant,
        budget: &mut Budget,
    ) -> Option<Repeats> {
        let count = total.saturating_sub(self.reported);
        if count == 0 {
            self.complete = now;
            return None;
        }
        if !budget.allows(self.reported_at, now) {
            return None;
        }
        budget.spend();
        let within = now.saturating_duration_since(self.complete);
        *self = Self { reported: total, complete: now, reported_at: Some(now) };
        Some(Repeats { count, within })
    }
}

/// Something that begins and is over again, such as a limit that is reached.
#[derive(Debug, Default)]
pub(super) struct Episode {
    /// How long it must be over before that is reported.
    calm: Duration,
    begun: Option<Instant>,
    last_seen: Option<Instant>,
    /// Its beginning has been reported, and not its end.
    is_reported: bool,
    reported_at: Option<Instant>,
    /// Episodes that began and ended between two lines.
    unreported: u64,
}

/// What to report of an [`Episode`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It has begun, after a number of others that were too short to be reported.
    Begun {
        /// How many those were.
        unreported: u64,
    },
    /// It is over.
    Over {
        /// How long it was.
        lasted: Duration,
    },
}

impl Episode {
    /// One that counts as over after this time without it.
    pub(super) fn over_after(calm: Duration) -> Self {
        Self { calm, ..Self::default() }
    }

    /// Records whether it is on now; returns what to report, if it is time to.
    pub(super) fn observe(
        &mut self,
        is_on: bool,
        now: Instant,
        budget: &mut Budget,
    ) -> Option<Turn> {
        if is_on {
            self.last_seen = Some(now);
            self.begun.get_or_insert(now);
            if self.is_reported || !budget.allows(self.reported_at, now) {
                return None;
            }
            budget.spend();
            (self.is_reported, self.reported_at) = (true, Some(now));
            return Some(Turn::Begun { unreported: std::mem::take(&mut self.unreported) });
        }
        let (Some(begun), Some(seen)) = (self.begun, self.last_seen) else { return None };
        if now < seen + self.calm && !budget.is_last {
            return None;
        }
        if !self.is_reported {
            self.begun = None;
            self.unreported += 1;
            return None;
        }
        if !budget.allows(None, now) {
            return None;
        }
        budget.spend();
        (self.is_reported, self.begun) = (false, None);
        Some(Turn::Over { lasted: now.saturating_duration_since(begun) })
    }
}

/// An [`Episode`] in which something waits; the total of waits only grows.
#[derive(Debug)]
pub(super) struct Waits {
    episode: Episode,
    /// The total when the last end was reported.
    reported: u64,
    /// The total at the last look.
    last: u64,
}

impl Waits {
    /// One that counts as over after this time without waits.
    pub(super) fn over_after(calm: Duration) -> Self {
        Self { episode: Episode::over_after(calm), reported: 0, last: 0 }
    }

    /// Records whether it is on now and the total of waits; returns what to report, if it is time
    /// to, with the number of waits since the last reported end. An episode between two looks shows
    /// in the total.
    pub(super) fn observe(
        &mut self,
        is_on: bool,
        total: u64,
        now: Instant,
        budget: &mut Budget,
    ) -> Option<(Turn, u64)> {
        let have_waited = total > std::mem::replace(&mut self.last, total);
        // At the last look it is over all the same, or nothing would say how many it was.
        let ends_now = budget.is_last && self.episode.is_reported;
        let turn = self.episode.observe(is_on || have_waited && !ends_now, now, budget)?;
        let count = total.saturating_sub(self.reported);
        if matches!(turn, Turn::Over { .. }) {
            self.reported = total;
        }
        Some((turn, count))
    }
}

/// A time for people: `1 s`, `3 min`.
pub(super) fn human(time: Duration) -> String {
    match time.as_secs() {
        0 => "less than 1 s".to_owned(),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// A number with its noun: `1 session`, `2 sessions`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_reported_at_once_and_repeats_are_summed() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let mut at = |second: u32, total| {
            let repeats = tally.observe(total, start + SECOND * second, &mut Budget::new());
            repeats.map(|repeats| (repeats.count, repeats.within.as_secs()))
        };
        assert_eq!(at(1, 0), None);
        assert_eq!(at(2, 3), Some((3, 1)));
        assert_eq!(at(3, 3), None);
        assert_eq!(at(4, 5), None, "too early");
        assert_eq!(at(11, 9), None);
        assert_eq!(at(12, 9), Some((6, 9)), "since the look before the first of them");
        assert_eq!(at(13, 9), None);
        assert_eq!(at(40, 10), Some((1, 27)));
    }

    #[test]
    fn an_episode_is_reported_twice_and_short_ones_between_are_counted() {
        let start = Instant::now();
        let mut episode = Episode::over_after(2 * SECOND);
        let mut at = |second: u32, is_on| {
            episode.observe(is_on, start + SECOND * second, &mut Budget::new())
        };
        assert_eq!(at(1, false), None);
        assert_eq!(at(2, true), Some(Turn::Begun { unreported: 0 }));
        assert_eq!((at(3, false), at(4, true)), (None, None), "not calm");
        assert_eq!((at(5, false), at(6, false)), (None, Some(Turn::Over { lasted: 4 * SECOND })));
        assert_eq!(at(7, true), None, "too early after the last");
        assert_eq!((at(8, false), at(9, false), at(10, false)), (None, None, None));
        assert_eq!(at(11, true), None);
        assert_eq!(at(12, true), Some(Turn::Begun { unreported: 1 }));
    }

    #[test]
    fn a_spent_budget_delays_and_loses_nothing() {
        let now = Instant::now();
        let (mut tally, mut episode) = (Tally::new(now), Episode::default());
        let with = |lines| Budget { lines, is_last: false };
        let mut spent = with(0);
        assert_eq!(tally.observe(4, now + SECOND, &mut spent), None);
        assert_eq!(episode.observe(true, now + SECOND, &mut spent), None);
        let mut budget = with(2);
        let repeats = Repeats { count: 5, within: 2 * SECOND };
        assert_eq!(tally.observe(5, now + 2 * SECOND, &mut budget), Some(repeats));
        let begun = episode.observe(true, now + 2 * SECOND, &mut budget);
        assert_eq!((begun, budget.lines), (Some(Turn::Begun { unreported: 0 }), 0));
    }

    #[test]
    fn the_last_look_says_what_was_held_back() {
        let now = Instant::now();
        let mut tally = Tally::new(now);
        assert!(tally.observe(1, now, &mut Budget::new()).is_some());
        assert_eq!(tally.observe(3, now, &mut Budget::new()), None);
        let repeats = tally.observe(3, now, &mut Budget::last());
        assert_eq!(repeats.map(|repeats| repeats.count), Some(2));
    }

    #[test]
    fn the_last_look_says_how_many_have_waited() {
        let now = Instant::now();
        let mut waits = Waits::over_after(3 * SECOND);
        let begun = waits.observe(true, 2, now, &mut Budget::new());
        assert_eq!(begun, Some((Turn::Begun { unreported: 0 }, 2)));
        let over = waits.observe(false, 9, now + SECOND, &mut Budget::last());
        assert_eq!(over, Some((Turn::Over { lasted: SECOND }, 9)));
    }

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(
            (counted(1, "session"), counted(2, "session")),
            ("1 session".into(), "2 sessions".into())
        );
        for (seconds, text) in [(0, "less than 1 s"), (1, "1 s"), (119, "119 s"), (180, "3 min")] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }

    proptest! {
        /// Whatever happens when: everything is counted once, and lines are an interval apart.
        #[test]
        fn every_occurrence_is_in_exactly_one_line(
            steps in prop::collection::vec((0_u64..5, 0_u64..4000, any::<bool>()), 0..100)
        ) {
            let mut now = Instant::now();
            let (mut tally, mut total, mut reported) = (Tally::new(now), 0, 0);
            let mut last: Option<Instant> = None;
            for (more, millis, has_budget) in steps {
                total += more;
                now += Duration::from_millis(millis);
                let mut budget = Budget { lines: usize::from(has_budget), is_last: false };
                if let Some(repeats) = tally.observe(total, now, &mut budget) {
                    prop_assert!(has_budget && repeats.count > 0);
                    prop_assert!(last.is_none_or(|at| now >= at + LINE_INTERVAL));
                    (last, reported) = (Some(now), reported + repeats.count);
                    prop_assert_eq!(reported, total);
                }
            }
            now += LINE_INTERVAL;
            reported += tally.observe(total, now, &mut Budget::new()).map_or(0, |r| r.count);
            prop_assert_eq!(reported, total);
        }

        /// Beginnings and ends alternate, and beginnings are an interval apart.
        #[test]
        fn an_end_is_said_only_of_what_has_begun(
            looks in prop::collection::vec((any::<bool>(), 0_u64..6000), 0..100)
        ) {
            let mut now = Instant::now();
            let mut episode = Episode::over_after(3 * SECOND);
            let (mut is_on, mut last) = (false, None::<Instant>);
            for (on, millis) in looks {
                now += Duration::from_millis(millis);
                match episode.observe(on, now, &mut Budget::new()) {
                    Some(Turn::Begun { .. }) => {
                        prop_assert!(on && !is_on);
                        prop_assert!(last.is_none_or(|at| now >= at + LINE_INTERVAL));
                        (is_on, last) = (true, Some(now));
                    }
                    Some(Turn::Over { .. }) => {
                        prop_assert!(!on && is_on);
                        is_on = false;
                    }
                    None => {}
                }
            }
        }
    }
}
