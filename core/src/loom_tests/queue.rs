//! Tickets of several shards in the queue of one backend.
//!
//! The calls that wake a shard may be lost, so a waiting shard here looks again and again, as the
//! first of a queue does. A turn that is never seen shows as a play without an end.

use loom::sync::Arc;
use loom::thread;

use super::in_every_order;
use crate::settings::{Priority, RoleWanted};
use crate::shared::{Gate, Queue, Ticket};
use crate::sync::{AtomicBool, Ordering};

const ANY: RoleWanted = RoleWanted::Any;

/// Two shards, and room for two that wait.
fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(2, 2))
}

fn ticket(now_ms: u64, shard: usize) -> Ticket {
    Ticket::new(Priority::Normal, now_ms, shard)
}

#[test]
fn both_shards_get_their_turn_at_a_server_with_one_seat() {
    in_every_order(|| {
        let (queue, server) = (queue(), Arc::new(Gate::new(1)));
        let serve = |queue: &Queue, server: &Gate, shard: usize| {
            assert!(queue.try_enter(), "there is room for both");
            let own = ticket(1, shard);
            queue.publish(ANY, shard, Some(own));
            while !(queue.is_turn_of(ANY, own) && server.try_enter()) {
                thread::yield_now();
            }
            queue.publish(ANY, shard, None);
            queue.leave();
            let _ = server.leave();
        };
        let other = {
            let (queue, server) = (Arc::clone(&queue), Arc::clone(&server));
            thread::spawn(move || serve(&queue, &server, 1))
        };
        serve(&queue, &server, 0);
        other.join().unwrap();
        assert_eq!((queue.waiting(), server.live()), (0, 0));
        assert!(queue.is_turn_of(ANY, ticket(u64::MAX, 1)), "nobody waits any more");
    });
}

#[test]
fn nobody_has_a_turn_before_one_who_waits() {
    in_every_order(|| {
        let queue = queue();
        let (early, late) = (ticket(1, 0), ticket(2, 1));
        let served = Arc::new(AtomicBool::new(false));
        queue.publish(ANY, 0, Some(early));
        let other = {
            let (queue, served) = (Arc::clone(&queue), Arc::clone(&served));
            thread::spawn(move || {
                queue.publish(ANY, 1, Some(late));
                let is_turn = queue.is_turn_of(ANY, late);
                assert!(!is_turn || served.load(Ordering::Relaxed), "overtaken");
            })
        };
        assert!(queue.is_turn_of(ANY, early), "whoever comes later changes nothing");
        served.store(true, Ordering::Relaxed);
        queue.publish(ANY, 0, None);
        other.join().unwrap();
        assert!(queue.is_turn_of(ANY, late));
    });
}

#[test]
fn of_two_that_wait_exactly_one_has_its_turn() {
    in_every_order(|| {
        let queue = queue();
        let tickets = [ticket(1, 0), ticket(1, 1)];
        let other = {
            let queue = Arc::clone(&queue);
            // A session of higher priority comes and goes on the other shard.
            thread::spawn(move || {
                queue.publish(ANY, 1, Some(tickets[1]));
                queue.publish(ANY, 1, Some(Ticket::new(Priority::High, 9, 1)));
                queue.publish(ANY, 1, Some(tickets[1]));
            })
        };
        queue.publish(ANY, 0, Some(tickets[0]));
        assert!(!queue.is_turn_of(ANY, tickets[1]), "shard 0 knows of its own session");
        other.join().unwrap();
        let turns = tickets.map(|ticket| queue.is_turn_of(ANY, ticket));
        assert_eq!(turns, [true, false]);
    });
}
