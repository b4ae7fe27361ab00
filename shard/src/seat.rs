//! A session's place at a server, given back on drop.

use std::cell::Cell;
use std::rc::Rc;

use ringlane_core::ids::ServerId;
use ringlane_core::settings::RoleWanted;

use crate::generation::Generation;
use crate::shutdowns::Disposition;

/// A place at a server.
pub struct Seat {
    generation: Rc<Generation>,
    server: ServerId,
    /// Orders to end sessions up to here do not concern this seat.
    epoch: Cell<u32>,
    /// The place has been given back before the seat was dropped.
    left: Cell<bool>,
}

impl Seat {
    /// A place at this server, unless it is full.
    pub(crate) fn take(generation: &Rc<Generation>, server: ServerId) -> Option<Self> {
        generation.server(server).try_enter().then(|| Self {
            epoch: Cell::new(generation.shard.shutdowns.epoch()),
            generation: Rc::clone(generation),
            server,
            left: Cell::new(false),
        })
    }

    /// The server.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// The server has done its part: gives the place back, once.
    pub fn leave(&self) {
        if !self.left.replace(true) {
            self.generation.leave_server(self.server);
        }
    }

    /// What orders since the seat was taken mean for a session of this role; `mark` is the
    /// session's.
    pub fn disposition(&self, role: RoleWanted, mark: u32) -> Option<Disposition> {
        let shutdowns = &self.generation.shard.shutdowns;
        let epoch = shutdowns.epoch();
        if epoch == self.epoch.get() {
            return None;
        }
        let server = self.generation.gauges().server_tag(self.server);
        let found = shutdowns.disposition(server, role, self.epoch.get(), mark);
        if found.is_none() {
            // An order that does not concern this session never will.
            self.epoch.set(epoch);
        }
        found
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}
