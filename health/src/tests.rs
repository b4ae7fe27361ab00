//! Scenarios of one backend: a sequence of checks, orders and seconds.

use super::*;
use proptest::prelude::*;
use ringlane_core::counters::{Ending, Reason};
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::WEIGHT_SCALE;
use std::cell::Cell;

thread_local! {
    /// Number of states computed by this test.
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Counts one computed state, the unit in which the cost of a change is measured.
pub(super) fn count_step() {
    STEPS.set(STEPS.get() + 1);
}

fn ok() -> Result<Seen, String> {
    Ok(Seen::default())
}

fn role(role: Role) -> Result<Seen, String> {
    Ok(Seen { role: Some(role), ..Seen::default() })
}

fn replica_behind(seconds: u64) -> Result<Seen, String> {
    let lag = Lag { time: Some(Duration::from_secs(seconds)), bytes: None };
    Ok(Seen { role: Some(Role::Replica), lag: Some(lag), ..Seen::default() })
}

fn bad() -> Result<Seen, String> {
    Err("connection refused".to_owned())
}

fn open_for(backend: &Backend, role: RoleWanted, now: Instant) -> Vec<usize> {
    (0..backend.servers.len()).filter(|&i| backend.eligibility(i, now).is_open_for(role)).collect()
}

#[test]
fn fall_bad_checks_take_it_down_and_rise_good_ones_bring_it_up() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules::default(), [1]);
    assert!(backend.observe(0, ok(), now).is_empty());
    assert!(backend.observe(0, bad(), now).is_empty() && backend.is_changing(0));
    assert!(backend.observe(0, bad(), now).is_empty());
    let changes = backend.observe(0, bad(), now);
    assert_eq!(
        (changes[0].to.health, changes[0].reason.as_str()),
        (Health::Down, "connection refused")
    );
    assert_eq!(open_for(&backend, RoleWanted::Any, now), [0usize; 0]);
    assert!(backend.observe(0, ok(), now).is_empty());
    assert!(backend.observe(0, bad(), now).is_empty(), "the row is broken");
    assert!(backend.observe(0, ok(), now).is_empty());
    assert_eq!(backend.observe(0, ok(), now)[0].to.health, Health::Up);
    assert!(!backend.is_changing(0));
}

#[test]
fn the_first_check_decides_alone() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules::default(), [1]);
    assert_eq!(open_for(&backend, RoleWanted::Any, now), [0], "up until a check fails");
    assert_eq!(backend.observe(0, bad(), now)[0].to.health, Health::Down);
}

#[test]
fn writes_follow_the_primary_and_two_of_them_stop_all_writing() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules::default(), [1, 1, 1]);
    assert!(open_for(&backend, RoleWanted::Primary, now).is_empty(), "no role was reported");
    backend.observe(0, role(Role::Primary), now);
    backend.observe(1, role(Role::Replica), now);
    backend.observe(2, role(Role::Replica), now);
    assert_eq!(open_for(&backend, RoleWanted::Primary, now), [0]);
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [1, 2]);
    let changes = backend.observe(1, role(Role::Primary), now);
    assert_eq!(changes.len(), 2, "the conflict concerns both");
    assert!(changes.iter().all(|change| change.to.in_conflict));
    assert!(open_for(&backend, RoleWanted::Primary, now).is_empty());
    for _ in 0..3 {
        backend.observe(0, bad(), now);
    }
    assert_eq!(open_for(&backend, RoleWanted::Primary, now), [1]);
}

#[test]
fn a_conflict_may_also_be_decided() {
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    for (on_conflict, the_one) in [(OnConflict::Newest, 0), (OnConflict::First, 0)] {
        let mut backend = Backend::new(Rules { on_conflict, ..Rules::default() }, [1, 1]);
        backend.observe(1, role(Role::Primary), later(0));
        backend.observe(0, role(Role::Primary), later(1));
        assert_eq!(open_for(&backend, RoleWanted::Primary, later(1)), [the_one], "{on_conflict:?}");
    }
    let mut backend =
        Backend::new(Rules { on_conflict: OnConflict::Newest, ..Rules::default() }, [1, 1]);
    backend.observe(0, role(Role::Primary), later(0));
    backend.observe(1, role(Role::Primary), later(1));
    assert_eq!(open_for(&backend, RoleWanted::Primary, later(1)), [1]);
}

