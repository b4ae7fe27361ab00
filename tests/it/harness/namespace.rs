//! A network namespace of a story's own, so that no setting of the machine is touched.
//!
//! The story runs in a thread of its own, and what that starts is in the namespace too: threads,
//! balancers, other programs. It goes with the last of them. Only root can make one; for others the
//! story says that it was left out. Paths of /proc/net show the main thread's namespace: use
//! /proc/thread-self/net.

use std::fs;
use std::panic::resume_unwind;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::program::run;

/// Runs a story in a namespace that has a loopback interface and nothing else.
#[track_caller]
pub(crate) fn inside(story: impl FnOnce() + Send) {
    let in_there = || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => {
            ip("link set lo up");
            story();
        }
        Err(error) => eprintln!("left out: no network namespace can be made here ({error})"),
    };
    let outcome = thread::scope(|scope| scope.spawn(in_there).join());
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs `ip` with these words.
#[track_caller]
pub(crate) fn ip(words: &str) {
    run("ip", "iproute2", &words.split(' ').collect::<Vec<_>>());
}

/// Changes a setting of the namespace, given by its name below /proc/sys/net.
#[track_caller]
pub(crate) fn set(setting: &str, value: &str) {
    let path = format!("/proc/sys/net/{setting}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
}

/// One of the namespace's TCP counters (`TcpExt` of /proc/net/netstat).
#[track_caller]
pub(crate) fn tcp_counter(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both.find(|(found, _)| *found == name).unwrap();
    value.parse().unwrap()
}
