//! The shares that each balance policy promises, over the real binary, whatever shard takes a
//! session.
//!
//! Sessions one after the other, and sessions that are all held: policies that count are within one
//! session of the exact share, those that draw within four standard deviations.

use crate::harness::balancer::{Ringlane, Setup};
use crate::harness::client::{connect, greeting};
use crate::harness::echo::Echo;
use crate::harness::wait_until;

/// Servers that greet with a letter of their own, with these weights.
struct Farm {
    servers: Vec<Echo>,
    weights: Vec<u32>,
}

impl Farm {
    fn of(weights: &[u32]) -> Self {
        let servers = ('a'..='z').take(weights.len()).map(Echo::greeting).collect();
        Self { servers, weights: weights.to_vec() }
    }

    fn start(&self, balance: &str, shards: usize) -> Ringlane {
        let mut setup = Setup::to(&[]).shards(shards).backend(&format!("balance = \"{balance}\""));
        for (server, weight) in self.servers.iter().zip(&self.weights) {
            setup.server(&format!("address = \"{}\", weight = {weight}", server.address));
        }
        setup.start()
    }

    /// How many sessions each server had.
    fn count(&self, letters: &str) -> Vec<f64> {
        let of = |letter: char| letters.chars().filter(|other| *other == letter).count() as f64;
        ('a'..='z').take(self.weights.len()).map(of).collect()
    }

    /// How far the shares are from the exact ones at most, in sessions.
    fn error(&self, letters: &str) -> f64 {
        let total: u32 = self.weights.iter().sum();
        let exact = |weight: &u32| letters.len() as f64 * f64::from(*weight) / f64::from(total);
        let errors = self.weights.iter().zip(self.count(letters));
        errors.map(|(weight, share)| (share - exact(weight)).abs()).fold(0.0, f64::max)
    }
}

/// The servers that `n` sessions met of which each ended before the next.
fn one_after_the_other(ringlane: &Ringlane, n: usize) -> String {
    let session = |_| {
        let letter = greeting(&mut connect(ringlane.address())).unwrap();
        wait_until("the session to end", || {
            ringlane.servers("sessions_live").iter().sum::<u64>() == 0
        });
        letter
    };
    (0..n).map(session).collect()
}

/// The servers that `n` sessions met that all stay.
fn held(ringlane: &Ringlane, n: usize) -> String {
    let mut open: Vec<_> = (0..n).map(|_| connect(ringlane.address())).collect();
    open.iter_mut().map(|client| greeting(client).unwrap()).collect()
}

#[test]
fn policies_that_count_are_within_one_session_of_exact_on_any_number_of_shards() {
    for balance in ["round_robin", "least_conn"] {
        for weights in [&[1, 1, 1][..], &[1, 2], &[5, 1, 1]] {
            let farm = Farm::of(weights);
            for shards in [1, 2, 4] {
                let what = format!("{balance} on {shards} shards by {weights:?}");
                let ringlane = farm.start(balance, shards);
                // Whole rounds, so that what follows begins at the start of one.
                let rounds = 2 * weights.iter().sum::<u32>() as usize;
                let letters = one_after_the_other(&ringlane, rounds);
                assert!(farm.error(&letters) <= 1.0, "{what}, one after the other: {letters}");
                let letters = held(&ringlane, 10);
                assert!(farm.error(&letters) <= 1.0, "{what}, held: {letters}");
                ringlane.end();
            }
        }
    }
}

#[test]
fn two_random_draws_are_within_four_standard_deviations_of_their_weights() {
    for shards in [1, 2, 4] {
        let farm = Farm::of(&[1, 2]);
        let ringlane = farm.start("random_two", shards);
        let letters = one_after_the_other(&ringlane, 45);
        // The first of both draws decides between idle servers: of 45 by 1/3, the variance is 10.
        assert!(farm.error(&letters) <= 4.0 * 10f64.sqrt(), "{shards} shards: {letters}");
        ringlane.end();

        let ringlane = farm.start("random_two", shards);
        let letters = held(&ringlane, 30);
        // Held sessions steer: never worse than drawing blindly.
        assert!(farm.error(&letters) <= 4.0 * (20f64 / 3.0).sqrt(), "{shards}: {letters}");
        ringlane.end();
    }
}
