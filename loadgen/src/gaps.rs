//! Gaps: how long sessions waited for answers, in all, and around events that were marked.
//!
//! An event is a moment with a label (a reload, say). Its *window* is the time from that moment
//! until `window` later. A wait belongs to every window that it overlaps; a wait that overlaps none
//! is *outside*. Of each session only its longest wait counts, once per column of the result: a
//! session that waits 1 ms a thousand times and 80 ms once has a gap of 80 ms. Pure: the caller
//! brings the clock. Bounds: [`EVENTS_MOST`] and [`LABELS_MOST`]; the caller reports what is
//! refused. `load::mixed` is the caller.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::latency::Latencies;

/// Events of one run. More are refused.
pub(crate) const EVENTS_MOST: usize = 100_000;

/// Different labels of one run. More are refused.
pub(crate) const LABELS_MOST: usize = 16;

/// A marked moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Event {
    /// Its index in the list of labels.
    pub(crate) label: usize,
    pub(crate) at: Instant,
}

#[derive(Debug, Default)]
struct Marks {
    labels: Vec<String>,
    /// In the order of time.
    events: Vec<Event>,
}

/// The events of a run, shared by all threads: one writes, the others ask.
#[derive(Debug)]
pub(crate) struct Events {
    window: Duration,
    marks: Mutex<Marks>,
}

impl Events {
    /// None yet; each one will have a window of this length.
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, marks: Mutex::default() }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        // Nothing panics while it holds the lock, and the list is whole between two pushes.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event that happens now, at `at`; `false` if there is no room for it.
    pub(crate) fn mark(&self, label: &str, at: Instant) -> bool {
        let mut marks = self.marks();
        let known = marks.labels.iter().position(|known| known == label);
        if marks.events.len() >= EVENTS_MOST
            || (known.is_none() && marks.labels.len() >= LABELS_MOST)
        {
            return false;
        }
        let label = known.unwrap_or_else(|| {
            marks.labels.push(label.to_owned());
            marks.labels.len() - 1
        });
        marks.events.push(Event { label, at });
        true
    }

    /// Calls `touch` with the index of each event whose window overlaps the time from `from` to
    /// `to`, and with the event.
    pub(crate) fn overlapping(
        &self,
        from: Instant,
        to: Instant,
        mut touch: impl FnMut(usize, Event),
    ) {
        let marks = self.marks();
        // The newest is looked at first: nearly every question is about the last window.
        for (index, event) in marks.events.iter().enumerate().rev() {
            if event.at + self.window < from {
                break;
            }
            if event.at <= to {
                touch(index, *event);
            }
        }
    }

    /// All labels, and all events in the order of time.
    pub(crate) fn all(&self) -> (Vec<String>, Vec<Event>) {
        let marks = self.marks();
        (marks.labels.clone(), marks.events.clone())
    }
}

/// A column of the result.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Span {
    /// The whole run.
    All,
    /// Outside of all windows.
    Outside,
    /// In any window.
    Windows,
    /// In a window of an event with this label.
    Label(usize),
}

/// The longest gap of one session in each column, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Longest(BTreeMap<Span, u64>);

impl Longest {
    /// Adds a wait, and calls `touch` with the index of each event that it overlaps.
    pub(crate) fn add(
        &mut self,
        events: &Events,
        from: Instant,
        to: Instant,
        mut touch: impl FnMut(usize, u64),
    ) {
        let wait = crate::clock::nanos(from, to);
        let mut is_outside = true;
        let mut raise = |span| {
            let longest = self.0.entry(span).or_default();
            *longest = wait.max(*longest);
        };
        events.overlapping(from, to, |index, event| {
            is_outside = false;
            raise(Span::Label(event.label));
            touch(index, wait);
        });
        raise(if is_outside { Span::Outside } else { Span::Windows });
        raise(Span::All);
    }
}

/// The longest gaps of many sessions.
#[derive(Debug, Default)]
pub(crate) struct Gaps(BTreeMap<Span, Latencies>);

impl Gaps {
    /// Adds a session that has ended.
    pub(crate) fn add(&mut self, longest: &Longest) {
        for (span, nanos) in &longest.0 {
            if let Some(latencies) = self.column(*span) {
                latencies.record(*nanos);
            }
        }
    }

