//! The data structures of a shard beside models that are too simple to be wrong.

use ringlane_core::balance::{Chooser, Turns, View};
use ringlane_core::bench::{BenchKey, BenchSlab, BenchWheel};
use ringlane_core::counters::Histogram;
use ringlane_core::ids::BackendId;
use ringlane_core::machine::Address;
use ringlane_core::prng::Prng;
use ringlane_core::settings::{BalanceKind, LoadBound, Server};

use super::Input;

/// Operations on a timer wheel beside a sorted map.
pub fn wheel(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut wheel = BenchWheel::new();
    let mut armed: Vec<(u64, BenchKey)> = Vec::new();
    let mut now = 0;
    while !input.is_over() {
        match input.byte() % 4 {
            0 | 1 => {
                let deadline = now + ahead(&mut input);
                armed.push((deadline, wheel.arm(deadline)));
            }
            2 if !armed.is_empty() => {
                let (_, key) = armed.swap_remove(input.below(armed.len()));
                wheel.disarm(key);
                wheel.disarm(key); // a late key does nothing
            }
            _ => {
                // At least a millisecond, so that what was armed for now is due.
                now += ahead(&mut input) + 1;
                let before = armed.len();
                armed.retain(|(deadline, _)| *deadline > now);
                assert_eq!(wheel.expire(now), before - armed.len(), "due at {now}");
            }
        }
    }
}

/// Milliseconds ahead: up to 35 years, beyond the reach of the wheel.
fn ahead(input: &mut Input<'_>) -> u64 {
    input.number() & ((1 << 40) - 1)
}

/// Operations on a slab beside a map.
pub fn slab(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut slab = BenchSlab::new();
    let mut live: Vec<(BenchKey, u64)> = Vec::new();
    let mut dead: Vec<BenchKey> = Vec::new();
    while !input.is_over() {
        match input.byte() % 3 {
            0 if !live.is_empty() => {
                let (key, value) = live.swap_remove(input.below(live.len()));
                assert_eq!(slab.remove(key), Some(value));
                dead.push(key);
            }
            1 if !dead.is_empty() => {
                let key = dead[input.below(dead.len())];
                assert_eq!((slab.get(key), slab.remove(key)), (None, None), "a dead key");
            }
            _ => {
                let value = input.number();
                live.push((slab.insert(value), value));
            }
        }
        live.iter().for_each(|(key, value)| assert_eq!(slab.get(*key), Some(*value)));
    }
}

/// The first value that a histogram counts as the highest.
const END: u64 = 1 << 40;

/// Values in a histogram: each is counted once, in a bucket at most 1/32 above it.
pub fn histogram(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (all, mut sum, mut count) = (Histogram::default(), 0u64, 0);
    while !input.is_over() && count < 16 {
        let value = input.number();
        let one = Histogram::default();
        one.record(value);
        let mut hdr = quantiles();
        one.pour_into(&mut hdr);
        let (kept, top) = (value.min(END - 1), hdr.max());
        // The three digits that the HDR histogram keeps are its own error.
        assert!(top >= kept && top - kept <= (kept >> 5) + (kept >> 9), "{value} → {top}");
        assert_eq!(hdr.len(), 1, "{value}");
        all.record(value);
        (sum, count) = (sum.wrapping_add(value), count + 1);
    }
    let mut hdr = quantiles();
    all.pour_into(&mut hdr);
    assert_eq!((hdr.len(), all.sum()), (count, sum));
}

fn quantiles() -> hdrhistogram::Histogram<u64> {
    hdrhistogram::Histogram::new_with_max(END, 3).expect("bounds that it accepts")
}

/// Choices among servers in any condition: one is found exactly if one is left to try, and never
/// from a lower tier than needed.
pub fn chooser(bytes: &[u8]) {
    let mut input = Input(bytes);
    let bound = Some(LoadBound { percent: 101 + u32::from(input.byte()) });
    let kinds = [
        BalanceKind::RoundRobin,
        BalanceKind::LeastConn,
        BalanceKind::RandomTwo,
        BalanceKind::Source,
        BalanceKind::Maglev(None),
        BalanceKind::Maglev(bound),
        BalanceKind::RingHash(None),
        BalanceKind::RingHash(bound),
        BalanceKind::LeastBandwidth,
        BalanceKind::First,
    ];
    let kind = kinds[input.below(kinds.len())];
    let servers: Vec<Server> = (0..input.below(9)).map(|n| server(n, &mut input)).collect();
    let mut chooser = Chooser::new(kind, &servers);
    let turns = Turns::new(servers.len());
    let mut prng = Prng::new(input.number());
    while !input.is_over() {
        let views: Vec<View> = servers.iter().map(|_| view(&mut input)).collect();
        let choice = chooser.choose(|index| views[index], &turns, input.number(), &mut prng);
        let tier =
            |index: usize| (!views[index].usable, servers[index].backup || views[index].backup);
        let has_room = |n: usize| views[n].sessions < views[n].max;
        let may = |n: usize| views[n].weight > 0 && views[n].open && !views[n].tried && has_room(n);
        let left = (0..servers.len()).filter(|&n| may(n));
        let best = left.map(tier).min();
        assert_eq!(choice.map(tier), best, "{kind:?} chose {choice:?} of {views:?}");
        assert!(choice.is_none_or(may));
    }
}

fn server(number: usize, input: &mut Input<'_>) -> Server {
    Server {
        name: format!("s{number}"),
        backend: BackendId(0),
        address: Some(Address::Unix("/run/s".into())),
        weight: input.number() as u32,
        backup: input.byte() % 2 == 1,
        ..Server::default()
    }
}

fn view(input: &mut Input<'_>) -> View {
    let flags = input.byte();
    let sessions = if flags & 4 == 0 { input.byte().into() } else { input.number() as u32 };
    View {
        sessions,
        max: input.byte().into(),
        weight: input.number() as u32,
        rate: input.number(),
        measured: input.byte().into(),
        open: flags & 8 == 0,
        usable: flags & 1 != 0,
        tried: flags & 2 != 0,
        backup: flags & 16 != 0,
    }
}
