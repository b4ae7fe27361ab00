//! The sessions of one shard that wait for servers, whatever their configuration.
//!
//! Not here: waiting itself (`queue`), which of all shards is next (`ringlane_core::shared`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};

use ringlane_core::ids::Tag;
use ringlane_core::machine::reactor::Signal;
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::{LINES, Ticket};

/// Sessions of one shard that wait, for each backend and role: by ticket and order of arrival.
#[derive(Debug, Default)]
pub(crate) struct WaitQueues {
    backends: RefCell<HashMap<Tag, Weak<Lines>>>,
    arrivals: Cell<u64>,
}

/// A ticket, and what distinguishes it from others of the same shard and millisecond.
pub(crate) type Number = (Ticket, u64);

/// The sessions of one queue, in order.
pub(crate) type Waiters = BTreeMap<Number, Rc<Signal>>;

/// The queues of one backend, by the role that their sessions want.
#[derive(Debug, Default)]
pub(crate) struct Lines([RefCell<Waiters>; LINES]);

impl Lines {
    /// The queue for this role.
    pub(crate) fn of(&self, role: RoleWanted) -> &RefCell<Waiters> {
        &self.0[role as usize]
    }

    /// Calls the first session that waits for a server of this role.
    pub(crate) fn call(&self, role: RoleWanted) {
        if let Some(signal) = self.of(role).borrow().values().next() {
            signal.raise();
        }
    }
}

impl WaitQueues {
    /// Numbers the next session that comes.
    pub(crate) fn next_arrival(&self) -> u64 {
        let arrival = self.arrivals.get();
        self.arrivals.set(arrival + 1);
        arrival
    }

    /// The queues of a backend.
    pub(crate) fn lines(&self, tag: Tag) -> Rc<Lines> {
        let mut backends = self.backends.borrow_mut();
        backends.get(&tag).and_then(Weak::upgrade).unwrap_or_else(|| {
            let lines = Rc::default();
            backends.insert(tag, Rc::downgrade(&lines));
            lines
        })
    }

    /// Calls the first session that waits for a server of a backend.
    pub(crate) fn call(&self, tag: Tag, role: RoleWanted) {
        if let Some(lines) = self.backends.borrow().get(&tag).and_then(Weak::upgrade) {
            lines.call(role);
        }
    }

    /// Calls every session that waits: another configuration is served.
    pub(crate) fn call_all(&self) {
        for lines in self.backends.borrow().values().filter_map(Weak::upgrade) {
            lines.0.iter().for_each(|line| line.borrow().values().for_each(|one| one.raise()));
        }
    }

    /// Forgets backends that no generation has any more.
    pub(crate) fn prune(&self) {
        self.backends.borrow_mut().retain(|_, lines| lines.strong_count() > 0);
    }
}
