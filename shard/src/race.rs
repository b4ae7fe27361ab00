//! Two connects at once: a second server is tried beside one that is slow to accept, and the first
//! that accepts gets the session.

use std::pin::pin;

use ringlane_core::machine::reactor::{First, Stream, first};
use ringlane_core::settings::RaceAfter;

use crate::choose::{choose_beside, remember};
use crate::dial::{Failure, attempt};
use crate::seat::Seat;
use crate::trail::Seeker;
use crate::waiting::Waiting;

/// Connects to the server of this seat, or to another one if that is faster; the seat at the one
/// that lost is given back.
pub(crate) async fn race(
    seeker: &Seeker<'_>,
    seat: Seat,
    after: RaceAfter,
    waiting: &Waiting<'_, '_>,
) -> Result<(Stream, Seat), Failure> {
    let generation = seeker.generation;
    let mut slow = pin!(attempt(seeker, seat.server(), waiting));
    let after = match after {
        RaceAfter::Time(time) => Some(time),
        RaceAfter::P95 => generation.gauges().common.connect_p95(),
    };
    let Some(after) = after else { return Ok((slow.await?, seat)) };
    if let First::Left(outcome) = first(slow.as_mut(), generation.reactor().sleep(after)).await {
        return Ok((outcome?, seat));
    }
    let second = choose_beside(seeker, seat.server()).and_then(|id| Seat::take(generation, id));
    let Some(second) = second else { return Ok((slow.await?, seat)) };
    let mut other = pin!(attempt(seeker, second.server(), waiting));
    let (won, stream) = match first(slow.as_mut(), other.as_mut()).await {
        First::Left(Ok(stream)) => (false, stream),
        First::Right(Ok(stream)) => (true, stream),
        First::Left(Err(_)) => (true, other.await?),
        First::Right(Err(_)) => (false, slow.await?),
    };
    if !won {
        return Ok((stream, seat));
    }
    generation.counters().server(second.server()).races_won.add(1);
    remember(seeker, second.server());
    Ok((stream, second))
}
