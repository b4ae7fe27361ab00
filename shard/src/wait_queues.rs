//! The sessions of one shard that wait for servers.
//!
//! Not here: waiting itself (`queue`), which of all shards is next (`ringlane_core::shared`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use ringlane_core::ids::BackendId;
use ringlane_core::machine::reactor::Signal;
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::{LINES, Ticket};

/// Sessions of one shard that wait, for each backend and role: by ticket and order of arrival.
#[derive(Debug)]
pub(crate) struct WaitQueues {
    queues: Vec<RefCell<Waiters>>,
    arrivals: Cell<u64>,
}

/// A ticket, and what distinguishes it from others of the same shard and millisecond.
pub(crate) type Number = (Ticket, u64);

/// The sessions of one queue, in order.
pub(crate) type Waiters = BTreeMap<Number, Rc<Signal>>;

impl WaitQueues {
    /// Empty queues for so many backends.
    pub(crate) fn new(backends: usize) -> Self {
        Self {
            queues: (0..backends * LINES).map(|_| RefCell::default()).collect(),
            arrivals: Cell::new(0),
        }
    }

    /// Numbers the next session that comes.
    pub(crate) fn next_arrival(&self) -> u64 {
        let arrival = self.arrivals.get();
        self.arrivals.set(arrival + 1);
        arrival
    }

    /// Calls the first session that waits for a server of this role.
    pub(crate) fn call(&self, backend: BackendId, role: RoleWanted) {
        if let Some(signal) = self.of(backend, role).borrow().values().next() {
            signal.raise();
        }
    }

    /// The queue of a backend and role.
    pub(crate) fn of(&self, backend: BackendId, role: RoleWanted) -> &RefCell<Waiters> {
        &self.queues[backend.0 as usize * LINES + role as usize]
    }
}
