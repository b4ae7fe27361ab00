//! The pipes of one shard, leased to directions that splice.
//!
//! A pipe costs two descriptors and, for unprivileged processes, a share of a small quota
//! (`pipe-user-pages-soft`), so idle ones are kept warm and their number is bounded. Invariant:
//! only empty pipes come back; one with bytes inside is closed.

use std::cell::{Cell, RefCell};
use std::io;

use ringlane_core::limits::PIPES_IDLE;
use ringlane_core::machine::sys::Pipe;

/// The pool.
#[derive(Debug)]
pub(crate) struct Pipes {
    max: usize,
    idle: RefCell<Vec<Pipe>>,
    leased: Cell<usize>,
}

/// A place in the pool, held for as long as a direction splices.
#[derive(Debug)]
pub(crate) struct Lease<'a>(&'a Pipes);

impl Pipes {
    /// A pool of at most `max` pipes.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, idle: RefCell::default(), leased: Cell::new(0) }
    }

    /// An empty pipe; `None` when all are in use or no descriptor is left. The pipe is given back
    /// with [`Lease::give_back`], or just dropped with whatever is in it. `make` makes a new one.
    pub(crate) fn lease(
        &self,
        make: impl FnOnce() -> io::Result<Pipe>,
    ) -> Option<(Pipe, Lease<'_>)> {
        if self.leased.get() >= self.max {
            return None;
        }
        let idle = self.idle.borrow_mut().pop();
        let pipe = idle.or_else(|| make().ok())?;
        self.leased.set(self.leased.get() + 1);
        Some((pipe, Lease(self)))
    }
}

impl Lease<'_> {
    /// Keeps an empty pipe for the next direction.
    pub(crate) fn give_back(self, pipe: Pipe) {
        let mut idle = self.0.idle.borrow_mut();
        if pipe.held() == 0 && idle.len() < PIPES_IDLE {
            idle.push(pipe);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.0.leased.set(self.0.leased.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_came_back_is_used_again_and_places_are_counted() {
        let pipes = Pipes::new(2);
        let (pipe, lease) = pipes.lease(Pipe::new).unwrap();
        assert_eq!(pipes.leased.get(), 1);
        lease.give_back(pipe);
        assert_eq!((pipes.leased.get(), pipes.idle.borrow().len()), (0, 1));
        let (pipe, lease) = pipes.lease(Pipe::new).unwrap();
        assert_eq!(pipes.idle.borrow().len(), 0);
        drop((pipe, lease));
        assert_eq!((pipes.leased.get(), pipes.idle.borrow().len()), (0, 0));
    }
}
