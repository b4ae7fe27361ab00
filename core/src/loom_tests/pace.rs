//! One limit per second under several shards.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::in_every_order;
use crate::shared::Pace;

/// Units per second, and how many may pass at once.
const RATE: u64 = 10;
const BURST: u64 = 2;

/// How many of three tries on one shard are let through at this time.
fn taken(pace: &Pace, since: Duration) -> u64 {
    (0..3).map(|_| u64::from(pace.try_take(1, since).is_ok())).sum()
}

#[test]
fn two_shards_take_a_burst_and_the_rate_and_no_more() {
    in_every_order(|| {
        let pace = Arc::new(Pace::new(RATE, BURST));
        let tenth = Duration::from_millis(100);
        let other = {
            let pace = Arc::clone(&pace);
            thread::spawn(move || taken(&pace, tenth))
        };
        let own = taken(&pace, Duration::ZERO);
        let all = own + other.join().unwrap();
        // After a tenth of a second, one more than the burst; what came late took no part of it.
        assert!((BURST..=BURST + 1).contains(&all), "{all} were let through");
        assert!(pace.try_take(1, tenth).is_err(), "one more after {all}");
        assert!(pace.try_take(1, tenth * 2).is_ok());
    });
}

#[test]
fn bytes_that_two_shards_charge_are_all_waited_for() {
    in_every_order(|| {
        let pace = Arc::new(Pace::new(RATE, BURST));
        let charge = |pace: &Pace| pace.charge(10, Duration::ZERO);
        let other = {
            let pace = Arc::clone(&pace);
            thread::spawn(move || charge(&pace))
        };
        let mut waits = [charge(&pace), other.join().unwrap()];
        waits.sort_unstable();
        // A second for each ten, less what may be ahead.
        assert_eq!(waits, [Duration::from_millis(900), Duration::from_millis(1900)]);
    });
}
