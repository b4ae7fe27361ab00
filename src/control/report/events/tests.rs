//! Counters in, lines out.

use ringlane_core::counters::{Ending, Reason};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::Eligibility;

use super::*;
use crate::control::log::Level;
use crate::control::report::status::tests::running;

/// A balancer, its events, and the time of the last look.
struct Story {
    traffic: Traffic,
    events: Events,
    now: Instant,
}

impl Story {
    fn begin() -> Self {
        let (traffic, now) = (running().traffic, Instant::now());
        let mut events = Events::new(&traffic, now);
        // Reports what the example's numbers already contain.
        events.look(&traffic, now);
        Self { traffic, events, now }
    }

    fn look(&mut self) -> Vec<Notice> {
        self.now += LOOK_INTERVAL;
        self.events.look(&self.traffic, self.now)
    }

    /// The sentences of the next look.
    fn lines(&mut self) -> Vec<String> {
        self.look().into_iter().map(|notice| notice.message).collect()
    }
}

#[test]
fn a_quiet_second_says_nothing() {
    let mut story = Story::begin();
    assert_eq!(story.lines(), Vec::<String>::new());
}

#[test]
fn refused_clients_are_counted_with_an_example_and_at_most_every_ten_seconds() {
    let mut story = Story::begin();
    let counters = story.traffic.counters[1].frontend(FrontendId(0)).refused_too_many.get();
    assert_eq!(counters, 0);
    let refuse = |story: &Story, count| {
        let frontend = story.traffic.counters[1].frontend(FrontendId(0));
        frontend.refused_too_many.add(count);
        frontend.last_refused.set("192.0.2.7".parse().unwrap());
    };
    refuse(&story, 3);
    let notice = story.look().remove(0);
    assert_eq!(
        notice.message,
        "frontend pg \"write\" refused 3 connections in 1 s because of per_client, for example \
         from 192.0.2.7 (in total 3 by max_connections, 0 by rate)"
    );
    let seen = (notice.level, notice.event, notice.frontend.as_deref(), notice.count);
    assert_eq!(seen, (Level::Warning, "clients_refused", Some("pg \"write\""), Some(3)));
    for _ in 0..9 {
        refuse(&story, 1);
        assert!(story.lines().is_empty());
    }
    assert!(story.lines()[0].contains(" refused 9 connections in 10 s "));
}

#[test]
fn a_backend_without_server_is_an_error_that_ends_with_the_sessions_it_cost() {
    let mut story = Story::begin();
    for id in [0, 1] {
        let closed = Eligibility::new([false; 3], 256);
        story.traffic.gauges.server(ServerId(id)).set_eligibility(closed);
    }
    assert!(story.lines().is_empty(), "perhaps only a moment");
    let notice = story.look().remove(0);
    assert_eq!((notice.level, notice.event), (Level::Error, "backend_without_server"));
    assert!(
        notice.message.starts_with("backend postgres: no usable server: of 2 servers, 2 down,")
    );
    story.traffic.counters[0].backend(BackendId(0)).unserved.add(7);
    assert!(story.lines()[0].starts_with("backend postgres: 7 sessions in 1 s failed because no"));
    let open = Eligibility::new([true; 3], 256);
    assert!(open.is_open_for(RoleWanted::Any));
    story.traffic.gauges.server(ServerId(0)).set_eligibility(open);
    assert_eq!(
        story.lines(),
        ["backend postgres: usable server again after 2 s; 7 sessions refused meanwhile"]
    );
}

#[test]
fn a_late_line_about_sessions_without_server_says_that_it_is_late() {
    let mut story = Story::begin();
    let unserved = |story: &Story| story.traffic.counters[0].backend(BackendId(0)).unserved.add(1);
    unserved(&story);
    let first = story.lines();
    assert!(!first.concat().contains("none in the last second"), "{first:?}");
    unserved(&story);
    assert!((0..9).all(|_| story.lines().is_empty()), "too early");
    let late = story.lines();
    assert!(late[0].ends_with("; none in the last second"), "{late:?}");
}

#[test]
fn a_lost_session_makes_a_moment_without_server_worth_a_line() {
    let mut story = Story::begin();
    for id in [0, 1] {
        story.traffic.gauges.server(ServerId(id)).failed(0);
        story.traffic.counters[0].server(ServerId(id)).connects_failed.add(2);
    }
    story.traffic.counters[0].backend(BackendId(0)).unserved.add(1);
    let lines = story.lines();
    assert!(lines[0].contains("0 down, drained or in another role and 2 not accepting"));
    assert!(lines[1].contains(": 1 session in 1 s failed because"), "{lines:#?}");
    assert!(lines[2].starts_with("server postgres/pg1 does not accept connections: 2 connects"));
    story.traffic.gauges.server(ServerId(0)).answered();
    story.traffic.counters[0].server(ServerId(0)).sessions.add(1);
    let lines = story.lines();
    assert!(lines[0].contains("usable server again"), "{lines:#?}");
    assert_eq!(
        lines[1..],
        ["server postgres/pg1 accepts connections again after 1 s; 2 connects failed meanwhile"]
    );
}

