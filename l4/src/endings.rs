//! Sessions that are ended by cause: their server went down, lost its role or fell behind.
//!
//! The control thread says it once per cause; a shard keeps the last word on each server and role
//! and wakes its sessions, which look here whether they are meant. So a session holds nothing for it
//! but the number of the last word that it began after. Invariant: a session that began after a word
//! is never meant by it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use ringlane_core::counters::{Ending, Reason};
use ringlane_core::ids::ServerId;
use ringlane_core::settings::RoleWanted;

/// Sessions of one server that a shard lets go per second while they are drained.
const DRAINED_PER_SECOND: u32 = 50;

/// The words of one shard.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    said: Cell<u32>,
    words: RefCell<Vec<Word>>,
    /// The shard stops: every session ends.
    stopped: Cell<bool>,
}

/// The last word on a server's sessions of some frontends.
#[derive(Clone, Copy, Debug)]
struct Word {
    number: u32,
    server: ServerId,
    /// Those of frontends that want this role; `Any`: of all.
    role: RoleWanted,
    how: Ending,
    why: Reason,
    at: Instant,
    /// Over how long idle sessions are let go.
    spread: Duration,
}

/// What is meant for a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// The shard stops: it ends now, as well as it can be ended.
    Stopped,
    /// It ends now.
    Fenced(Reason),
    /// It ends when it is idle, and not before this time.
    Drained(Instant, Reason),
}

impl Endings {
    /// Words so far: what a session that begins now keeps.
    pub(crate) fn said(&self) -> u32 {
        self.said.get()
    }

    /// Every session ends now.
    pub(crate) fn stop(&self) {
        self.said.set(self.said.get().wrapping_add(1));
        self.stopped.set(true);
    }

    /// A word on a server that has so many sessions.
    pub(crate) fn say(
        &self,
        (server, role): (ServerId, RoleWanted),
        (how, why): (Ending, Reason),
        sessions: u32,
        at: Instant,
    ) {
        let number = self.said.get().wrapping_add(1);
        self.said.set(number);
        let spread = Duration::from_secs(1) * sessions / DRAINED_PER_SECOND;
        let mut words = self.words.borrow_mut();
        // What is drained already and is to be fenced now ends; the other way round nothing is left.
        words.retain(|word| (word.server, word.role) != (server, role));
        words.push(Word { number, server, role, how, why, at, spread });
    }

    /// What is meant for a session: `begun` words had been said when it began, `mark` tells it from
    /// others.
    pub(crate) fn verdict(
        &self,
        (server, role): (ServerId, RoleWanted),
        begun: u32,
        mark: u32,
    ) -> Option<Verdict> {
        if self.said.get() == begun {
            return None;
        }
        if self.stopped.get() {
            return Some(Verdict::Stopped);
        }
        let words = self.words.borrow();
        let meant = words.iter().filter(|word| {
            word.server == server
                && (word.role == RoleWanted::Any || word.role == role)
                && word.number.wrapping_sub(begun) as i32 > 0
        });
        let verdicts = meant.map(|word| match word.how {
            Ending::Fence => Verdict::Fenced(word.why),
            Ending::Drain => {
                // Spread evenly, and the same for a session whenever it asks.
                let share = mark.wrapping_mul(0x9E37_79B9) >> 16;
                Verdict::Drained(word.at + word.spread * share / (1 << 16), word.why)
            }
        });
        verdicts.min_by_key(|verdict| match verdict {
            Verdict::Stopped | Verdict::Fenced(_) => None,
            Verdict::Drained(at, _) => Some(*at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServerId = ServerId(0);

    /// How the old primary's sessions end.
    const FENCE: (Ending, Reason) = (Ending::Fence, Reason::Demoted);

    #[test]
    fn only_those_are_meant_who_were_there_before() {
        let (endings, now) = (Endings::default(), Instant::now());
        let before = endings.said();
        endings.say((A, RoleWanted::Primary), FENCE, 10, now);
        let after = endings.said();
        let of = |server, role, begun| endings.verdict((server, role), begun, 7);
        assert_eq!(of(A, RoleWanted::Primary, before), Some(Verdict::Fenced(Reason::Demoted)));
        assert_eq!(of(A, RoleWanted::Primary, after), None);
        assert_eq!(of(A, RoleWanted::Replica, before), None, "of another frontend");
        assert_eq!(of(ServerId(1), RoleWanted::Primary, before), None, "of another server");
        endings.say((A, RoleWanted::Any), FENCE, 10, now);
        assert_eq!(of(A, RoleWanted::Replica, before), Some(Verdict::Fenced(Reason::Demoted)));
    }

    #[test]
    fn drained_sessions_go_one_after_the_other() {
        let (endings, now) = (Endings::default(), Instant::now());
        endings.say((A, RoleWanted::Any), (Ending::Drain, Reason::Drained), 500, now);
        let mut times: Vec<Duration> = (0..500u32)
            .map(|mark| match endings.verdict((A, RoleWanted::Any), 0, mark * 1000) {
                Some(Verdict::Drained(at, Reason::Drained)) => at - now,
                other => panic!("{other:?}"),
            })
            .collect();
        times.sort_unstable();
        assert!(times[499] <= Duration::from_secs(10) && times[499] > Duration::from_secs(9));
        let first_second = times.iter().filter(|time| **time < Duration::from_secs(1)).count();
        assert!((30..70).contains(&first_second), "{first_second} in the first second");
    }
}
