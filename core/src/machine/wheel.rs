//! Timers: a hierarchical wheel of milliseconds.
//!
//! Told the time, never asks for it. Arming, disarming and expiring cost the same however many
//! timers there are. Five levels of 64 slots reach twelve days; what lies beyond is looked at again
//! when its slot comes round. Invariants: a timer fires once, never before its time, and at the
//! first `expire` at or after it; a disarmed timer never fires.

use crate::machine::slab::{Key, Slab};

const LEVELS: usize = 5;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// The farthest that a timer is filed ahead, in milliseconds.
const REACH: u64 = (1 << (BITS * LEVELS as u32)) - 1;

/// All armed timers of a shard.
pub(crate) struct Wheel {
    /// Every millisecond up to and including this one has been expired.
    now: u64,
    levels: [Level; LEVELS],
    timers: Slab<Timer>,
}

struct Level {
    /// Bit n: slot n has timers.
    occupied: u64,
    /// The first timer of each slot's list.
    heads: [Option<Key>; SLOTS],
}

struct Timer {
    deadline: u64,
    payload: Key,
    // Small, since every session has a timer: at most `LEVELS` and `SLOTS`.
    level: u8,
    slot: u8,
    previous: Option<Key>,
    next: Option<Key>,
}

impl Wheel {
    /// A wheel without timers, at time 0.
    pub(crate) const fn new() -> Self {
        Self {
            now: 0,
            levels: [const { Level { occupied: 0, heads: [None; SLOTS] } }; LEVELS],
            timers: Slab::new(),
        }
    }

    /// Arms a timer; `payload` comes out of `expire` at or after `deadline`.
    pub(crate) fn arm(&mut self, deadline: u64, payload: Key) -> Key {
        let timer = Timer { deadline, payload, level: 0, slot: 0, previous: None, next: None };
        let key = self.timers.insert(timer);
        self.file(key, deadline);
        key
    }

    /// Disarms a timer, unless it has fired.
    pub(crate) fn disarm(&mut self, key: Key) {
        if self.timers.get_mut(key).is_some() {
            self.unlink(key);
            self.timers.remove(key);
        }
    }

    /// Timers that are armed.
    pub(crate) fn len(&self) -> usize {
        self.timers.len()
    }

    /// When to call `expire` next: never later than the earliest timer, maybe earlier.
    pub(crate) fn next(&self) -> Option<u64> {
        self.levels.iter().enumerate().filter_map(|(n, level)| level.next(n, self.now)).min()
    }

    /// Moves on to `now` and hands out the payloads of all timers that are due.
    pub(crate) fn expire(&mut self, now: u64, mut due: impl FnMut(Key)) {
        while let Some(next) = self.next().filter(|next| *next <= now) {
            self.now = next;
            // Coarse slots first: what they hold may be due this very millisecond.
            for level in (0..LEVELS).rev() {
                let slot = slot_of(level, next);
                let starts_here = next & ((1 << (BITS * level as u32)) - 1) == 0;
                if starts_here {
                    self.empty(level, slot, &mut due);
                }
            }
        }
        self.now = self.now.max(now);
    }

    /// Takes all timers out of a slot: due ones are handed out, the rest filed closer.
    fn empty(&mut self, level: usize, slot: usize, due: &mut impl FnMut(Key)) {
        let mut next = self.levels[level].heads[slot].take();
        self.levels[level].occupied &= !(1 << slot);
        while let Some(key) = next {
            let Some(timer) = self.timers.get_mut(key) else { return };
            next = timer.next.take();
            timer.previous = None;
            let deadline = timer.deadline;
            if deadline > self.now {
                self.file(key, deadline);
            } else if let Some(timer) = self.timers.remove(key) {
                due(timer.payload);
            }
        }
    }

    /// Links a timer into the slot for its deadline. One already due goes into the next
    /// millisecond's.
    fn file(&mut self, key: Key, deadline: u64) {
        let at = deadline.clamp(self.now + 1, self.now + REACH);
        let level = ((u64::BITS - 1 - ((at ^ self.now) | 1).leading_zeros()) / BITS) as usize;
        // Crossing the top level's range wraps around inside it.
        let level = level.min(LEVELS - 1);
        let slot = slot_of(level, at);
        let head = self.levels[level].heads[slot].replace(key);
        self.levels[level].occupied |= 1 << slot;
        if let Some(timer) = self.timers.get_mut(key) {
            (timer.level, timer.slot) = (level as u8, slot as u8);
            (timer.previous, timer.next) = (None, head);
        }
        if let Some(timer) = head.and_then(|head| self.timers.get_mut(head)) {
            timer.previous = Some(key);
        }
    }

