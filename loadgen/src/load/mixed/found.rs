//! What a mixed run found, of one thread or, merged, of all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::gaps::{Event, Gaps};

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sessions: Held,
    pub(crate) streams: Held,
    pub(crate) connections: Connections,
    /// What happened in the window of each event, in the order of the events.
    pub(crate) around: Vec<Around>,
    /// The labels of the events, and the events: label and time since the beginning.
    pub(crate) labels: Vec<String>,
    pub(crate) events: Vec<(usize, Duration)>,
}

/// Sessions, or streams, that are opened once and kept.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) opened: u64,
    /// Sessions that ended before the run did, by how they ended; `Corrupt`: wrong bytes.
    pub(crate) lost: BTreeMap<Failure, u64>,
    /// Sessions that still waited for an answer long after the run.
    pub(crate) unanswered: u64,
    /// Messages that were answered.
    pub(crate) messages: u64,
    /// Messages that were due and not sent: too many were waiting for an answer already.
    pub(crate) held_back: u64,
    pub(crate) gaps: Gaps,
}

/// Connections that are opened for one message.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) due: u64,
    pub(crate) answered: u64,
    pub(crate) failed: BTreeMap<Failure, u64>,
    /// Due and not tried: too many were under way.
    pub(crate) held_back: u64,
    /// From the moment when they were due to the answer.
    pub(crate) waits: Gaps,
}

/// What happened in the window of one event.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Around {
    /// The longest gap of a session or stream, in nanoseconds.
    pub(crate) gap: u64,
    /// The longest wait of a new connection, in nanoseconds.
    pub(crate) wait: u64,
    /// Sessions and streams that were lost.
    pub(crate) lost: u64,
    /// New connections that failed.
    pub(crate) failed: u64,
}

impl Found {
    /// The entry of an event.
    pub(super) fn around(&mut self, index: usize) -> &mut Around {
        if self.around.len() <= index {
            self.around.resize_with(index + 1, Around::default);
        }
        &mut self.around[index]
    }

    /// Notes which events there were, in a run that began at `begin`.
    pub(crate) fn events_were(
        &mut self,
        (labels, events): (Vec<String>, Vec<Event>),
        begin: Instant,
    ) {
        self.around.resize_with(events.len(), Around::default);
        let after = |event: &Event| (event.label, event.at.saturating_duration_since(begin));
        self.events = events.iter().map(after).collect();
        self.labels = labels;
    }

    /// Adds what another thread found.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sessions.merge(&other.sessions);
        self.streams.merge(&other.streams);
        let (own, others) = (&mut self.connections, &other.connections);
        own.due += others.due;
        own.answered += others.answered;
        own.held_back += others.held_back;
        own.waits.merge(&others.waits);
        add(&mut own.failed, &others.failed);
        for (index, around) in other.around.iter().enumerate() {
            let own = self.around(index);
            own.gap = own.gap.max(around.gap);
            own.wait = own.wait.max(around.wait);
            own.lost += around.lost;
            own.failed += around.failed;
        }
    }
}

impl Held {
    fn merge(&mut self, other: &Self) {
        self.opened += other.opened;
        self.unanswered += other.unanswered;
        self.messages += other.messages;
        self.held_back += other.held_back;
        self.gaps.merge(&other.gaps);
        add(&mut self.lost, &other.lost);
    }
}

fn add(all: &mut BTreeMap<Failure, u64>, other: &BTreeMap<Failure, u64>) {
    for (failure, count) in other {
        *all.entry(*failure).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_found_is_added_up() {
        let mut all = Found::default();
        for nth in 1..=2 {
            let mut one = Found::default();
            one.sessions.opened = 10;
            one.sessions.lost.insert(Failure::Reset, nth);
            one.streams.unanswered = nth;
            one.connections.failed.insert(Failure::Refused, 2);
            one.connections.due = 7;
            *one.around(nth as usize) = Around { gap: nth, wait: 5 - nth, lost: 1, failed: 2 };
            *one.around(0) = Around { gap: nth, wait: 5 - nth, lost: 1, failed: 2 };
            all.merge(&one);
        }
        assert_eq!((all.sessions.opened, all.sessions.lost[&Failure::Reset]), (20, 3));
        assert_eq!((all.streams.unanswered, all.connections.due), (3, 14));
        assert_eq!(all.connections.failed[&Failure::Refused], 4);
        assert_eq!(all.around[0], Around { gap: 2, wait: 4, lost: 2, failed: 4 });
        assert_eq!(all.around[2], Around { gap: 2, wait: 3, lost: 1, failed: 2 });
    }
}
