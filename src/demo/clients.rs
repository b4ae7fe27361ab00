//! Clients that open a session, talk for a while, and open the next, for as long as they live.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Clients at once.
pub(super) const CLIENTS: usize = 32;
/// Round trips of one session.
const ROUND_TRIPS: usize = 50;
/// Bytes in each direction of a round trip.
const MESSAGE: usize = 128;
/// How long a client thinks between round trips.
const THINK: Duration = Duration::from_millis(2);
/// How long a client waits for an answer before it calls the session failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all clients have seen.
pub(super) struct Seen {
    /// Sessions that gave at least one answer.
    pub(super) opened: Cell<u64>,
    /// Sessions that never gave an answer.
    pub(super) failed: Cell<u64>,
    /// Sessions that were cut after they had given answers.
    pub(super) cut: Cell<u64>,
    /// Bytes sent and received.
    pub(super) bytes: Cell<u64>,
    /// Round trips since the last look, microseconds.
    pub(super) round_trips: RefCell<Histogram<u64>>,
}

impl Seen {
    pub(super) fn new() -> Result<Rc<Self>, hdrhistogram::CreationError> {
        Ok(Rc::new(Self {
            opened: Cell::new(0),
            failed: Cell::new(0),
            cut: Cell::new(0),
            bytes: Cell::new(0),
            round_trips: RefCell::new(Histogram::new_with_max(60_000_000, 3)?),
        }))
    }
}

/// One client, for ever.
pub(super) async fn client(frontend: SocketAddr, seen: Rc<Seen>) {
    loop {
        let mut answered = false;
        let session = session(frontend, &seen, &mut answered).await;
        let count = match (session, answered) {
            (Ok(()), _) => continue,
            (Err(_), true) => &seen.cut,
            (Err(_), false) => &seen.failed,
        };
        count.set(count.get() + 1);
        tokio::time::sleep(THINK).await;
    }
}

async fn session(frontend: SocketAddr, seen: &Seen, answered: &mut bool) -> io::Result<()> {
    let mut stream = TcpStream::connect(frontend).await?;
    stream.set_nodelay(true)?;
    let (message, mut answer) = ([7; MESSAGE], [0; MESSAGE]);
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        stream.write_all(&message).await?;
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await??;
        if answer != message {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !std::mem::replace(answered, true) {
            seen.opened.set(seen.opened.get() + 1);
        }
        seen.bytes.set(seen.bytes.get() + 2 * MESSAGE as u64);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        seen.round_trips.borrow_mut().saturating_record(micros);
        tokio::time::sleep(THINK).await;
    }
    Ok(())
}
