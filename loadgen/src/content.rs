//! What streams carry: bytes that both sides can compute, so that every one can be compared.
//!
//! A stream's content repeats after a prime number of bytes, so that a piece which arrives in the
//! wrong place (a lost, doubled or swapped buffer of any usual size) differs from what belongs
//! there; the seed tells streams apart.

use std::ops::Range;
use std::rc::Rc;

use monoio::buf::{IoBuf, Slice};

use crate::random::Random;

/// Bytes written or read at once.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Bytes after which the content repeats.
const PERIOD: usize = 65_537;

/// The content of one stream. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Content(Rc<Vec<u8>>);

impl Content {
    /// The content that belongs to `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut bytes = Vec::with_capacity(PERIOD + CHUNK + 8);
        while bytes.len() < PERIOD {
            bytes.extend(random.next().to_le_bytes());
        }
        bytes.truncate(PERIOD);
        bytes.extend_from_within(..CHUNK - 1);
        Self(Rc::new(bytes))
    }

    /// The `length` bytes (a chunk at most) that belong at `offset`, to be lent to the kernel.
    pub(crate) fn piece(&self, offset: u64, length: usize) -> Slice<Rc<Vec<u8>>> {
        Rc::clone(&self.0).slice(Self::range(offset, length))
    }

    fn range(offset: u64, length: usize) -> Range<usize> {
        let begin = (offset % PERIOD as u64) as usize;
        begin..begin + length.min(CHUNK)
    }

    /// The same bytes, to be looked at.
    pub(crate) fn bytes(&self, offset: u64, length: usize) -> &[u8] {
        &self.0[Self::range(offset, length)]
    }

    /// Whether `bytes` (a chunk at most) are what belongs at `offset`.
    pub(crate) fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        self.bytes(offset, bytes.len()) == bytes
    }
}

/// What a stream says before a source answers: how many bytes of which content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Order {
    /// Bytes to send; `u64::MAX` for as long as anybody listens.
    pub(crate) bytes: u64,
    /// Of the content with this seed.
    pub(crate) seed: u64,
}

/// What a sink answers when a stream has ended, with the same shape as an [`Order`]: how many bytes
/// arrived, and their XXH3 sum.
pub(crate) type Receipt = Order;

/// Bytes of an order on the wire.
pub(crate) const ORDER_SIZE: usize = 16;

impl Order {
    /// As it goes over the wire.
    pub(crate) fn encode(self) -> Vec<u8> {
        [self.bytes.to_be_bytes(), self.seed.to_be_bytes()].concat()
    }

    /// From the wire; `None` if the length is wrong.
    pub(crate) fn decode(wire: &[u8]) -> Option<Self> {
        let (bytes, seed) = wire.split_first_chunk::<8>()?;
        Some(Self {
            bytes: u64::from_be_bytes(*bytes),
            seed: u64::from_be_bytes(seed.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_where_it_belongs_and_nowhere_near() {
        let content = Content::new(7);
        for offset in [0, 1, 65_536, 65_537, 1 << 40] {
            let bytes = content.bytes(offset, CHUNK).to_vec();
            assert_eq!(bytes.len(), CHUNK);
            assert!(content.matches(offset, &bytes));
            assert!(content.matches(offset + 100, &bytes[100..]), "it goes on");
            for wrong in [1, 512, 4096, 16_384, 65_536] {
                assert!(!content.matches(offset + wrong, &bytes), "{offset} + {wrong}");
            }
            assert!(!Content::new(8).matches(offset, &bytes), "another stream's");
        }
    }

    #[test]
    fn orders_survive_the_wire() {
        let order = Order { bytes: 5, seed: u64::MAX - 1 };
        assert_eq!(Order::decode(&order.encode()), Some(order));
        assert_eq!(Order::decode(&[0; 15]), None);
    }
}
