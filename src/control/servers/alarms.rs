//! Reports why connects of a backend are impossible, for example because a source address is gone.
//!
//! Once a second the control thread looks at the counters; where impossible connects begin, it
//! tries the backend's options on sockets that are thrown away, and logs what the kernel refuses.
//! Not here: the trial (`start::probe`); resources that ran out, which `report::events` logs with
//! counts.

use std::collections::HashMap;
use std::time::Duration;

use ringlane_core::ids::{BackendId, Tag};
use tokio::time::{MissedTickBehavior, interval};

use crate::control::log::{self, Level, Notice};
use crate::control::running::{Current, Running};
use crate::control::start::probe;

/// Between two looks at the counters.
const PACE: Duration = Duration::from_secs(1);

/// After this many looks without another impossible connect the next one is logged: a minute.
const SILENT_LOOKS: u32 = 60;

/// Logs when connects of a backend begin to be impossible, and why, until the future is dropped.
pub(in crate::control) async fn watch(current: Current) {
    let mut alarms: HashMap<Tag, Alarm> = HashMap::new();
    let mut ticker = interval(PACE);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let Running { traffic, servers, .. } = current.get();
        let tags = &traffic.gauges.tags().backends;
        if alarms.len() > tags.len() {
            alarms.retain(|tag, _| tags.contains(tag));
        }
        for (tag, id) in tags.iter().zip((0..).map(BackendId)) {
            let alarm = alarms.entry(*tag).or_default();
            let backend = traffic.snapshot.backend(id);
            let ids = || traffic.snapshot.ids_of(id);
            let impossible = |id| traffic.server_total(id, |s| s.connects_impossible.get());
            if alarm.rings(ids().map(impossible).sum()) {
                let addresses = ids().map(|id| servers.address(id));
                if let Err(why) = probe::try_families(backend, addresses) {
                    let notice = Notice::new(Level::Error, "connects_refused", why.to_string());
                    log::write(&notice.backend(&backend.name));
                }
            }
        }
    }
}

/// Rings when a count begins to grow, and not again before it has stood still for a while.
#[derive(Debug, Default)]
struct Alarm {
    count: u64,
    /// Looks without a new impossible connect that are still to come before it may ring again.
    silent_for: u32,
}

impl Alarm {
    fn rings(&mut self, count: u64) -> bool {
        if count == self.count {
            self.silent_for = self.silent_for.saturating_sub(1);
            return false;
        }
        self.count = count;
        std::mem::replace(&mut self.silent_for, SILENT_LOOKS) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_once_until_all_was_well_for_a_while() {
        let mut alarm = Alarm::default();
        assert!(!alarm.rings(0));
        assert_eq!([1, 5, 5, 6].map(|count| alarm.rings(count)), [true, false, false, false]);
        (1..SILENT_LOOKS).for_each(|_| assert!(!alarm.rings(6)));
        assert!(!alarm.rings(7), "too soon");
        (0..SILENT_LOOKS).for_each(|_| assert!(!alarm.rings(7)));
        assert!(alarm.rings(8));
    }
}