#[test]
fn a_replica_that_lags_or_does_not_say_is_stale() {
    let now = Instant::now();
    let max_lag = Some(LagLimit::Time(Duration::from_secs(10)));
    let mut backend = Backend::new(Rules { max_lag, ..Rules::default() }, [1, 1, 1]);
    backend.observe(0, replica_behind(10), now);
    backend.observe(1, replica_behind(11), now);
    backend.observe(2, role(Role::Replica), now);
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [0]);
    backend.observe(1, role(Role::Primary), now);
    assert_eq!(open_for(&backend, RoleWanted::Primary, now), [1], "a primary has no lag");
}

/// A primary or replica on this timeline.
fn on(role: Role, timeline: u32) -> Result<Seen, String> {
    Ok(Seen { role: Some(role), timeline: Some(timeline), ..Seen::default() })
}

#[test]
fn a_replica_that_follows_an_old_primary_serves_no_reads() {
    let now = Instant::now();
    let rules = Rules { on_lag: OnChange::Fence, ..Rules::default() };
    let mut backend = Backend::new(rules, [1, 1, 1, 1]);
    backend.observe(0, on(Role::Primary, 1), now);
    for replica in 1..4 {
        backend.observe(replica, on(Role::Replica, 1), now);
    }
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [1, 2, 3]);
    for _ in 0..3 {
        backend.observe(0, bad(), now);
    }
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [1, 2, 3], "no server was promoted");
    backend.observe(2, on(Role::Replica, 2), now);
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [1, 2, 3], "ahead of a promotion");
    let changes = backend.observe(1, on(Role::Primary, 2), now);
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [2]);
    let lost = changes.iter().find(|change| change.server == 3).unwrap();
    assert_eq!(lost.to.to_string(), "up replica diverged");
    let ended = backend.ended_by(&changes);
    let fenced = |role| ended.iter().any(|ended| (ended.server, ended.role) == (3, role));
    assert!(fenced(RoleWanted::Replica) && fenced(RoleWanted::ReplicaOrPrimary));
    backend.observe(3, on(Role::Replica, 2), now);
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [2, 3]);
    // The old primary is back and reports the role primary; its replicas are as outdated as it.
    backend.observe(0, on(Role::Primary, 1), now);
    backend.observe(0, on(Role::Primary, 1), now);
    backend.observe(3, on(Role::Replica, 1), now);
    assert!(open_for(&backend, RoleWanted::Primary, now).is_empty());
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [2]);
}

#[test]
fn a_cluster_that_was_made_anew_may_begin_at_its_first_timeline() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules::default(), [1, 1]);
    backend.observe(0, on(Role::Primary, 7), now);
    backend.observe(1, on(Role::Replica, 7), now);
    backend.observe(0, on(Role::Primary, 1), now);
    assert!(open_for(&backend, RoleWanted::Replica, now).is_empty());
    backend.observe(1, on(Role::Replica, 1), now);
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [1]);
}

#[test]
fn the_primary_stands_in_for_its_replicas_and_its_readers_stay() {
    let now = Instant::now();
    let role_wanted = RoleWanted::ReplicaOrPrimary;
    let rules = Rules { on_role_change: OnChange::Fence, ..Rules::default() };
    let mut backend = Backend::new(rules, [1, 1]);
    backend.observe(0, role(Role::Primary), now);
    let changes = backend.observe(1, role(Role::Replica), now);
    backend.ended_by(&changes);
    assert_eq!(open_for(&backend, role_wanted, now), [0, 1]);
    let backup = |backend: &Backend, i| backend.eligibility(i, now).is_backup_for(role_wanted);
    assert!(backup(&backend, 0) && !backup(&backend, 1), "replicas come first");
    for _ in 0..3 {
        backend.observe(0, bad(), now);
    }
    let changes = backend.observe(1, role(Role::Primary), now);
    assert_eq!(open_for(&backend, role_wanted, now), [1]);
    let ended = backend.ended_by(&changes);
    assert!(ended.iter().all(|ended| ended.role != role_wanted), "{ended:?}");
}

