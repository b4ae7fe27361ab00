//! How many descriptors the process needs, may have, and how many sessions follow from that.
//!
//! Not here: what holds the descriptors. Invariant: a balancer that started can hold
//! `max_connections` sessions without running into RLIMIT_NOFILE, so that the limit that an
//! operator meets is the one that has a counter and a queue behind it.

use std::fmt;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use ringlane_core::limits;

/// A session's two sockets.
const PER_SESSION: u64 = 2;
/// Standard streams, ring and mailbox of each shard, admin sessions, logs.
const PROCESS: u64 = 64;
/// Idle pipes of one shard, both ends.
const PIPES: u64 = 2 * limits::PIPES_IDLE as u64;

/// Sessions that the process has descriptors for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Room {
    /// Sessions at once.
    pub(super) max_connections: u32,
    /// The limit on open files that it was derived from, where none was configured.
    pub(super) derived_from: Option<u64>,
}

/// RLIMIT_NOFILE is too small and may not be raised.
#[derive(Debug, Eq, PartialEq)]
pub struct TooFewDescriptors {
    max_connections: u32,
    found: u64,
    needed: u64,
}

impl fmt::Display for TooFewDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_connections, found, needed } = self;
        write!(
            f,
            "the limit on open files is {found} (RLIMIT_NOFILE), but max_connections = \
             {max_connections} needs {needed}: raise it (LimitNOFILE={needed} in the systemd unit, \
             or `ulimit -n {needed}` in the shell that starts ringlane), or lower max_connections"
        )
    }
}

impl std::error::Error for TooFewDescriptors {}

/// Raises the soft limit to the hard one and says how many sessions fit.
///
/// `listeners` counts the listening sockets of the whole process.
pub(super) fn make_room(
    configured: Option<u32>,
    shards: usize,
    listeners: usize,
) -> Result<Room, TooFewDescriptors> {
    let mut limit = 0;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        limit = if raised { hard } else { soft };
    }
    room(configured, limit, fixed(shards, listeners))
}

/// Descriptors that are needed however many sessions there are.
fn fixed(shards: usize, listeners: usize) -> u64 {
    PROCESS + PIPES * shards as u64 + listeners as u64
}

fn room(configured: Option<u32>, limit: rlim_t, fixed: u64) -> Result<Room, TooFewDescriptors> {
    let fit = limit.saturating_sub(fixed) / PER_SESSION;
    let all = u32::try_from(fit).unwrap_or(u32::MAX).max(1);
    let max_connections = configured.unwrap_or(all);
    if u64::from(max_connections) > fit {
        let needed = fixed + PER_SESSION * u64::from(max_connections);
        return Err(TooFewDescriptors { max_connections, found: limit, needed });
    }
    Ok(Room { max_connections, derived_from: configured.is_none().then_some(limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(configured: Option<u32>, limit: u64, expected: Result<u32, (u64, u64)>) {
        let found = room(configured, limit, fixed(2, 4));
        let found = found.map(|room| room.max_connections).map_err(|e| (e.found, e.needed));
        assert_eq!(found, expected);
    }

    #[test]
    fn sessions_follow_from_the_limit_on_open_files() {
        let fixed = fixed(2, 4);
        assert_eq!(fixed, 64 + 2 * 128 + 4);
        check(None, 1024, Ok(350));
        check(None, rlim_t::MAX, Ok(u32::MAX));
        check(None, fixed + 2, Ok(1));
        check(None, fixed + 1, Err((fixed + 1, fixed + 2)));
        check(None, 0, Err((0, fixed + 2)));
        check(Some(350), 1024, Ok(350));
        check(Some(351), 1024, Err((1024, 1026)));
        check(Some(u32::MAX), rlim_t::MAX, Ok(u32::MAX));
    }

    #[test]
    fn only_a_derived_number_names_its_source() {
        let found = |configured| room(configured, 1024, 24).map(|room| room.derived_from);
        assert_eq!(found(None), Ok(Some(1024)));
        assert_eq!(found(Some(500)), Ok(None));
    }

    #[test]
    fn the_sentence_names_both_numbers_and_the_way_out() {
        let error = room(Some(10_000), 1024, 324).unwrap_err().to_string();
        for part in ["is 1024", "max_connections = 10000", "LimitNOFILE=20324", "ulimit -n 20324"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
