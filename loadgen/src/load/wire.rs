//! One connection whose answers have to be understood: bytes out, and what came in so far.

use std::io;

use bytes::BytesMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

use super::lane::Session;
use crate::content::CHUNK;

/// The most that may wait to be understood; more is not a protocol that we know.
const INPUT_MOST: usize = 64 << 20;

/// A connection and its unread input.
#[derive(Debug)]
pub(super) struct Wire {
    session: Session,
    chunk: Vec<u8>,
    pub(super) input: BytesMut,
}

impl Wire {
    /// Speaks through this session.
    pub(super) fn new(session: Session) -> Self {
        Self { session, chunk: Vec::with_capacity(CHUNK / 4), input: BytesMut::new() }
    }

    /// Sends everything; gives the buffer back.
    pub(super) async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let (sent, bytes) = self.session.stream.write_all(bytes).await;
        sent?;
        Ok(bytes)
    }

    /// Waits for more input.
    pub(super) async fn receive(&mut self) -> io::Result<usize> {
        let read;
        (read, self.chunk) = self.session.stream.read(std::mem::take(&mut self.chunk)).await;
        let read = read?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.input.len() + read > INPUT_MOST {
            return Err(crate::failure::corrupt("an answer without an end"));
        }
        self.input.extend_from_slice(&self.chunk[..read]);
        Ok(read)
    }
}