    fn unlink(&mut self, key: Key) {
        let Some(timer) = self.timers.get_mut(key) else { return };
        let (level, slot) = (usize::from(timer.level), usize::from(timer.slot));
        let (previous, next) = (timer.previous.take(), timer.next.take());
        if let Some(next) = next.and_then(|next| self.timers.get_mut(next)) {
            next.previous = previous;
        }
        match previous.and_then(|previous| self.timers.get_mut(previous)) {
            Some(previous) => previous.next = next,
            None => {
                self.levels[level].heads[slot] = next;
                if next.is_none() {
                    self.levels[level].occupied &= !(1 << slot);
                }
            }
        }
    }
}

impl Level {
    /// When the next occupied slot of this level begins, as seen from `now`.
    fn next(&self, level: usize, now: u64) -> Option<u64> {
        if self.occupied == 0 {
            return None;
        }
        let shift = BITS * level as u32;
        let current = slot_of(level, now);
        // Slots ahead of the current one, the current one last: it can only mean the next round.
        let ahead = self.occupied.rotate_right(current as u32 + 1).trailing_zeros() + 1;
        Some(((now >> shift) + u64::from(ahead)) << shift)
    }
}

fn slot_of(level: usize, time: u64) -> usize {
    (time >> (BITS * level as u32)) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn payload(number: u64) -> Key {
        Key::from_bits(1 << 32 | number)
    }

    fn expired(wheel: &mut Wheel, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        wheel.expire(now, |payload| due.push(payload.to_bits() ^ 1 << 32));
        due.sort_unstable();
        due
    }

    #[test]
    fn fires_at_its_time_and_not_before_on_every_level() {
        for deadline in [1, 63, 64, 65, 4095, 4096, 300_000, 20_000_000, REACH, 3 * REACH + 7] {
            let mut wheel = Wheel::new();
            wheel.arm(deadline, payload(7));
            assert_eq!(expired(&mut wheel, deadline - 1), []);
            assert_eq!(expired(&mut wheel, deadline), [7], "deadline {deadline}");
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn a_timer_for_the_past_fires_at_the_next_millisecond() {
        let mut wheel = Wheel::new();
        assert_eq!(expired(&mut wheel, 1000), []);
        wheel.arm(5, payload(1));
        assert_eq!(wheel.next(), Some(1001));
        assert_eq!(expired(&mut wheel, 1001), [1]);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Arm(u64),
        Disarm(usize),
        Advance(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let span = prop_oneof![0..100u64, 0..10_000u64, 0..100_000_000u64, 0..4 * REACH];
        prop_oneof![
            4 => span.clone().prop_map(Operation::Arm),
            2 => any::<usize>().prop_map(Operation::Disarm),
            3 => span.prop_map(Operation::Advance),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map_does(operations in prop::collection::vec(operation(), 1..120)) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<u64, (u64, Key)> = BTreeMap::new();
            let (mut now, mut serial) = (0, 0);
            for operation in operations {
                match operation {
                    Operation::Arm(ahead) => {
                        let key = wheel.arm(now + ahead, payload(serial));
                        model.insert(serial, (now + ahead, key));
                        serial += 1;
                    }
                    Operation::Disarm(pick) if !model.is_empty() => {
                        let serial = *model.keys().nth(pick % model.len()).unwrap();
                        let (_, key) = model.remove(&serial).unwrap();
                        wheel.disarm(key);
                    }
                    Operation::Disarm(_) => {}
                    Operation::Advance(by) => {
                        // At least a millisecond, so that what was armed for now is due.
                        now += by + 1;
                        let due: Vec<u64> = model
                            .iter()
                            .filter(|(_, (deadline, _))| *deadline <= now)
                            .map(|(serial, _)| *serial)
                            .collect();
                        model.retain(|_, (deadline, _)| *deadline > now);
                        prop_assert_eq!(expired(&mut wheel, now), due);
                    }
                }
                let earliest = model.values().map(|(deadline, _)| *deadline).min();
                match (wheel.next(), earliest) {
                    (Some(next), Some(earliest)) => {
                        prop_assert!(next <= earliest.max(now + 1) && next > now);
                    }
                    (next, earliest) => prop_assert_eq!(next.is_some(), earliest.is_some()),
                }
            }
        }
    }
}
