//! Gates, trials and hand-overs.

use std::time::Instant;

use loom::sync::Arc;
use loom::thread;

use super::{Bell, in_every_order};
use crate::shared::{Common, Gate, RETRY_FAILED_MS, ServerGauge};
use crate::sync::{AtomicU32, Ordering};

/// A shard takes a place at a gate, asleep while there is none, as the accepting task does.
fn enter(gate: &Gate, own: &Bell) {
    if gate.try_enter() {
        return;
    }
    loop {
        gate.wait();
        if gate.try_enter() {
            return;
        }
        own.sleep();
    }
}

/// A shard gives a place back and tells every shard if it must.
fn leave(gate: &Gate, all: &[Bell]) {
    if gate.leave() {
        all.iter().for_each(Bell::ring);
    }
}

#[test]
fn nobody_waits_at_a_gate_with_a_free_place() {
    in_every_order(|| {
        let gate = Arc::new(Gate::new(1));
        let bells = Arc::new([Bell::default(), Bell::default()]);
        let inside = Arc::new(AtomicU32::new(0));
        assert!(gate.try_enter());
        let shards = [0, 1].map(|own| {
            let (gate, bells, inside) =
                (Arc::clone(&gate), Arc::clone(&bells), Arc::clone(&inside));
            thread::spawn(move || {
                enter(&gate, &bells[own]);
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "more than max inside");
                inside.fetch_sub(1, Ordering::Relaxed);
                leave(&gate, &*bells);
            })
        });
        leave(&gate, &*bells);
        shards.into_iter().for_each(|shard| shard.join().unwrap());
        assert_eq!(gate.live(), 0);
    });
}

/// A server whose first trial is due.
const DUE: u64 = RETRY_FAILED_MS;

#[test]
fn a_failed_server_gets_one_trial_however_many_ask() {
    in_every_order(|| {
        let server = Arc::new(ServerGauge::default());
        server.failed(0);
        let shards = [DUE, DUE + 1].map(|now| {
            let server = Arc::clone(&server);
            thread::spawn(move || u32::from(server.is_usable(now) && server.claim(now)))
        });
        let own = u32::from(server.claim(DUE));
        let trials: u32 = own + shards.map(|shard| shard.join().unwrap()).iter().sum::<u32>();
        assert_eq!(trials, 1);
        assert!(server.is_down() && !server.is_usable(DUE + 1));
    });
}

#[test]
fn a_shard_that_ends_leaves_no_session_on_its_way_to_it_and_does_end() {
    in_every_order(|| {
        let shards = Arc::new(Common::new(1, 2, Instant::now()));
        // What was posted to shard 1 and not yet taken.
        let posted = Arc::new(AtomicU32::new(0));
        let other = {
            let (shards, posted) = (Arc::clone(&shards), Arc::clone(&posted));
            thread::spawn(move || {
                if shards.try_hand_over(1) {
                    posted.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        shards.close_shard(1);
        let empty = shards.is_shard_empty(1);
        other.join().unwrap();
        let posted = posted.load(Ordering::Relaxed);
        assert_eq!(shards.shard(1), posted, "counted where it is");
        // Nothing wakes a shard that has found itself not empty, but the session that it found.
        assert_eq!(empty, posted == 0, "it ends exactly if no session is on its way to it");
    });
}
