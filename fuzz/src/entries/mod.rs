//! Entry points of the fuzzers: each takes any bytes and panics if a promise is broken.
//!
//! Shared by libFuzzer (fuzz/fuzz_targets) and by proptest on stable (tests/properties), which
//! includes this folder as a module. Invariant: no entry point touches the network, a file or the
//! clock, so that a failing input fails everywhere.

mod greetings;
mod relay;
mod structures;
mod text;

pub use greetings::{client_hello, mysql, postgres, proxy, redis};
pub use relay::relay;
pub use structures::{chooser, histogram, slab, wheel};
pub use text::{address, config, duration};

/// An input read as numbers; zeros when it has ended.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number of any magnitude, the small ones as likely as the large: a byte says how many
    /// bytes follow.
    fn number(&mut self) -> u64 {
        (0..self.byte() % 9).fold(0, |sum, _| sum << 8 | u64::from(self.byte()))
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }
}