    /// Adds those of another thread.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (span, latencies) in &other.0 {
            if let Some(own) = self.column(*span) {
                own.merge(latencies);
            }
        }
    }

    /// The columns that have any gap.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (Span, &Latencies)> {
        self.0.iter().map(|(span, latencies)| (*span, latencies))
    }

    /// A column; `None` only if histograms can't be made at all, which every run finds out when it
    /// makes its first one.
    fn column(&mut self, span: Span) -> Option<&mut Latencies> {
        match self.0.entry(span) {
            Entry::Occupied(found) => Some(found.into_mut()),
            Entry::Vacant(place) => Some(place.insert(Latencies::new().ok()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_millis(100);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Milliseconds of a column of one session.
    fn found(longest: &Longest, span: Span) -> Option<u64> {
        longest.0.get(&span).map(|nanos| nanos / 1_000_000)
    }

    #[test]
    fn a_gap_belongs_to_the_windows_that_it_overlaps() {
        let begin = Instant::now();
        let events = Events::new(WINDOW);
        assert!(events.mark("a", begin + ms(1000)));
        assert!(events.mark("b", begin + ms(2000)));
        let mut longest = Longest::default();
        let mut touched = Vec::new();
        for (from, to) in [(100, 105), (990, 1001), (1099, 1119), (1101, 1131), (2050, 2053)] {
            longest.add(&events, begin + ms(from), begin + ms(to), |index, wait| {
                touched.push((index, wait / 1_000_000));
            });
        }
        assert_eq!(touched, [(0, 11), (0, 20), (1, 3)]);
        assert_eq!(found(&longest, Span::All), Some(30));
        assert_eq!(found(&longest, Span::Outside), Some(30));
        assert_eq!(found(&longest, Span::Windows), Some(20));
        assert_eq!(found(&longest, Span::Label(0)), Some(20));
        assert_eq!(found(&longest, Span::Label(1)), Some(3));
    }

    #[test]
    fn a_gap_over_two_windows_counts_in_both_and_not_outside() {
        let begin = Instant::now();
        let events = Events::new(WINDOW);
        events.mark("a", begin + ms(1000));
        events.mark("b", begin + ms(2000));
        let mut longest = Longest::default();
        longest.add(&events, begin, begin + ms(3000), |_, _| {});
        for span in [Span::All, Span::Windows, Span::Label(0), Span::Label(1)] {
            assert_eq!(found(&longest, span), Some(3000), "{span:?}");
        }
        assert_eq!(found(&longest, Span::Outside), None);
    }

    #[test]
    fn each_session_counts_once_in_a_column() {
        let begin = Instant::now();
        let events = Events::new(WINDOW);
        let mut all = Gaps::default();
        for session in 1..=100 {
            let mut longest = Longest::default();
            longest.add(&events, begin, begin + ms(session), |_, _| {});
            longest.add(&events, begin, begin + ms(1), |_, _| {});
            let mut gaps = Gaps::default();
            gaps.add(&longest);
            all.merge(&gaps);
        }
        let columns: Vec<_> = all.columns().collect();
        assert_eq!(columns.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [Span::All, Span::Outside]);
        for (_, gaps) in columns {
            assert_eq!(gaps.count(), 100);
            assert!((98_000.0..101_000.0).contains(&gaps.at(0.99)), "{}", gaps.at(0.99));
        }
    }

    #[test]
    fn labels_and_events_are_bounded() {
        let events = Events::new(WINDOW);
        let now = Instant::now();
        (0..LABELS_MOST).for_each(|nth| assert!(events.mark(&nth.to_string(), now)));
        assert!(!events.mark("one more", now));
        assert!(events.mark("0", now), "a known label is no new one");
        (LABELS_MOST + 1..EVENTS_MOST).for_each(|_| assert!(events.mark("0", now)));
        assert!(!events.mark("0", now));
        assert_eq!(events.all().1.len(), EVENTS_MOST);
    }

    proptest! {
        /// The search that stops early finds what a look at every event finds.
        #[test]
        fn no_overlap_is_missed(
            mut moments in prop::collection::vec(0_u64..2000, 0..50),
            from in 0_u64..2000,
            length in 0_u64..500,
        ) {
            moments.sort_unstable();
            let begin = Instant::now();
            let events = Events::new(WINDOW);
            moments.iter().for_each(|at| assert!(events.mark("x", begin + ms(*at))));
            let (from, to) = (from, from + length);
            let mut found = Vec::new();
            events.overlapping(begin + ms(from), begin + ms(to), |index, _| found.push(index));
            found.reverse();
            let due: Vec<usize> = (0..moments.len())
                .filter(|&nth| moments[nth] <= to && moments[nth] + 100 >= from)
                .collect();
            prop_assert_eq!(found, due);
        }
    }
}
