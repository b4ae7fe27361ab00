//! Round trips of one datagram: numbered, so that a late answer is not taken for the next one's.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Socket;
use crate::flow::{HEADER, Header};
use crate::load::kept::Exchanged;
use crate::load::lane::Lane;

/// One flow.
#[derive(Debug)]
pub(in crate::load) struct Talk {
    socket: Socket,
    datagram: Vec<u8>,
    answer: Vec<u8>,
    sequence: u64,
    timeout: Duration,
}

impl Talk {
    /// That sends and expects datagrams of `size` bytes.
    pub(in crate::load) fn open(
        lane: &Rc<Lane>,
        size: usize,
        timeout: Duration,
    ) -> io::Result<Self> {
        let size = size.max(HEADER);
        Ok(Self {
            socket: Socket::open(lane)?,
            datagram: vec![b'u'; size],
            answer: vec![0; size + 1],
            sequence: 0,
            timeout,
        })
    }

    /// One round trip.
    pub(in crate::load) async fn exchange(&mut self) -> io::Result<Exchanged> {
        let header = Header { flow: 0, sequence: self.sequence, sent_ns: 0 };
        self.sequence += 1;
        header.write(&mut self.datagram);
        self.socket.send(&self.datagram).await?;
        let deadline = Instant::now() + self.timeout;
        loop {
            while let Some(size) = self.socket.take(&mut self.answer)? {
                if Header::read(&self.answer[..size]) == Some(header) {
                    let size = size as u64;
                    return Ok(Exchanged { operations: 1, sent: size, received: size });
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || monoio::time::timeout(left, self.socket.readable()).await.is_err()
            {
                let words = format!("no answer in {} ms", self.timeout.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
        }
    }
}