#[test]
fn of_two_primaries_it_is_said_which_one_takes_the_writes() {
    let now = Instant::now();
    let mut backend =
        Backend::new(Rules { on_conflict: OnConflict::First, ..Rules::default() }, [1, 1]);
    backend.observe(0, role(Role::Primary), now);
    let changes = backend.observe(1, role(Role::Primary), now);
    let words: Vec<String> = changes.iter().map(|change| change.to.to_string()).collect();
    assert_eq!(words, ["up primary in conflict taking the writes", "up primary in conflict"]);
}

#[test]
fn a_replica_may_be_so_many_bytes_behind() {
    let now = Instant::now();
    let max_lag = Some(LagLimit::Bytes(100));
    let mut backend = Backend::new(Rules { max_lag, ..Rules::default() }, [1, 1, 1]);
    for (index, bytes) in [(0, Some(100)), (1, Some(101)), (2, None)] {
        let lag = Some(Lag { time: Some(Duration::ZERO), bytes });
        let seen = Seen { role: Some(Role::Replica), lag, ..Seen::default() };
        backend.observe(index, Ok(seen), now);
    }
    assert_eq!(open_for(&backend, RoleWanted::Replica, now), [0]);
}

#[test]
fn operators_and_agents_take_servers_out() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules::default(), [1, 1]);
    let changes = backend.set_admin(0, Admin::Drain, "");
    assert_eq!((changes[0].from.admin, changes[0].to.admin), (Admin::Ready, Admin::Drain));
    assert_eq!(changes[0].to.to_string(), "up, drain");
    let keeps = |backend: &Backend, i| backend.eligibility(i, now).keeps_for(RoleWanted::Any);
    assert!(keeps(&backend, 0), "a drained server keeps the clients that it has");
    let advice = Some(Advice { admin: Some(Admin::Maint), weight_percent: Some(50) });
    backend.observe(1, Ok(Seen { advice, ..Seen::default() }), now);
    assert!(open_for(&backend, RoleWanted::Any, now).is_empty());
    assert!(!keeps(&backend, 1), "a server in maintenance keeps no session");
    assert_eq!(backend.eligibility(1, now).weight(), WEIGHT_SCALE / 2);
    assert_eq!(backend.set_admin(0, Admin::Ready, "").len(), 1);
    assert_eq!(open_for(&backend, RoleWanted::Any, now), [0]);
}

#[test]
fn a_server_that_came_back_warms_up() {
    let begin = Instant::now();
    let slow_start = Some(Duration::from_secs(20));
    let mut backend =
        Backend::new(Rules { slow_start, rise: 1, fall: 1, ..Rules::default() }, [10]);
    backend.observe(0, ok(), begin);
    assert_eq!(backend.state(0).unwrap().health, Health::Up, "not at the start");
    backend.observe(0, bad(), begin);
    backend.observe(0, ok(), begin);
    assert_eq!(backend.state(0).unwrap().health, Health::Warming);
    let full = 10 * WEIGHT_SCALE;
    let weight = |seconds| backend.eligibility(0, begin + Duration::from_secs(seconds)).weight();
    assert_eq!([weight(0), weight(10), weight(19)], [full / 20, full * 11 / 20, full]);
    assert!(backend.poll_timeout(begin).is_some());
    assert!(backend.pass(begin + Duration::from_secs(19)).is_empty());
    assert_eq!(backend.pass(begin + Duration::from_secs(20))[0].to.health, Health::Up);
    assert_eq!(backend.poll_timeout(begin), None);
}

#[test]
fn with_too_few_healthy_all_are_used_if_so_ordered() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules { fail_open: 50, ..Rules::default() }, [1, 1, 1]);
    backend.observe(0, bad(), now);
    assert_eq!(open_for(&backend, RoleWanted::Any, now), [1, 2]);
    backend.observe(1, bad(), now);
    assert_eq!(open_for(&backend, RoleWanted::Any, now), [0, 1, 2]);
    assert!(open_for(&backend, RoleWanted::Primary, now).is_empty());
}

/// The sessions that these changes end, each passed on at once.
fn ended(
    backend: &mut Backend,
    server: usize,
    outcome: Result<Seen, String>,
    second: u64,
) -> Vec<Ended> {
    let changes = backend.observe(server, outcome, Instant::now() + Duration::from_secs(second));
    backend.ended_by(&changes)
}

