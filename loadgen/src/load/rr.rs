//! Round trips: a session sends `size` bytes, waits for as many, and begins again.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use monoio::io::{AsyncReadRentExt, AsyncWriteRentExt};

use super::lane::{Lane, Session};

/// The life of one session.
pub(super) async fn session(lane: Rc<Lane>, mut session: Session, size: usize) {
    let mut buffer = vec![b'r'; size].into_boxed_slice();
    while !lane.is_stopping() {
        let begin = Instant::now();
        match round_trip(&mut session, buffer).await {
            Ok(returned) => buffer = returned,
            Err(error) => return lane.failed("in a round trip with", &error),
        }
        lane.note(|report| {
            report.completed(begin.elapsed());
            report.sent += size as u64;
            report.received += size as u64;
        });
    }
}

/// Sends the buffer, and fills it with what comes back. A boxed slice, because `read_exact` fills a
/// vector up to its capacity.
pub(super) async fn round_trip(session: &mut Session, buffer: Box<[u8]>) -> io::Result<Box<[u8]>> {
    let (sent, buffer) = session.stream.write_all(buffer).await;
    sent?;
    let (received, buffer) = session.stream.read_exact(buffer).await;
    received?;
    Ok(buffer)
}
