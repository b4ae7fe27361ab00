//! Orders to end sessions: their server went down, lost its role, fell behind, or is drained.
//!
//! The control thread sends one order per cause; a shard keeps the last order for each server and
//! role and wakes its sessions, which look here whether it concerns them. So a session holds
//! nothing for it but its epoch: the number of the last order before it took its seat. Invariant:
//! an order never concerns a session that took its seat after it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use ringlane_core::counters::{Ending, Reason};
use ringlane_core::ids::Tag;
use ringlane_core::settings::RoleWanted;

/// Sessions of one server that a shard ends per second while they are drained.
const DRAINED_PER_SECOND: u32 = 50;

/// The orders of one shard.
#[derive(Debug, Default)]
pub(crate) struct Shutdowns {
    epoch: Cell<u32>,
    orders: RefCell<Vec<Standing>>,
    /// The shard stops: every session ends.
    stopped: Cell<bool>,
}

/// Which sessions are to end, how and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShutdownOrder {
    /// Those of this server.
    pub(crate) server: Tag,
    /// Those of frontends that want this role; `Any`: of all.
    pub(crate) role: RoleWanted,
    /// How they end.
    pub(crate) how: Ending,
    /// Why.
    pub(crate) why: Reason,
}

/// The last order for a server's sessions of some frontends.
#[derive(Clone, Copy, Debug)]
struct Standing {
    order: ShutdownOrder,
    epoch: u32,
    at: Instant,
    /// Over how long idle sessions are ended.
    spread: Duration,
}

/// What orders mean for one session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disposition {
    /// The shard stops: it ends now, as well as it can be ended.
    Stopped,
    /// It ends now.
    Fenced(Reason),
    /// It ends when it is idle, and not before this time.
    Drained(Instant, Reason),
}

impl Shutdowns {
    /// Orders so far: what a session that takes a seat now keeps.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.get()
    }

    /// Every session ends now.
    pub(crate) fn stop(&self) {
        self.epoch.set(self.epoch.get().wrapping_add(1));
        self.stopped.set(true);
    }

    /// An order for a server that has so many sessions.
    pub(crate) fn order(&self, order: ShutdownOrder, sessions: u32, at: Instant) {
        let epoch = self.epoch.get().wrapping_add(1);
        self.epoch.set(epoch);
        let spread = Duration::from_secs(1) * sessions / DRAINED_PER_SECOND;
        let mut orders = self.orders.borrow_mut();
        // What is drained already and is to be fenced now ends; the other way round nothing is
        // left.
        let replaced = (order.server, order.role);
        orders.retain(|standing| (standing.order.server, standing.order.role) != replaced);
        orders.push(Standing { order, epoch, at, spread });
    }

    /// Forgets the orders for servers that `is_there` does not know.
    pub(crate) fn retain(&self, is_there: impl Fn(Tag) -> bool) {
        self.orders.borrow_mut().retain(|standing| is_there(standing.order.server));
    }

    /// What orders after `epoch` mean for a session; `mark` is its own, so that drains are spread.
    pub(crate) fn disposition(
        &self,
        server: Tag,
        role: RoleWanted,
        epoch: u32,
        mark: u32,
    ) -> Option<Disposition> {
        if self.epoch.get() == epoch {
            return None;
        }
        if self.stopped.get() {
            return Some(Disposition::Stopped);
        }
        let orders = self.orders.borrow();
        let concerning = orders.iter().filter(|Standing { order, epoch: ordered, .. }| {
            order.server == server
                && (order.role == RoleWanted::Any || order.role == role)
                && ordered.wrapping_sub(epoch) as i32 > 0
        });
        let dispositions = concerning.map(|standing| match standing.order.how {
            Ending::Fence => Disposition::Fenced(standing.order.why),
            Ending::Drain => {
                // Spread evenly, and the same for a session whenever it looks.
                let share = mark.wrapping_mul(0x9E37_79B9) >> 16;
                let at = standing.at + standing.spread * share / (1 << 16);
                Disposition::Drained(at, standing.order.why)
            }
        });
        dispositions.min_by_key(|disposition| match disposition {
            Disposition::Stopped | Disposition::Fenced(_) => None,
            Disposition::Drained(at, _) => Some(*at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(role: RoleWanted) -> ShutdownOrder {
        ShutdownOrder { server: Tag::of(&["a"]), role, how: Ending::Fence, why: Reason::Demoted }
    }

    #[test]
    fn an_order_concerns_sessions_that_were_there_before_alone() {
        let (shutdowns, now) = (Shutdowns::default(), Instant::now());
        let a = Tag::of(&["a"]);
        let before = shutdowns.epoch();
        shutdowns.order(fence(RoleWanted::Primary), 10, now);
        let after = shutdowns.epoch();
        let of = |server, role, epoch| shutdowns.disposition(server, role, epoch, 7);
        let fenced = Some(Disposition::Fenced(Reason::Demoted));
        assert_eq!(of(a, RoleWanted::Primary, before), fenced);
        assert_eq!(of(a, RoleWanted::Primary, after), None);
        assert_eq!(of(a, RoleWanted::Replica, before), None, "of another frontend");
        assert_eq!(of(Tag::of(&["b"]), RoleWanted::Primary, before), None, "of another server");
        shutdowns.order(fence(RoleWanted::Any), 10, now);
        assert_eq!(of(a, RoleWanted::Replica, before), fenced);
    }

    #[test]
    fn drained_sessions_end_one_after_the_other() {
        let (shutdowns, now) = (Shutdowns::default(), Instant::now());
        let why = Reason::Drained;
        let order = ShutdownOrder { how: Ending::Drain, why, ..fence(RoleWanted::Any) };
        shutdowns.order(order, 500, now);
        let mut times: Vec<Duration> = (0..500_u32)
            .map(|mark| match shutdowns.disposition(Tag::of(&["a"]), RoleWanted::Any, 0, mark) {
                Some(Disposition::Drained(at, Reason::Drained)) => at - now,
                other => panic!("{other:?}"),
            })
            .collect();
        times.sort_unstable();
        assert!(times[499] <= Duration::from_secs(10) && times[499] > Duration::from_secs(9));
        let first_second = times.iter().filter(|time| **time < Duration::from_secs(1)).count();
        assert!((30..70).contains(&first_second), "{first_second} in the first second");
    }
}
