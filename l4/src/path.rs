//! How one direction is pumped, decided by what it carries: copy or splice.
//!
//! Told of every transfer; does no I/O. Small data is cheaper copied, bulk is cheaper spliced, and
//! what counts as bulk is a backlog: buffers that come full and leave bytes behind in the socket.
//! Invariants: `copy` is never left, and `splice` only for a receive that steps over what can't be
//! spliced; `auto` begins with copy.

use ringlane_core::limits::BUFFER_SIZE;
use ringlane_core::settings::Path;

/// Receives in a row that must leave a backlog before a direction is spliced.
const BACKLOG_RECEIVES: u16 = 3;

/// Fills in a row below a buffer's size after which a direction is copied again.
const SMALL_FILLS: u16 = 4;

/// Receives that are copied after no pipe was to be had, before one is asked for again.
const REFUSED_RECEIVES: u16 = 64;

/// The choice for one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathChoice {
    path: Path,
    /// Copying: receives in a row that left a backlog. Splicing: small fills in a row.
    streak: u16,
    /// Receives to be copied before splicing is thought of.
    refusal: u16,
}

impl PathChoice {
    pub(crate) const fn new(path: Path) -> Self {
        Self { path, streak: 0, refusal: 0 }
    }

    /// While copying: a receive came, with or without a backlog behind it.
    pub(crate) fn received(&mut self, backlog: bool) {
        self.streak = if backlog { self.streak.saturating_add(1) } else { 0 };
        self.refusal = self.refusal.saturating_sub(1);
    }

    /// While copying: whether what comes is bulk.
    pub(crate) fn is_bulk(&self) -> bool {
        self.streak >= BACKLOG_RECEIVES
    }

    /// While copying: whether to splice from now on.
    pub(crate) fn wants_splice(&self) -> bool {
        let wants = match self.path {
            Path::Auto => self.is_bulk(),
            Path::Copy => false,
            Path::Splice => true,
        };
        wants && self.refusal == 0
    }

    /// It wanted to splice, and no pipe was to be had.
    pub(crate) fn refused(&mut self) {
        self.refusal = REFUSED_RECEIVES;
    }

    /// The next bytes can't be spliced, or there are none: one receive is copied, which steps over
    /// urgent data or tells the end of the stream.
    pub(crate) fn step_over(&mut self) {
        self.refusal = self.refusal.max(1);
    }

    /// The direction begins to be spliced, or goes back to being copied.
    pub(crate) fn switched(&mut self) {
        self.streak = 0;
    }

    /// While splicing: so many bytes came at once.
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.streak = if bytes < BUFFER_SIZE { self.streak.saturating_add(1) } else { 0 };
    }

    /// While splicing, with nothing to move: whether to copy from now on.
    pub(crate) fn wants_copy(&self) -> bool {
        self.may_copy() && self.streak >= SMALL_FILLS
    }

    /// Whether this direction may ever be copied.
    pub(crate) fn may_copy(&self) -> bool {
        self.path != Path::Splice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_leads_to_splice_and_small_fills_lead_back() {
        let mut choice = PathChoice::new(Path::Auto);
        for backlog in [true, true, false, true, true] {
            choice.received(backlog);
            assert!(!choice.wants_splice(), "an interrupted backlog is none");
        }
        choice.received(true);
        assert!(choice.wants_splice());
        choice.switched();
        for bytes in [10, 10, 10, BUFFER_SIZE, 10, 10, 10] {
            choice.filled(bytes);
            assert!(!choice.wants_copy());
        }
        choice.filled(10);
        assert!(choice.wants_copy());
    }

    #[test]
    fn an_override_is_never_left() {
        let (mut copy, mut splice) = (PathChoice::new(Path::Copy), PathChoice::new(Path::Splice));
        assert!(splice.wants_splice());
        for _ in 0..100 {
            copy.received(true);
            splice.filled(1);
        }
        assert!(!copy.wants_splice() && !splice.wants_copy() && !splice.may_copy());
    }

    #[test]
    fn what_cannot_be_spliced_is_stepped_over_by_one_receive() {
        let mut choice = PathChoice::new(Path::Splice);
        choice.step_over();
        assert!(!choice.wants_splice());
        choice.received(false);
        assert!(choice.wants_splice());
    }

    #[test]
    fn a_pipe_that_was_refused_is_not_asked_for_with_every_receive() {
        for path in [Path::Auto, Path::Splice] {
            let mut choice = PathChoice::new(path);
            choice.refused();
            for _ in 0..REFUSED_RECEIVES {
                assert!(!choice.wants_splice());
                choice.received(true);
            }
            assert!(choice.wants_splice());
        }
    }
}
