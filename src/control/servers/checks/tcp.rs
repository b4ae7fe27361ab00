//! `kind = "tcp"`: connects, then sends and expects the configured bytes.

use ringlane_health::Seen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::destination::Destination;
use super::{ANSWER_MAX, plain, printable};
use crate::config::Step;

pub(super) async fn check(steps: &[Step], destination: &Destination) -> Result<Seen, String> {
    let mut connection = destination.connect().await?;
    // Bytes that no step has claimed yet.
    let mut heard: Vec<u8> = Vec::new();
    for step in steps {
        match step {
            Step::Send(bytes) => connection
                .write_all(bytes)
                .await
                .map_err(|error| format!("write to {destination} failed: {}", plain(&error)))?,
            Step::Expect(bytes) => loop {
                if let Some(at) = heard.windows(bytes.len()).position(|part| part == bytes) {
                    heard.drain(..at + bytes.len());
                    break;
                }
                let read = connection.read_buf(&mut heard).await;
                let read = read.map_err(|error| format!("{destination}: {}", plain(&error)))?;
                if read == 0 || heard.len() > ANSWER_MAX {
                    let (expected, heard) = (printable(bytes), printable(&heard));
                    return Err(format!("received \"{heard}\", expected \"{expected}\""));
                }
            },
        }
    }
    Ok(Seen::default())
}
