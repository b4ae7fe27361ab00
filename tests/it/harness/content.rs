//! Streams of bytes that can be told from each other at every place.
//!
//! A stream repeats a block of pseudo-random bytes whose length is a prime, so that no power of two
//! can be lost, doubled or moved without being seen; every byte that arrives is compared.

use std::io::{self, Read, Write};

/// Bytes in a block: a prime.
const BLOCK: usize = 262_139;

/// Bytes written or read at once at most.
const CHUNK: usize = 256 * 1024;

/// What one side of one stream says.
pub(crate) struct Content(Vec<u8>);

impl Content {
    /// The content of this number.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let words = std::iter::repeat_with(|| {
            // splitmix64
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        });
        let mut block: Vec<u8> = words.take(BLOCK.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
        block.truncate(BLOCK);
        Self(block)
    }

    /// Writes so many bytes from the beginning.
    pub(crate) fn send(&self, to: &mut impl Write, bytes: u64) -> io::Result<()> {
        let mut at = 0;
        while at < bytes {
            let piece = self.piece(at, bytes - at);
            to.write_all(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Reads to the end of the stream, which must be these bytes, so many of them.
    #[track_caller]
    pub(crate) fn expect(&self, from: &mut impl Read, bytes: u64) {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => panic!("after {at} of {bytes} bytes: {error}"),
            };
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let piece = self.piece(at, rest.len() as u64);
                let (now, later) = rest.split_at(piece.len());
                assert!(now == piece, "wrong bytes between {at} and {}", at + now.len() as u64);
                at += now.len() as u64;
                rest = later;
            }
        }
        assert_eq!(at, bytes, "the stream ended early or late");
    }

    /// At most `length` bytes at `at`, in one piece.
    fn piece(&self, at: u64, length: u64) -> &[u8] {
        let begin = usize::try_from(at % BLOCK as u64).unwrap();
        let rest = &self.0[begin..];
        &rest[..rest.len().min(usize::try_from(length).unwrap_or(usize::MAX))]
    }
}
