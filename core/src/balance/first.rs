//! The first server with room, so that the others may stay idle or be switched off.
//!
//! Room is what `max_connections` of a server leaves. When all are full the least loaded for its
//! weight is picked, as by least connections.

use super::{Candidate, Member};

pub(super) fn pick(
    candidates: impl Iterator<Item = Candidate>,
    members: &[Member],
) -> Option<Candidate> {
    let mut least: Option<Candidate> = None;
    for candidate in candidates {
        if candidate.sessions < members[candidate.index as usize].max_connections {
            return Some(candidate);
        }
        if least.is_none_or(|least| candidate.is_less_loaded_than(&least)) {
            least = Some(candidate);
        }
    }
    least
}