#[test]
fn a_primary_keeps_its_sessions_while_another_server_reports_the_role() {
    let rules =
        |on_conflict| Rules { on_role_change: OnChange::Fence, on_conflict, ..Rules::default() };
    let of_primary = |ended: &[Ended]| ended.iter().any(|ended| ended.server == 0);
    let mut first = Backend::new(rules(OnConflict::First), [1, 1]);
    ended(&mut first, 0, role(Role::Primary), 0);
    ended(&mut first, 1, role(Role::Replica), 0);
    assert!(!of_primary(&ended(&mut first, 1, role(Role::Primary), 1)));

    // The role of a server that is still down is not used, nor that of one in maintenance.
    let mut rising = Backend::new(rules(OnConflict::Newest), [1, 1, 1]);
    ended(&mut rising, 0, role(Role::Primary), 0);
    ended(&mut rising, 1, bad(), 0);
    assert!(!of_primary(&ended(&mut rising, 1, role(Role::Primary), 1)));
    rising.set_admin(2, Admin::Maint, "");
    assert!(!of_primary(&ended(&mut rising, 2, role(Role::Primary), 1)));

    let mut stop = Backend::new(rules(OnConflict::Stop), [1, 1]);
    ended(&mut stop, 0, role(Role::Primary), 0);
    assert!(of_primary(&ended(&mut stop, 1, role(Role::Primary), 1)), "no session writes");
}

#[test]
fn a_primary_that_comes_back_is_not_the_newest() {
    let rules = Rules { on_conflict: OnConflict::Newest, rise: 1, fall: 1, ..Rules::default() };
    let mut backend = Backend::new(rules, [1, 1]);
    let at = |second| Instant::now() + Duration::from_secs(second);
    backend.observe(0, role(Role::Primary), at(0));
    backend.observe(1, role(Role::Replica), at(0));
    backend.observe(0, bad(), at(1));
    backend.observe(1, role(Role::Primary), at(2));
    backend.observe(0, role(Role::Primary), at(3));
    assert_eq!(open_for(&backend, RoleWanted::Primary, at(3)), [1]);
}

#[test]
fn a_new_primary_ends_the_sessions_of_the_old_one_though_it_is_silent() {
    let now = Instant::now();
    let rules = Rules {
        on_down: OnChange::Drain,
        on_role_change: OnChange::Fence,
        fall: 1,
        ..Rules::default()
    };
    let mut backend = Backend::new(rules, [1, 1]);
    backend.observe(0, role(Role::Primary), now);
    backend.observe(1, role(Role::Replica), now);
    let lost = backend.observe(0, bad(), now);
    let (any, primary) = (RoleWanted::Any, RoleWanted::Primary);
    let down = Ended { server: 0, role: any, how: Ending::Drain, why: Reason::Down };
    assert_eq!(backend.ended_by(&lost), [down]);
    let promoted = backend.observe(1, role(Role::Primary), now);
    let ended = backend.ended_by(&promoted);
    let why = Reason::Demoted;
    let fenced = Ended { server: 0, role: primary, how: Ending::Fence, why };
    assert!(ended.contains(&fenced), "{ended:?}");
    assert!(!ended.iter().any(|ended| ended.server == 1 && ended.role == primary), "{ended:?}");
}

proptest! {
    /// Whatever happens, at most one server is the primary unless its claim is the only one.
    #[test]
    fn never_two_primaries(
        events in prop::collection::vec((0..4usize, 0..5u8), 0..200),
        newest: bool,
    ) {
        let now = Instant::now();
        let on_conflict = if newest { OnConflict::Newest } else { OnConflict::Stop };
        let mut backend = Backend::new(Rules { on_conflict, ..Rules::default() }, [1; 4]);
        for (step, (server, event)) in (0u64..).zip(events) {
            let now = now + Duration::from_secs(step);
            match event {
                0 => backend.observe(server, role(Role::Primary), now),
                1 => backend.observe(server, role(Role::Replica), now),
                2 => backend.observe(server, bad(), now),
                3 => backend.set_admin(server, Admin::Maint, ""),
                _ => backend.set_admin(server, Admin::Ready, ""),
            };
            let primaries = open_for(&backend, RoleWanted::Primary, now);
            prop_assert!(primaries.len() <= 1, "{primaries:?}");
            for index in primaries {
                let state = backend.state(index).unwrap();
                prop_assert!(state.role == Role::Primary && state.admin == Admin::Ready);
                prop_assert!(state.health != Health::Down && (newest || !state.in_conflict));
            }
        }
    }
}

