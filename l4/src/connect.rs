//! From an accepted client to a connected server: choose, connect, and on failure choose again.
//!
//! Every server gets one attempt while another is left; when all have failed the session waits a
//! moment and begins again, for as long as the connect timeout lasts. Errors of this machine
//! (descriptors, ports, memory) are not held against a server.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use ringlane_core::balance::View;
use ringlane_core::close::{Cause, Close};
use ringlane_core::reactor::{Elapsed, Stream};
use ringlane_core::snapshot::{BackendId, ServerId};

use crate::session::Account;
use crate::shard::Shard;

/// Attempts that a session makes in all, as HAProxy's default `retries 3`.
const CONNECT_ATTEMPTS: u32 = 4;

/// The pause after every server has failed once, as in HAProxy.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Connects a session to a server of its frontend's backend, which the account then occupies.
pub(crate) async fn connect(account: &mut Account) -> Result<Stream, Close> {
    let shard = Rc::clone(&account.shard);
    let shard = &*shard;
    let frontend = shard.snapshot.frontend(account.frontend);
    let mut tried: Vec<ServerId> = Vec::new();
    let mut cause = Cause::Server;
    for attempt in 0..CONNECT_ATTEMPTS {
        account.retries = attempt;
        let id = match choose(shard, frontend.backend, account, &tried) {
            Some(id) => id,
            None if tried.is_empty() => return Err(Close::connect(Cause::Server)),
            None => {
                tried.clear();
                let resume = shard.reactor.now() + RETRY_PAUSE;
                if resume > account.accepted() + frontend.timeout.connect {
                    return Err(Close::connect(cause));
                }
                shard.reactor.sleep_until(resume).await;
                match choose(shard, frontend.backend, account, &tried) {
                    Some(id) => id,
                    None => return Err(Close::connect(cause)),
                }
            }
        };
        account.enter_server(id);
        match attempt_one(shard, id, frontend.timeout.connect).await {
            Ok(server) => {
                account.connected();
                return Ok(server);
            }
            Err(Failure::Exhausted) => {
                account.leave_server();
                return Err(Close::connect(Cause::Resource));
            }
            Err(Failure::Server(failed)) => cause = failed,
        }
        account.leave_server();
        tried.push(id);
    }
    Err(Close::connect(cause))
}

enum Failure {
    /// The server refused, or did not answer in time.
    Server(Cause),
    /// This machine has no descriptor or memory for another connection.
    Exhausted,
}

async fn attempt_one(shard: &Shard, id: ServerId, timeout: Duration) -> Result<Stream, Failure> {
    let server = shard.snapshot.server(id);
    let congestion = &shard.snapshot.backend(server.backend).congestion;
    let gauge = shard.gauges.server(id);
    let counters = shard.counters().server(id);
    let deadline = shard.reactor.now() + timeout;
    let connect = Stream::connect(&shard.reactor, &server.address, congestion);
    let cause = match shard.reactor.timeout_at(deadline, connect).await {
        Ok(Ok(stream)) => {
            gauge.answered();
            counters.sessions.add(1);
            return Ok(stream);
        }
        Ok(Err(error)) if is_exhausted(&error) => return Err(Failure::Exhausted),
        Ok(Err(error)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            // No source port left towards this server: another one may have some.
            counters.connects_failed.add(1);
            return Err(Failure::Server(Cause::Resource));
        }
        Ok(Err(_)) => Cause::Server,
        Err(Elapsed) => {
            counters.connects_timed_out.add(1);
            Cause::ServerTimeout
        }
    };
    counters.connects_failed.add(1);
    gauge.failed(shard.gauges.millis(shard.reactor.now()));
    Err(Failure::Server(cause))
}

/// Chooses a server that has not been tried; `None` when all have.
fn choose(
    shard: &Shard,
    backend: BackendId,
    account: &Account,
    tried: &[ServerId],
) -> Option<ServerId> {
    let first = shard.snapshot.backend(backend).first_server.0;
    let role = shard.snapshot.frontend(account.frontend).role;
    let now_ms = shard.gauges.millis(shard.reactor.now());
    let id_of = |index: usize| ServerId(first + u32::try_from(index).unwrap_or(u32::MAX));
    let view = |index: usize| {
        let gauge = shard.gauges.server(id_of(index));
        let orders = gauge.orders();
        View {
            sessions: gauge.sessions(),
            weight: orders.weight(),
            open: orders.is_open_for(role),
            usable: gauge.is_usable(now_ms),
            tried: tried.contains(&id_of(index)),
        }
    };
    let key = account.client().map_or(0, |client| source_key(&client.ip()));
    let choose = || shard.choose(backend, view, key).map(id_of);
    let id = choose()?;
    let gauge = shard.gauges.server(id);
    // A server whose time-out is over gets one trial; who comes second chooses again.
    if gauge.is_usable(now_ms) && !gauge.claim(now_ms) { choose() } else { Some(id) }
}

/// What `source` hashes: the address without its port.
fn source_key(address: &std::net::IpAddr) -> u64 {
    match address {
        std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()),
        std::net::IpAddr::V6(v6) => {
            let [high, low] = [v6.to_bits() >> 64, v6.to_bits() & u128::from(u64::MAX)];
            // Both halves fit; the multiplication keeps them from cancelling out.
            (high as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ low as u64
        }
    }
}

/// Whether an error says that this machine ran out of something.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOMEM, ENOBUFS of Linux.
    matches!(error.raw_os_error(), Some(24 | 23 | 12 | 105))
}
