//! How many descriptors the process needs and may have, and how many sessions that allows.
//!
//! Not here: the owners of the descriptors. Invariant: a balancer that started can hold
//! `max_connections` sessions without reaching RLIMIT_NOFILE, so that operators meet the limit that
//! has a counter and a queue.

use std::fmt;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use ringlane_core::limits;

/// A session's two sockets.
const PER_SESSION: u64 = 2;
/// Standard streams, ring and mailbox of each shard, admin sessions, logs.
const PROCESS: u64 = 64;
/// A pipe's two ends.
const PER_PIPE: u64 = 2;
/// Sessions of the example in the sentence about a limit that is too low for any.
const SESSIONS_FOR_EXAMPLE: u64 = 1000;
/// The part of all descriptors that pipes get where no number of sessions is configured.
const SHARE_OF_PIPES: u64 = 8;

/// Sessions that the process has descriptors for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) struct Room {
    /// Sessions at once.
    pub(in crate::control) max_connections: u32,
    /// Pipes that each shard may have at once; a direction beyond them is copied.
    pub(in crate::control) pipes: usize,
    /// The limit on open files that it was derived from, where none was configured.
    pub(in crate::control) derived_from: Option<u64>,
}

/// RLIMIT_NOFILE is too small and may not be raised.
#[derive(Debug, Eq, PartialEq)]
pub struct TooFewDescriptors {
    /// As configured; nothing if not even one session fits.
    max_connections: Option<u32>,
    found: u64,
    needed: u64,
}

impl fmt::Display for TooFewDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_connections, found, needed } = self;
        let Some(max_connections) = max_connections else {
            let before = needed - PER_SESSION;
            let enough = before + PER_SESSION * SESSIONS_FOR_EXAMPLE;
            return write!(
                f,
                "the limit on open files is {found} (RLIMIT_NOFILE), but {before} are needed before \
                 the first session, and {PER_SESSION} for each: raise it, for \
                 {SESSIONS_FOR_EXAMPLE} sessions to {enough} (LimitNOFILE={enough} in the systemd \
                 unit, or `ulimit -n {enough}` in the shell that starts ringlane)"
            );
        };
        write!(
            f,
            "the limit on open files is {found} (RLIMIT_NOFILE), but max_connections = \
             {max_connections} needs {needed}: raise it (LimitNOFILE={needed} in the systemd unit, \
             or `ulimit -n {needed}` in the shell that starts ringlane), or lower max_connections"
        )
    }
}

impl std::error::Error for TooFewDescriptors {}

/// Raises the soft limit to the hard one and returns how many sessions fit.
///
/// `listeners` counts the listening sockets of the whole process, and others that it may need at
/// once.
pub(in crate::control) fn make_room(
    configured: Option<u32>,
    shards: usize,
    listeners: usize,
) -> Result<Room, TooFewDescriptors> {
    let mut limit = 0;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        limit = if raised { hard } else { soft };
    }
    room(configured, limit, shards as u64, PROCESS + listeners as u64)
}

/// Divides `limit` descriptors: `fixed` for the process, the rest for sessions and pipes.
fn room(
    configured: Option<u32>,
    limit: rlim_t,
    shards: u64,
    fixed: u64,
) -> Result<Room, TooFewDescriptors> {
    let (idle, most) = (limits::PIPES_IDLE as u64, limits::PIPES_MAX as u64);
    let left = limit.saturating_sub(fixed);
    let reserved = match configured {
        Some(_) => idle,
        None => (left / (SHARE_OF_PIPES * PER_PIPE * shards)).clamp(idle, most),
    };
    let fit = left.saturating_sub(PER_PIPE * reserved * shards) / PER_SESSION;
    let all = u32::try_from(fit).unwrap_or(u32::MAX).max(1);
    let max_connections = configured.unwrap_or(all);
    let sessions = PER_SESSION * u64::from(max_connections);
    if u64::from(max_connections) > fit {
        let needed = fixed + PER_PIPE * reserved * shards + sessions;
        return Err(TooFewDescriptors { max_connections: configured, found: limit, needed });
    }
    let pipes = (left.saturating_sub(sessions) / (PER_PIPE * shards)).clamp(idle, most);
    let pipes = usize::try_from(pipes).unwrap_or(limits::PIPES_MAX);
    Ok(Room { max_connections, pipes, derived_from: configured.is_none().then_some(limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(configured: Option<u32>, limit: u64, expected: Result<(u32, usize), (u64, u64)>) {
        let found = room(configured, limit, 2, PROCESS + 4);
        let found = found.map(|r| (r.max_connections, r.pipes)).map_err(|e| (e.found, e.needed));
        assert_eq!(found, expected);
    }

    #[test]
    fn sessions_and_pipes_share_what_the_limit_on_open_files_leaves() {
        let least = PROCESS + 4 + 2 * 2 * 64;
        check(None, 1024, Ok((350, 64)));
        check(None, 20_068, Ok((8_750, 625)));
        check(None, 1_000_068, Ok((497_952, 1024)));
        check(None, least + 2, Ok((1, 64)));
        check(None, least + 1, Err((least + 1, least + 2)));
        check(None, 0, Err((0, least + 2)));
        check(Some(350), 1024, Ok((350, 64)));
        check(Some(100), 1024, Ok((100, 189)));
        check(Some(351), 1024, Err((1024, 1026)));
        check(Some(u32::MAX), rlim_t::MAX, Ok((u32::MAX, 1024)));
    }

    #[test]
    fn only_a_derived_number_names_its_source() {
        let found = |configured| room(configured, 1024, 1, 24).map(|room| room.derived_from);
        assert_eq!(found(None), Ok(Some(1024)));
        assert_eq!(found(Some(400)), Ok(None));
    }

    #[test]
    fn the_sentence_names_both_numbers_and_the_way_out() {
        let error = room(Some(10_000), 1024, 2, 68).unwrap_err().to_string();
        for part in ["is 1024", "max_connections = 10000", "LimitNOFILE=20324", "ulimit -n 20324"] {
            assert!(error.contains(part), "{error}");
        }
        let error = room(None, 64, 2, 68).unwrap_err().to_string();
        for part in ["is 64 ", "but 324 are needed before", "and 2 for each", "LimitNOFILE=2324"] {
            assert!(error.contains(part) && !error.contains("max_connections"), "{error}");
        }
    }

    #[test]
    fn tune_estimates_as_many_sessions() {
        for (limit, shards) in [(1024, 2), (4096, 1), (20_000, 2), (65_536, 16), (500_000, 64)] {
            let fits = room(None, limit, shards, PROCESS).unwrap().max_connections;
            let estimate = ringlane_tuning::sessions(limit, shards);
            assert_eq!(estimate, u64::from(fits), "{limit} {shards}");
        }
    }
}