#[test]
fn a_server_without_address_takes_nothing_and_begins_anew_when_it_has_one() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules { fail_open: 50, ..Rules::default() }, [10, 10]);
    let changes = backend.moved(0, false, "no address");
    assert_eq!(
        (changes[0].to.health, changes[0].to.to_string()),
        (Health::Absent, "absent".into())
    );
    backend.moved(1, false, "no address");
    assert!(open_for(&backend, RoleWanted::Any, now).is_empty(), "nothing to fail open to");
    assert!(backend.observe(0, bad(), now).is_empty(), "a check of an address that is gone");
    assert_eq!(backend.moved(0, true, "resolved")[0].to.health, Health::Up);
    backend.observe(0, role(Role::Primary), now);
    assert_eq!(open_for(&backend, RoleWanted::Primary, now), [0]);
    backend.set_admin(0, Admin::Drain, "");
    backend.set_weight(0, Some(5));
    backend.named(0, Some(7), false);
    assert_eq!(backend.weight(0), 5, "an order counts before the name");
    backend.moved(0, true, "resolved");
    let state = backend.state(0).unwrap();
    assert_eq!((state.role, state.admin), (Role::Unknown, Admin::Drain), "orders stay");
    backend.observe(0, bad(), now);
    assert_eq!(backend.state(0).unwrap().health, Health::Down, "the first check decides alone");
}

#[test]
fn a_name_may_say_weights_and_backups() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules::default(), [1000]);
    backend.named(0, Some(250), true);
    let open = backend.eligibility(0, now);
    assert_eq!((open.weight(), open.is_backup()), (250 * WEIGHT_SCALE, true));
    assert!(open.is_open_for(RoleWanted::Any), "as a last resort");
    backend.named(0, None, false);
    assert_eq!((backend.weight(0), backend.eligibility(0, now).is_backup()), (1000, false));
}

#[test]
fn an_ejected_server_gets_no_sessions_unless_it_is_the_primary_or_too_few_are_left() {
    let now = Instant::now();
    let mut backend = Backend::new(Rules { fail_open: 50, ..Rules::default() }, [1, 1, 1]);
    backend.observe(0, role(Role::Primary), now);
    for replica in [1, 2] {
        backend.observe(replica, role(Role::Replica), now);
    }
    let open = |backend: &Backend, index, role| backend.eligibility(index, now).is_open_for(role);
    let changes = backend.set_ejected(1, true, "resets");
    assert_eq!((changes.len(), changes[0].to.to_string()), (1, "up replica ejected".to_owned()));
    assert!(!open(&backend, 1, RoleWanted::Any) && !open(&backend, 1, RoleWanted::Replica));
    assert!(backend.ended_by(&changes).is_empty(), "its sessions go on");
    backend.set_ejected(0, true, "resets");
    assert!(open(&backend, 0, RoleWanted::Primary), "no other server is primary");
    assert!(open(&backend, 0, RoleWanted::Any) && open(&backend, 1, RoleWanted::Any), "fail_open");
    backend.set_ejected(0, false, "back");
    assert!(open(&backend, 0, RoleWanted::Any) && !open(&backend, 1, RoleWanted::Any));
}

/// States computed in one round of checks of this many servers, all of which fail and come back.
fn steps_of(servers: usize) -> usize {
    let now = Instant::now();
    let slow_start = Some(Duration::from_secs(20));
    let rules = Rules { rise: 1, fall: 1, fail_open: 50, slow_start, ..Rules::default() };
    let mut backend = Backend::new(rules, vec![1; servers]);
    let before = STEPS.get();
    for outcome in [ok, bad, ok] {
        for server in 0..servers {
            let changes = backend.observe(server, outcome(), now);
            backend.ended_by(&changes);
            for updated in backend.take_updated() {
                backend.eligibility(updated, now);
            }
        }
        backend.pass(now);
    }
    STEPS.get() - before
}

#[test]
fn the_work_of_checks_grows_with_the_servers_and_not_with_their_square() {
    let (small, large) = (steps_of(1000), steps_of(2000));
    assert!(small > 1000, "{small}");
    assert!(large <= small * 3, "{small} steps for 1000 servers, {large} for 2000");
}

