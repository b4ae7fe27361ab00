//! `kind = "tcp"`: connect, and say and hear what the steps say.

use ringlane_core::health::Seen;
use ringlane_core::snapshot::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ANSWER_MAX, connect, plain, printable};
use crate::config::Step;

pub(super) async fn check(steps: &[Step], address: &Address) -> Result<Seen, String> {
    let mut connection = connect(address).await?;
    // Bytes that no step has claimed yet.
    let mut heard: Vec<u8> = Vec::new();
    for step in steps {
        match step {
            Step::Send(bytes) => connection
                .write_all(bytes)
                .await
                .map_err(|error| format!("{address} takes nothing: {}", plain(&error)))?,
            Step::Expect(bytes) => loop {
                if let Some(at) = heard.windows(bytes.len()).position(|part| part == bytes) {
                    heard.drain(..at + bytes.len());
                    break;
                }
                let read = connection.read_buf(&mut heard).await;
                let read = read.map_err(|error| format!("{address}: {}", plain(&error)))?;
                if read == 0 || heard.len() > ANSWER_MAX {
                    let (expected, heard) = (printable(bytes), printable(&heard));
                    return Err(format!("answers \"{heard}\", expected \"{expected}\""));
                }
            },
        }
    }
    Ok(Seen::default())
}
