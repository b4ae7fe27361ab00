//! Posting, parking and waking: nothing posted is left lying while the shard sleeps.

use std::sync::atomic::AtomicUsize as Untracked;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use super::{Bell, in_every_order};
use crate::machine::parking::Parking;
use crate::sync::Ordering;

const MESSAGES: usize = 2;

/// A mailbox with the protocol of the real one around a queue that acts as its `ArrayQueue` does: a
/// slot is claimed first and filled then, and one that is not filled yet hides those behind it.
#[derive(Default)]
struct Mailbox {
    claimed: AtomicUsize,
    filled: [AtomicBool; MESSAGES],
    /// Only the shard looks at it.
    taken: Untracked,
    parking: Parking,
    bell: Bell,
}

impl Mailbox {
    fn post(&self) {
        let slot = self.claimed.fetch_add(1, Ordering::AcqRel);
        self.filled[slot].store(true, Ordering::Release);
        if self.parking.ring() {
            self.bell.ring();
        }
    }

    /// Whether a message was there. For the shard.
    fn take(&self) -> bool {
        let taken = self.taken();
        let is_there = taken < MESSAGES && self.filled[taken].load(Ordering::Acquire);
        self.taken.store(taken + usize::from(is_there), Ordering::Relaxed);
        is_there
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// One turn of the shard's loop: sleep if it was not rung for, else look at all messages.
    /// `woken` is a turn in which something else ends the sleep.
    fn turn(&self, woken: bool) {
        if self.parking.park() && !woken {
            self.bell.sleep();
        } else {
            thread::yield_now();
        }
        self.parking.unpark();
        if self.parking.silence() {
            while self.take() {}
        }
    }
}

/// Posters that post in all [`MESSAGES`] messages, and a shard that must see them all. A missed
/// wake-up shows as a deadlock.
fn play(posters: usize) {
    in_every_order(move || {
        let mailbox = Arc::new(Mailbox::default());
        let threads: Vec<_> = (0..posters)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || (0..MESSAGES / posters).for_each(|_| mailbox.post()))
            })
            .collect();
        mailbox.turn(true);
        while mailbox.taken() < MESSAGES {
            mailbox.turn(false);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn one_posts_twice_and_both_are_seen() {
    play(1);
}

#[test]
fn two_post_at_once_and_both_are_seen() {
    play(2);
}
