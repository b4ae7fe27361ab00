//! Turns that shards take from the same words.

use loom::sync::Arc;
use loom::thread;

use super::in_every_order;
use crate::balance::{Chooser, Turns, View};
use crate::ids::BackendId;
use crate::machine::Address;
use crate::prng::Prng;
use crate::settings::{BalanceKind, Server};
use crate::shared::WEIGHT_SCALE;

fn servers() -> Vec<Server> {
    let server = |name: &str| Server {
        name: name.into(),
        backend: BackendId(0),
        address: Some(Address::Unix("/run/s".into())),
        weight: 1,
        backup: false,
        max_connections: u32::MAX,
        ..Server::default()
    };
    ["a", "b"].map(server).into()
}

/// What a shard picks in so many sessions.
fn picks(turns: &Turns, sessions: usize) -> [u32; 2] {
    let mut chooser = Chooser::new(BalanceKind::RoundRobin, &servers());
    let view = View {
        sessions: 0,
        max: u32::MAX,
        weight: WEIGHT_SCALE,
        rate: 0,
        measured: 0,
        open: true,
        usable: true,
        tried: false,
        backup: false,
    };
    let mut picks = [0, 0];
    for _ in 0..sessions {
        picks[chooser.choose(|_| view, turns, 0, &mut Prng::new(1)).unwrap()] += 1;
    }
    picks
}

#[test]
fn two_shards_give_equals_equally_many_sessions() {
    in_every_order(|| {
        let turns = Arc::new(Turns::new(2));
        let other = {
            let turns = Arc::clone(&turns);
            thread::spawn(move || picks(&turns, 2))
        };
        let own = picks(&turns, 2);
        let other = other.join().unwrap();
        assert_eq!([own[0] + other[0], own[1] + other[1]], [2, 2]);
    });
}
