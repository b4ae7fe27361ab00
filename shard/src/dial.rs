//! One attempt to connect to one server, and what its failure means.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::counters::Cause;
use ringlane_core::ids::ServerId;
use ringlane_core::machine::reactor::{Elapsed, Stream};
use ringlane_core::machine::sys::{ConnectOptions, is_refusal};
use ringlane_core::settings::Backend;

use crate::generation::Generation;
use crate::trail::Seeker;
use crate::waiting::Waiting;

/// The pause before a unix socket is tried again whose queue is full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// Why an attempt to connect failed.
pub(crate) enum Failure {
    /// The server refused, or did not answer in time.
    Server(Cause),
    /// This machine ran out of descriptors or memory: no other server would help.
    Exhausted,
    /// This machine has no port or route left towards the server, or refuses what is configured.
    Impossible,
}

/// One attempt to connect to a server, counted.
pub(crate) async fn attempt(
    seeker: &Seeker<'_>,
    id: ServerId,
    waiting: &Waiting<'_, '_>,
) -> Result<Stream, Failure> {
    let generation: &Generation = seeker.generation;
    let gauge = generation.server(id);
    let counters = generation.counters().server(id);
    let deadline = generation.now() + seeker.timeout;
    let dialled = waiting.timeout_at(deadline, dial_patiently(generation, id, seeker.known.client));
    let cause = match dialled.await {
        Ok(Ok(stream)) => {
            gauge.answered();
            counters.sessions.add(1);
            return Ok(stream);
        }
        Ok(Err(error)) if is_exhausted(&error) => {
            counters.connects_impossible.add(1);
            return Err(Failure::Exhausted);
        }
        Ok(Err(error)) if is_local(&error) => {
            counters.connects_impossible.add(1);
            return Err(Failure::Impossible);
        }
        Ok(Err(_)) => Cause::Server,
        Err(Elapsed) => {
            counters.connects_timed_out.add(1);
            Cause::ServerTimeout
        }
    };
    counters.connects_failed.add(1);
    gauge.failed(generation.now_ms());
    Err(Failure::Server(cause))
}

/// Connects to a server for a client. A unix socket whose queue is full refuses for the moment: as
/// with TCP, where the kernel waits, the connect waits.
async fn dial_patiently(
    generation: &Generation,
    id: ServerId,
    client: Option<SocketAddr>,
) -> io::Result<Stream> {
    loop {
        match dial(generation, id, client).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                generation.reactor().sleep(BACKLOG_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Connects to a server for a client, whether the server takes sessions or not.
///
/// # Errors
/// The system's, or `NotConnected` for a server without an address.
pub async fn dial(
    generation: &Generation,
    id: ServerId,
    client: Option<SocketAddr>,
) -> io::Result<Stream> {
    let Backend { congestion, tcp, source, .. } = generation.backend_of(id);
    let options = ConnectOptions { congestion, tcp, source, client };
    // It has just lost its address, or the message with a new one has not come yet.
    let address = generation.address(id).ok_or(io::ErrorKind::NotConnected)?;
    Stream::connect(generation.reactor(), &address, &options).await
}

/// Whether this machine has no source address, port or route left for a connection, or refuses what
/// the configuration sets on its socket. An unreachable host is none of them: a server whose
/// machine is off is reported like that.
fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, NetworkUnreachable};
    is_refusal(error) || matches!(error.kind(), AddrInUse | AddrNotAvailable | NetworkUnreachable)
}

/// Whether this machine ran out of descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOMEM, ENOBUFS of Linux.
    matches!(error.raw_os_error(), Some(24 | 23 | 12 | 105))
}