#[test]
fn limits_are_named_when_they_are_reached_and_when_they_are_not_any_more() {
    let mut story = Story::begin();
    let gate = story.traffic.gauges.frontend(FrontendId(0));
    (1..100).for_each(|_| assert!(gate.try_enter()));
    assert!(gate.is_full());
    story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(4);
    let line = &story.lines()[0];
    assert!(line.starts_with("frontend pg \"write\" reached max_connections = 100: "), "{line}");
    story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(2);
    let _ = story.traffic.gauges.frontend(FrontendId(0)).leave();
    assert!((0..3).all(|_| story.lines().is_empty()), "not calm yet");
    assert_eq!(
        story.lines(),
        ["frontend pg \"write\" is below max_connections = 100 again after 4 s; 6 connections \
          had to wait"]
    );
}

#[test]
fn a_limit_that_is_reached_only_between_two_looks_is_logged_with_its_count() {
    let mut story = Story::begin();
    story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(4);
    let begun = story.look().remove(0);
    let text = "frontend pg \"write\" reached max_connections = 100: new connections wait in the \
                kernel's queue (4 so far)";
    assert_eq!(
        (begun.message.as_str(), begun.event, begun.count),
        (text, "frontend_full", Some(4))
    );
    assert!((0..2).all(|_| story.lines().is_empty()), "not calm yet");
    let over = story.look().remove(0);
    assert!(over.message.ends_with("again after 3 s; 4 connections had to wait"), "{over:?}");
    assert_eq!((over.event, over.count), ("frontend_below_limit", Some(4)));
    // Too soon after the first line for another one, but counted.
    story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(7);
    assert!((0..6).all(|_| story.lines().is_empty()));
    story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(1);
    let again = story.look().remove(0);
    let text = "= 100 (and 1 more time since the last line): new connections wait in the kernel's queue \
                (8 so far)";
    assert!(again.message.ends_with(text) && again.count == Some(8), "{again:?}");
}

#[test]
fn connections_wait_for_the_process_or_for_their_frontend_and_are_counted_once() {
    let mut story = Story::begin();
    let waited = |story: &Story, count| {
        story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(count);
    };
    let process = &story.traffic.gauges.common.process;
    (0..200).for_each(|_| assert!(process.try_enter()));
    waited(&story, 4);
    let notices = story.look();
    let of_process = "the process reached max_connections = 200: new connections wait in the \
                      kernel's queue (4 so far)";
    assert_eq!(notices.len(), 1, "{notices:#?}");
    assert_eq!((notices[0].message.as_str(), notices[0].count), (of_process, Some(4)));
    let frontend = story.traffic.gauges.frontend(FrontendId(0));
    (1..100).for_each(|_| assert!(frontend.try_enter()));
    waited(&story, 2);
    let notices = story.look();
    assert_eq!((notices.len(), notices[0].event, notices[0].count), (1, "frontend_full", Some(2)));
    assert!((0..200).all(|_| !story.traffic.gauges.common.process.leave()), "no shard waits here");
    assert!((0..2).all(|_| story.lines().is_empty()), "not calm yet");
    let over = story.look().remove(0);
    let text =
        "the process is below max_connections = 200 again after 4 s; 4 connections had to wait";
    assert_eq!((over.message.as_str(), over.count), (text, Some(4)));
}

#[test]
fn sessions_that_wait_in_a_queue_are_logged_with_their_number() {
    let mut story = Story::begin();
    story.traffic.counters[0].queue(BackendId(0)).waited.add(3);
    let begun = story.look().remove(0);
    let text = "backend postgres: sessions wait in the queue for a server (size = 9; 3 so far)";
    assert_eq!((begun.message.as_str(), begun.event, begun.count), (text, "queue_used", Some(3)));
    story.traffic.counters[1].queue(BackendId(0)).waited.add(2);
    (0..3).for_each(|_| assert!(story.lines().is_empty()));
    let over = story.look().remove(0);
    let text = "backend postgres: the queue is empty again after 4 s; 5 sessions had to wait";
    assert_eq!((over.message.as_str(), over.event, over.count), (text, "queue_empty", Some(5)));
}

