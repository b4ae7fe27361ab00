//! The last lines of the log as events with numbers, for those that follow them.
//!
//! Every line of level info or above is kept here, whatever level the log's destination has. Not
//! here: how events are sent (`report::feed`). Invariants: numbers grow by one; a subscriber gets
//! the events that are kept and all later ones, none twice; a slow subscriber holds up nothing, and
//! is told how many it missed.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast::{self, Receiver, Sender};

use super::notice::{Level, Notice};

/// Events that are kept; the oldest are forgotten.
pub(in crate::control) const EVENTS_KEPT: usize = 1000;

/// Events that a subscriber may be behind; then it misses the oldest.
const BEHIND_MAX: usize = 256;

static RECENT: LazyLock<Recent> = LazyLock::new(Recent::new);

/// A line of the log, with its number.
#[derive(Debug)]
pub(in crate::control) struct Event {
    pub(in crate::control) id: u64,
    pub(in crate::control) at: SystemTime,
    pub(in crate::control) notice: Notice,
}

/// The events of a process.
#[derive(Debug)]
struct Recent {
    kept: Mutex<KeptEvents>,
    sender: Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct KeptEvents {
    last_id: u64,
    events: VecDeque<Arc<Event>>,
}

/// Events from one on.
#[derive(Debug)]
pub(in crate::control) struct Subscription {
    /// Events before those that are forgotten.
    pub(in crate::control) missed: u64,
    /// The events that are kept.
    pub(in crate::control) kept: Vec<Arc<Event>>,
    /// Those that come.
    pub(in crate::control) receiver: Receiver<Arc<Event>>,
}

/// Keeps a line.
pub(super) fn record(notice: &Notice) {
    if notice.level <= Level::Info {
        RECENT.record(notice.clone());
    }
}

/// The events after the one with this number.
pub(in crate::control) fn since(id: u64) -> Subscription {
    RECENT.since(id)
}

/// The last events, at most so many.
pub(in crate::control) fn last(count: usize) -> Subscription {
    RECENT.last(count)
}

impl Recent {
    fn new() -> Self {
        Self { kept: Mutex::default(), sender: broadcast::channel(BEHIND_MAX).0 }
    }

    fn record(&self, notice: Notice) {
        let mut kept = self.lock();
        kept.last_id += 1;
        let event = Arc::new(Event { id: kept.last_id, at: SystemTime::now(), notice });
        if kept.events.len() == EVENTS_KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // With the lock held, so that the order is the same. Fails where nobody listens.
        let _ = self.sender.send(event);
    }

    fn since(&self, id: u64) -> Subscription {
        let kept = self.lock();
        // A number of another process, which has got further: all are new.
        let id = if id > kept.last_id { 0 } else { id };
        let first = kept.events.front().map_or(kept.last_id + 1, |event| event.id);
        Subscription {
            missed: first.saturating_sub(id + 1),
            kept: kept.events.iter().filter(|event| event.id > id).cloned().collect(),
            receiver: self.sender.subscribe(),
        }
    }

    fn last(&self, count: usize) -> Subscription {
        let kept = self.lock();
        let skipped = kept.events.len().saturating_sub(count);
        let kept = kept.events.iter().skip(skipped).cloned().collect();
        Subscription { missed: 0, kept, receiver: self.sender.subscribe() }
    }

    fn lock(&self) -> MutexGuard<'_, KeptEvents> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(subscription: &Subscription) -> Vec<u64> {
        subscription.kept.iter().map(|event| event.id).collect()
    }

    #[test]
    fn a_subscriber_gets_what_is_kept_and_is_told_what_is_not() {
        let recent = Recent::new();
        let add = |count: usize| {
            for _ in 0..count {
                recent.record(Notice::new(Level::Info, "x", "y".to_owned()));
            }
        };
        assert_eq!((recent.since(0).missed, ids(&recent.since(0))), (0, Vec::new()));
        add(3);
        assert_eq!(ids(&recent.since(0)), [1, 2, 3]);
        assert_eq!((recent.since(2).missed, ids(&recent.since(2))), (0, vec![3]));
        assert!(recent.since(3).kept.is_empty());
        assert_eq!(ids(&recent.since(99)), [1, 2, 3], "a number of another process");
        assert_eq!(ids(&recent.last(2)), [2, 3]);
        add(EVENTS_KEPT);
        let late = recent.since(1);
        assert_eq!((late.missed, late.kept.len(), late.kept[0].id), (2, EVENTS_KEPT, 4));
        assert_eq!(recent.since(3).missed, 0);
        let mut following = recent.since(EVENTS_KEPT as u64 + 3);
        add(1);
        assert_eq!(following.receiver.try_recv().unwrap().id, EVENTS_KEPT as u64 + 4);
    }
}
