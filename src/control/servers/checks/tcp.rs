//! `kind = "tcp"`: connects, then sends and expects the configured bytes.

use ringlane_health::Seen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::destination::Destination;
use super::{ANSWER_MAX, printable};
use crate::config::Step;

pub(super) async fn check(steps: &[Step], destination: &Destination) -> Result<Seen, String> {
    let mut connection = destination.connect().await?;
    // Bytes that no step has claimed yet.
    let mut received: Vec<u8> = Vec::new();
    for step in steps {
        match step {
            Step::Send(bytes) => connection.write_all(bytes).await.map_err(|error| {
                format!("write to {destination} failed: {}", destination.text(&error))
            })?,
            Step::Expect(bytes) => loop {
                if let Some(at) = received.windows(bytes.len()).position(|part| part == bytes) {
                    received.drain(..at + bytes.len());
                    break;
                }
                let read = connection.read_buf(&mut received).await;
                let read =
                    read.map_err(|error| format!("{destination}: {}", destination.text(&error)))?;
                if read == 0 || received.len() > ANSWER_MAX {
                    let (expected, received) = (printable(bytes), printable(&received));
                    return Err(format!("received \"{received}\", expected \"{expected}\""));
                }
            },
        }
    }
    Ok(Seen::default())
}