#[test]
fn sessions_that_a_stop_ends_are_only_in_the_line_about_the_stop() {
    let mut story = Story::begin();
    let shard = &story.traffic.counters[0];
    shard.frontend(FrontendId(0)).cut.add(2);
    shard.server(ServerId(0)).cut.add(2);
    (0..2).for_each(|_| shard.server(ServerId(0)).ended.count(Ending::Drain, Reason::Stopped));
    let now = story.now;
    let last = story.events.last_look(&story.traffic, now, "at stop");
    let lines: Vec<_> = last.iter().map(|notice| notice.message.as_str()).collect();
    assert_eq!(lines, ["2 sessions cut at stop: 2 on server postgres/pg1"]);
}

#[test]
fn ended_sessions_are_told_by_how_and_why() {
    let mut story = Story::begin();
    let server = story.traffic.counters[0].server(ServerId(0));
    (0..3).for_each(|_| server.ended.count(Ending::Fence, Reason::Demoted));
    server.ended.count(Ending::Drain, Reason::Lag);
    let notice = story.look().remove(0);
    assert_eq!(
        notice.message,
        "server postgres/pg1: 4 sessions ended in 1 s: 3 fenced because the server is no longer \
         the primary, 1 drained because the replica is too far behind"
    );
    assert_eq!((notice.level, notice.event), (Level::Warning, "sessions_ended"));
    story.traffic.counters[1].server(ServerId(0)).ended.count(Ending::Drain, Reason::Drained);
    let now = story.now;
    let last = story.events.last_look(&story.traffic, now, "at stop").remove(0);
    assert!(last.message.ends_with(": 1 drained because an operator drained the server"));
    assert_eq!(last.level, Level::Info);
}

#[test]
fn sessions_that_are_cut_are_counted_by_server_at_the_end() {
    let mut story = Story::begin();
    let shard = &story.traffic.counters[1];
    shard.frontend(FrontendId(0)).cut.add(6);
    shard.server(ServerId(0)).cut.add(2);
    shard.server(ServerId(1)).cut.add(3);
    let now = story.now;
    let last = story.events.last_look(&story.traffic, now, "at stop").remove(0);
    assert_eq!(
        last.message,
        "6 sessions cut at stop: 3 on server postgres/pg2, 2 on server postgres/pg1, 1 not yet \
         connected to a server"
    );
}

#[test]
fn each_kind_of_loss_has_a_line() {
    let mut story = Story::begin();
    let shard = &story.traffic.counters[0];
    let own = &story.traffic.shard_counters[0];
    own.accepts_failed.add(1);
    own.event_loop.buffers_exhausted.add(2);
    own.log_dropped.add(3);
    let frontend = shard.frontend(FrontendId(0));
    frontend.waited_rate.add(4);
    frontend.clients_unknown.add(5);
    frontend.loops_suspected.add(6);
    let queue = shard.queue(BackendId(0));
    queue.refused.add(7);
    queue.expired.add(8);
    shard.affinity(BackendId(0)).evictions.add(9);
    shard.backend(BackendId(0)).mirror_failed.add(10);
    shard.server(ServerId(1)).connects_impossible.add(11);
    let notices = story.look();
    let mut seen: Vec<_> = notices.iter().map(|n| (n.count.unwrap(), n.event)).collect();
    seen.sort_unstable();
    let expected = [
        (1, "accepts_failed"),
        (2, "buffers_exhausted"),
        (3, "access_log_dropped"),
        (4, "frontend_rate"),
        (5, "clients_not_counted"),
        (6, "loop_suspected"),
        (7, "queue_full"),
        (8, "queue_expired"),
        (9, "affinity_full"),
        (10, "mirror_failed"),
        (11, "connects_impossible"),
    ];
    assert_eq!(seen, expected, "{notices:#?}");
    let document = include_str!("../../../../docs/operations.md");
    for (_, event) in seen {
        assert!(document.contains(&format!("\n| `{event}` |")), "{event}");
    }
}

#[test]
fn a_paused_frontend_has_reached_no_limit() {
    let mut story = Story::begin();
    let set_max = |story: &Story, max| {
        let _ = story.traffic.gauges.frontend(FrontendId(0)).set_max(max);
    };
    set_max(&story, 0);
    story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(2);
    assert!(story.lines().is_empty());
    set_max(&story, 100);
    for _ in 0..5 {
        assert!(story.lines().is_empty());
    }
    // Those that wait afterwards have met one.
    story.traffic.counters[0].frontend(FrontendId(0)).waited_full.add(1);
    assert!(story.lines()[0].contains("reached max_connections = 100"));
}
