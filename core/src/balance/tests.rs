//! What the policies promise, on all of them at once where they promise the same.

use proptest::prelude::*;

use super::*;
use crate::snapshot::{Address, BackendId, Server};

const KINDS: [BalanceKind; 4] =
    [BalanceKind::RoundRobin, BalanceKind::LeastConn, BalanceKind::RandomTwo, BalanceKind::Source];

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let candidate = |(identity, &weight)| Candidate { weight, sessions: 0, identity, usable: true };
    (1..).zip(weights).map(candidate).collect()
}

/// How many of `n` sessions with different keys each server gets; none of them ends.
fn shares(kind: BalanceKind, mut servers: Vec<Candidate>, n: u64) -> Vec<u32> {
    let (mut balance, mut prng) = (Balance::new(kind), Prng::new(1));
    for key in 0..n {
        let pick = balance.pick(&servers, key, &mut prng).unwrap();
        servers[pick].sessions += 1;
    }
    servers.iter().map(|server| server.sessions).collect()
}

#[test]
fn round_robin_interleaves_by_weight() {
    let mut balance = Balance::new(BalanceKind::RoundRobin);
    let servers = candidates(&[5, 1, 1]);
    let picks: Vec<_> =
        (0..7).filter_map(|_| balance.pick(&servers, 0, &mut Prng::new(0))).collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn shares_follow_weights() {
    for kind in KINDS {
        let shares = shares(kind, candidates(&[3, 0, 1]), 40_000);
        assert_eq!(shares[1], 0, "{kind:?}: weight 0 takes nothing");
        let share = f64::from(shares[0]) / 40_000.0;
        assert!((share - 0.75).abs() < 0.02, "{kind:?}: {shares:?}");
    }
}

#[test]
fn least_conn_fills_the_emptiest_and_shares_among_equals() {
    let mut servers = candidates(&[1, 1, 1]);
    servers[0].sessions = 10;
    assert_eq!(shares(BalanceKind::LeastConn, servers, 20), [10, 10, 10]);
}

#[test]
fn source_moves_only_the_clients_of_a_server_that_left() {
    let (mut balance, mut prng) = (Balance::new(BalanceKind::Source), Prng::new(0));
    let all = candidates(&[1, 1, 2, 1]);
    let mut without = all.clone();
    without[2].usable = false;
    for key in 0..10_000 {
        let before = balance.pick(&all, key, &mut prng).unwrap();
        let after = balance.pick(&without, key, &mut prng).unwrap();
        assert!(before == after || before == 2, "key {key}: {before} → {after}");
        assert_ne!(after, 2);
    }
}

#[test]
fn tiers_are_usable_then_backup_then_failed_and_never_tried_ones() {
    let server = |name: &str, backup| Server {
        name: name.into(),
        backend: BackendId(0),
        address: Address::Unix("/run/s".into()),
        weight: 1,
        backup,
    };
    let servers = [server("a", false), server("b", false), server("reserve", true)];
    for kind in KINDS {
        let mut chooser = Chooser::new(kind, &servers);
        let mut choose = |usable: [bool; 3], tried: [bool; 3]| {
            let view = |i: usize| View {
                sessions: 0,
                weight: 1,
                open: true,
                usable: usable[i],
                tried: tried[i],
            };
            chooser.choose(view, 7, &mut Prng::new(3))
        };
        assert_eq!(choose([false, true, true], [false; 3]), Some(1), "{kind:?}");
        assert_eq!(choose([false, false, true], [false; 3]), Some(2), "{kind:?}: the backup");
        assert_eq!(choose([false; 3], [true, false, false]), Some(1), "{kind:?}: a failed one");
        assert_eq!(choose([false; 3], [true, true, false]), Some(2), "{kind:?}");
        assert_eq!(choose([true; 3], [true; 3]), None, "{kind:?}: all tried");
    }
}

proptest! {
    #[test]
    fn a_usable_server_is_picked_whenever_there_is_one(
        servers in prop::collection::vec((0..4u32, 0..5u32, any::<bool>()), 0..12),
        key: u64,
        seed: u64,
    ) {
        let servers: Vec<_> = (0..)
            .zip(servers)
            .map(|(identity, (weight, sessions, usable))| {
                Candidate { weight, sessions, identity, usable }
            })
            .collect();
        let possible = servers.iter().any(Candidate::takes_sessions);
        for kind in KINDS {
            let (mut balance, mut prng) = (Balance::new(kind), Prng::new(seed));
            for _ in 0..3 {
                let pick = balance.pick(&servers, key, &mut prng);
                prop_assert_eq!(pick.is_some(), possible);
                prop_assert!(pick.is_none_or(|pick| servers[pick].takes_sessions()));
            }
        }
    }
}
