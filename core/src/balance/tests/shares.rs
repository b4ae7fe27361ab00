//! Exact shares: policies that take turns, by any weights, on shards that pick in any order.

use std::thread;

use proptest::prelude::*;

use super::*;

const IN_TURN: [BalanceKind; 3] =
    [BalanceKind::RoundRobin, BalanceKind::LeastConn, BalanceKind::LeastBandwidth];

/// Shards that serve one backend.
struct Process {
    shards: Vec<Chooser>,
    views: Vec<View>,
    turns: Turns,
    picks: Vec<u32>,
}

impl Process {
    fn new(kind: BalanceKind, weights: &[u32], shards: usize) -> Self {
        let servers = servers(weights);
        Self {
            shards: (0..shards).map(|_| Chooser::new(kind, &servers)).collect(),
            views: views(&servers),
            turns: Turns::new(servers.len()),
            picks: vec![0; servers.len()],
        }
    }

    fn pick(&mut self, shard: usize) -> usize {
        let views = &self.views;
        let pick = self.shards[shard].choose(|n| views[n], &self.turns, 0, &mut Prng::new(1));
        let pick = pick.unwrap();
        self.picks[pick] += 1;
        pick
    }

    /// How far the picks are from their exact shares at most.
    fn error(&self, weights: &[u32]) -> f64 {
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let all: f64 = self.picks.iter().map(|picks| f64::from(*picks)).sum();
        let error = |(picks, weight): (&u32, &u32)| {
            (f64::from(*picks) - all * f64::from(*weight) / total).abs()
        };
        self.picks.iter().zip(weights).map(error).fold(0.0, f64::max)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// At no moment, whether sessions stay or end before the next.
    #[test]
    fn no_server_is_ever_a_session_from_its_share(
        weights in prop::collection::vec(prop_oneof![1..4u32, 1..1000u32], 1..12),
        order in prop::collection::vec(0..4usize, 1..300),
        held: bool,
    ) {
        for kind in IN_TURN {
            let mut process = Process::new(kind, &weights, 4);
            for (n, shard) in order.iter().enumerate() {
                let pick = process.pick(*shard);
                process.views[pick].sessions += u32::from(held);
                let error = process.error(&weights);
                prop_assert!(error < 1.0 + 1e-4, "{kind:?} {error} after {n}: {:?}", process.picks);
            }
        }
    }

    /// Servers go and come back; those that are there are never far from equal.
    #[test]
    fn a_server_that_was_away_catches_up_on_nothing(
        away in prop::collection::vec((0..5usize, 1..40usize), 1..20),
    ) {
        let mut process = Process::new(BalanceKind::RoundRobin, &[1; 5], 2);
        for (gone, sessions) in away {
            process.views[gone].usable = false;
            for n in 0..sessions {
                process.pick(n % 2);
            }
            process.views[gone].usable = true;
            process.picks.fill(0);
            for n in 0..10 {
                process.pick(n % 2);
            }
            prop_assert!(process.picks.iter().all(|n| (1..=3).contains(n)), "{:?}", process.picks);
        }
    }
}

#[test]
fn sessions_that_see_few_servers_starve_none_of_those() {
    let mut process = Process::new(BalanceKind::RoundRobin, &[1; 4], 1);
    for _ in 0..30 {
        // Ten that may go to the first only, as writes do, and one of those that may go elsewhere.
        process.views[1..].iter_mut().for_each(|view| view.open = false);
        (0..10).for_each(|_| assert_eq!(process.pick(0), 0));
        process.views[1..].iter_mut().for_each(|view| view.open = true);
        process.views[0].tried = true;
        process.pick(0);
        process.views[0].tried = false;
    }
    assert_eq!(process.picks, [300, 10, 10, 10]);
}

#[test]
fn a_server_that_warms_up_has_its_share_at_each_weight() {
    for kind in [BalanceKind::RoundRobin, BalanceKind::LeastConn] {
        let mut process = Process::new(kind, &[1, 1], 2);
        for part in [1, 16, 64, 128, 256] {
            process.views[1].weight = part * WEIGHT_SCALE / 256;
            process.picks.fill(0);
            for n in 0..1028 {
                process.pick(n % 2);
            }
            let fair = 1028.0 * f64::from(part) / f64::from(256 + part);
            let error = (f64::from(process.picks[1]) - fair).abs();
            assert!(error <= 2.0, "{kind:?}: {:?} at {part} of 256", process.picks);
        }
    }
}

#[test]
fn least_conn_goes_to_the_emptiest_whatever_its_turn() {
    let mut process = Process::new(BalanceKind::LeastConn, &[1, 1, 1, 2], 2);
    for (view, sessions) in process.views.iter_mut().zip([9, 7, 8, 18]) {
        view.sessions = sessions;
    }
    for (n, expected) in [1, 2, 1, 3].into_iter().enumerate() {
        let pick = process.pick(n % 2);
        assert_eq!(pick, expected, "{:?}", process.views);
        process.views[pick].sessions += 1;
    }
}

#[test]
fn threads_that_pick_at_once_keep_equals_equal() {
    const PICKS: usize = 2000;
    let servers = servers(&[1; 7]);
    let turns = Turns::new(servers.len());
    let views = views(&servers);
    let shard = || {
        let mut chooser = Chooser::new(BalanceKind::RoundRobin, &servers);
        let mut picks = [0usize; 7];
        for _ in 0..PICKS {
            picks[chooser.choose(|n| views[n], &turns, 0, &mut Prng::new(1)).unwrap()] += 1;
        }
        picks
    };
    let all: Vec<[usize; 7]> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(shard)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |n: usize| all.iter().map(|picks| picks[n]).sum::<usize>();
    let sums: Vec<usize> = (0..7).map(sum).collect();
    let (least, most) = (sums.iter().min().unwrap(), sums.iter().max().unwrap());
    assert!(most - least <= 1 && sums.iter().sum::<usize>() == 4 * PICKS, "{sums:?}");
}
