//! One server and its check: what became of it.

use std::net::SocketAddr;

use serde_json::Value;

use super::balancer::{Ringlane, Setup};
use super::wait_until;

/// A balancer that checks one server, once its first check is over.
pub(crate) fn checked(server: SocketAddr, keys: &str) -> Ringlane {
    let check = format!("check = {{ {keys}, interval = \"50ms\", timeout = \"10s\" }}");
    let ringlane = Setup::to(&[server]).shards(1).backend(&check).start();
    wait_until("the first check", || ringlane.server_field(0, "/check") != Value::Null);
    ringlane
}

/// The state after the first check, and what it said.
pub(crate) fn verdict(server: SocketAddr, keys: &str) -> (String, String) {
    let ringlane = checked(server, keys);
    let word = |pointer| ringlane.server_field(0, pointer).as_str().unwrap().to_owned();
    let verdict = (word("/state"), word("/check/said"));
    ringlane.end();
    verdict
}

/// What checks with these keys make of a server, and words that they say, one case after the other.
#[track_caller]
pub(crate) fn all_say(server: SocketAddr, kind: &str, cases: &[(&str, &str, &str)]) {
    for (keys, state, said) in cases {
        let keys = format!("kind = {kind:?}, {keys}");
        let (found, why) = verdict(server, keys.trim_end_matches(", "));
        assert!(found == *state && why.contains(said), "{keys}: {found}, {why}");
    }
}
