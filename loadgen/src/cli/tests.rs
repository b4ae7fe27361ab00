//! What the command line takes and refuses.

use super::*;
use crate::schedule::Arrivals;

fn work(line: &str) -> Result<Work, String> {
    Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?.into_work()
}

fn refused(line: &str) -> String {
    work(line).unwrap_err()
}

#[test]
fn every_option_is_in_order() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn work_without_an_end_is_refused() {
    assert!(refused("x tcp-rr 127.0.0.1:1").contains("--for"));
    assert!(work("x tcp-crr 127.0.0.1:1").is_err());
    assert!(work("x tcp-rr 127.0.0.1:1 --size 0 --for 1s").is_err());
    assert!(work("x tcp-crr 127.0.0.1:1 --count 5").is_ok());
    assert!(work("x tcp-stream 127.0.0.1:1 --bytes 1g").is_ok());
}

#[test]
fn a_rate_opens_the_loop() {
    let Ok(Work::Load(plan, _)) = work("x pgsql 127.0.0.1:1 --rate 2k --arrivals poisson --for 1s")
    else {
        panic!("refused")
    };
    assert_eq!(plan.open, Some(Open { rate: 2000.0, arrivals: Arrivals::Poisson, seed: 1 }));
    let Ok(Work::Load(plan, _)) = work("x tcp-rr 127.0.0.1:1 --closed --for 1s") else {
        panic!("refused")
    };
    assert_eq!(plan.open, None);
    assert!(refused("x tcp-rr 127.0.0.1:1 --closed --rate 5 --for 1s").contains("--closed"));
    assert!(refused("x tcp-idle 127.0.0.1:1 --rate 5 --for 1s").contains("--rate"));
}

#[test]
fn a_search_takes_the_options_of_its_kind() {
    let line = "x find-max --slo p99<2ms --from 50 redis 127.0.0.1:1 --pipeline 8";
    let Ok(Work::FindMax(question, plan, _)) = work(line) else { panic!("refused") };
    assert_eq!((question.from, plan.for_), (50.0, Some(STEP)));
    assert!(matches!(plan.kind, Kind::Redis(RedisSetting { pipeline: 8, .. })));
    assert!(refused("x find-max --slo p99 tcp-rr 127.0.0.1:1").contains("p99<2ms"));
    assert!(refused("x find-max --slo p99<2ms tcp-idle 127.0.0.1:1").contains("no arrivals"));
    assert!(refused("x find-max --slo p99<2ms tcp-rr 127.0.0.1:1 --rate 5").contains("leave"));
}

#[test]
fn watched_sessions_and_datagrams_need_room_for_their_numbers() {
    let line = "x tcp-rr 127.0.0.1:1 --sessions-lost --for 1s --size";
    assert!(refused(&format!("{line} 15")).contains("between 16"));
    assert!(work(&format!("{line} 16 --stall 200ms")).is_ok());
    assert!(refused("x udp-rr 127.0.0.1:1 --for 1s --size 8").contains("between 24"));
    assert!(refused("x udp-stream 127.0.0.1:1 --for 1s").contains("--rate"));
}

#[test]
fn a_mixed_run_has_room_for_its_numbers_and_something_to_do() {
    let line = "x tcp-mixed 127.0.0.1:1 --for 1s";
    let Ok(Work::Load(plan, _)) = work(line) else { panic!("refused") };
    assert_eq!(plan.sessions, 2064);
    assert!(refused(&format!("{line} --size 15")).contains("between 16"));
    assert!(refused(&format!("{line} --stream-rate 0")).contains("--stream-rate 0"));
    let nothing = format!("{line} --sessions 0 --streams 0 --rate 0");
    assert!(refused(&nothing).contains("no load"));
    assert!(work(&format!("{line} --sessions 0 --streams 0")).is_ok());
}

#[test]
fn two_results_are_compared() {
    assert!(matches!(work("x --compare a b"), Ok(Work::Compare(..))));
    assert!(work("x --compare a").is_err());
    assert!(refused("x tcp-rr nonsense --for 1s").contains("ADDRESS:PORT"));
}
