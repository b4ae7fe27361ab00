//! What must be true where clients return to the server that they had.
//!
//! In a calm world, whose servers always have room, all sessions of a client go to one server while
//! it is remembered. Elsewhere it may have another one for many reasons. Next: `verdict`.

use std::time::Duration;

use ringlane_core::counters::SessionRecord;

use crate::orders::Times;
use crate::world::Run;

/// From the arrival of a session until its client is remembered.
const MOMENT: Duration = Duration::from_millis(5);

/// A client keeps its server.
pub(crate) fn check(run: &Run, failures: &mut Vec<String>) {
    let world = &run.world;
    let Some(affinity) = world.affinity else { return };
    // A first message may take any time, and its client is remembered only then.
    let is_late = world.race_after.is_some() || world.first.is_some();
    if !world.calm || world.is_limited() || is_late {
        return;
    }
    let mut served: Vec<&SessionRecord> =
        run.records.iter().filter(|record| record.server.is_some()).collect();
    served.sort_by_key(|record| (record.client.map(|client| client.ip()), Times::of(record).came));
    for (first, second) in served.iter().zip(&served[1.min(served.len())..]) {
        let ip = |record: &SessionRecord| record.client.map(|client| client.ip());
        let between = Times::of(second).came - Times::of(first).came.min(Times::of(second).came);
        let remembered = ip(first) == ip(second) && between + MOMENT < affinity.ttl;
        if remembered && first.server != second.server {
            let (had, got) = (first.server, second.server);
            failures.push(format!("{:?} had {had:?} and got {got:?}", ip(second)));
        }
    }
}
