//! Round trips: a session sends `size` bytes, waits for as many, and begins again.

use std::io;

use monoio::io::{AsyncReadRentExt, AsyncWriteRentExt};

use crate::load::kept::Exchanged;
use crate::load::lane::Session;

/// An open session.
#[derive(Debug)]
pub(in crate::load) struct Talk {
    session: Session,
    buffer: Box<[u8]>,
}

impl Talk {
    /// That sends and expects `size` bytes.
    pub(in crate::load) fn new(session: Session, size: usize) -> Self {
        Self { session, buffer: vec![b'r'; size].into_boxed_slice() }
    }

    /// One round trip.
    pub(in crate::load) async fn exchange(&mut self) -> io::Result<Exchanged> {
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = round_trip(&mut self.session, buffer).await?;
        let size = self.buffer.len() as u64;
        Ok(Exchanged { operations: 1, sent: size, received: size })
    }
}

/// Sends the buffer, and fills it with what comes back. A boxed slice, because `read_exact` fills a
/// vector up to its capacity.
pub(in crate::load) async fn round_trip(
    session: &mut Session,
    buffer: Box<[u8]>,
) -> io::Result<Box<[u8]>> {
    let (sent, buffer) = session.stream.write_all(buffer).await;
    sent?;
    let (received, buffer) = session.stream.read_exact(buffer).await;
    received?;
    Ok(buffer)
}