proptest! {
    /// The incrementally updated state equals one that is computed from all servers.
    #[test]
    fn a_tally_is_never_wrong(
        events in prop::collection::vec((0..4usize, 0..9u8), 0..100),
        on_conflict in prop::sample::select(
            vec![OnConflict::Stop, OnConflict::Newest, OnConflict::First],
        ),
    ) {
        let slow_start = Some(Duration::from_secs(5));
        let rules = Rules { on_conflict, fail_open: 50, rise: 1, fall: 1, slow_start, ..Rules::default() };
        let mut backend = Backend::new(rules, [1; 4]);
        let mut known: Vec<_> = (0..4).map(|i| backend.state(i).unwrap()).collect();
        let begin = Instant::now();
        let mut now = begin;
        let mut published: Vec<_> = (0..4).map(|i| backend.eligibility(i, now)).collect();
        backend.take_updated();
        for (server, event) in events {
            now += Duration::from_secs(1);
            let mut changes = match event {
                0 | 1 => backend.observe(server, role(Role::Primary), now),
                2 => backend.observe(server, role(Role::Replica), now),
                3 => backend.observe(server, bad(), now),
                4 => backend.set_admin(server, Admin::Maint, ""),
                5 => backend.set_admin(server, Admin::Ready, ""),
                6 => backend.set_ejected(server, true, ""),
                7 => backend.moved(server, false, ""),
                _ => backend.moved(server, true, ""),
            };
            changes.extend(backend.pass(now));
            for change in changes {
                prop_assert_eq!(known[change.server], change.from);
                known[change.server] = change.to;
            }
            for index in backend.take_updated() {
                published[index] = backend.eligibility(index, now);
            }
            let mut tally = Tally::default();
            for (index, server) in backend.servers.iter().enumerate() {
                tally.replace(index, Part::default(), server.part());
            }
            prop_assert_eq!(tally.whole(&backend.servers, &rules, backend.whole.timeline), backend.whole);
            for index in 0..4 {
                prop_assert_eq!(backend.state(index).unwrap(), known[index]);
                prop_assert_eq!(backend.eligibility(index, now), published[index]);
            }
        }
    }
}

#[test]
fn a_newer_configuration_keeps_what_is_known_of_servers_that_stay() {
    let mut older = Backend::new(Rules { fall: 1, ..Rules::default() }, [1, 1, 1]);
    let now = Instant::now();
    older.observe(0, Ok(Seen::default()), now);
    older.observe(1, Err("refused".into()), now);
    older.set_admin(2, Admin::Drain, "an operator");
    older.set_weight(0, Some(9));
    older.set_weight(2, Some(7));
    let followed = |before, weight, moved| Followed { before, weight, moved };
    let servers = [
        followed(None, 1, false),
        followed(Some(2), 1, false),
        followed(Some(1), 1, false),
        followed(Some(0), 2, false),
    ];
    let mut newer = Backend::follow(&older, Rules::default(), true, &servers);
    let health = |backend: &Backend, index| backend.state(index).unwrap().health;
    assert_eq!(
        [1, 2, 3].map(|index| health(&newer, index)),
        [Health::Up, Health::Down, Health::Up]
    );
    assert_eq!(newer.state(1).unwrap().admin, Admin::Drain);
    assert_eq!(
        [1, 3].map(|index| newer.weight(index)),
        [7, 2],
        "an order holds until the file changes"
    );
    let is_open =
        |backend: &Backend, index| backend.eligibility(index, now).is_open_for(RoleWanted::Any);
    assert!(!is_open(&newer, 0), "the new one waits for its first check");
    newer.observe(0, Ok(Seen::default()), now);
    assert!(is_open(&newer, 0) && is_open(&newer, 3) && !is_open(&newer, 2));

    let alone = Backend::follow(&older, Rules::default(), true, &[followed(None, 1, false)]);
    assert!(is_open(&alone, 0), "there is no other server");
    let elsewhere = [followed(Some(0), 1, true), followed(Some(2), 1, false)];
    let mut newer = Backend::follow(&older, Rules::default(), true, &elsewhere);
    assert!(!is_open(&newer, 0), "what is known is about the old address");
    newer.observe(0, Err("refused".into()), now);
    assert!(!is_open(&newer, 0), "its first check decides alone");
}
