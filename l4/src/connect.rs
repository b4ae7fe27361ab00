//! From an accepted client to a connected server: choose, connect, and on failure choose again.
//!
//! The first choice may have to wait its turn (`queue`). Every server gets one attempt while another
//! is left; when all have failed the session waits a moment for another to come up and then begins
//! again, in line with all others where there is a queue, else for as long as the connect timeout
//! lasts. With `race_after` a second server is tried beside one that is slow to
//! accept; the first to accept gets the session. A server that this machine has no port or route left
//! for, or whose socket options the kernel refuses, is passed over and not held against the server; if
//! no other is left, or descriptors or memory ran out, the session ends.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringlane_core::balance::{self, View};
use ringlane_core::counters::{Cause, Close, Phase};
use ringlane_core::ids::ServerId;
use ringlane_core::machine::reactor::{Elapsed, First, Stream, first};
use ringlane_core::machine::sys::{ConnectOptions, is_refusal};
use ringlane_core::settings::{Backend, RaceAfter};

use crate::queue;
use crate::session::Account;
use crate::shard::Shard;
use crate::waiting::{Left, Waiting};

/// Attempts that a session makes in all, as HAProxy's default `retries 3`.
const CONNECT_ATTEMPTS: u32 = 4;

/// Servers that a session passes over since this machine can't connect to them: more would only
/// confirm it. Then the session ends (`RC`).
const PASSED_OVER_MAX: u32 = 64;

/// Times that a session chooses anew since the server that it chose has become full.
const TAKE_ATTEMPTS: usize = 8;

/// The pause after every server has failed once, as in HAProxy.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked in that pause whether there is another server by now.
const RETRY_LOOK: Duration = Duration::from_millis(50);

/// Connects a session to a server of its frontend's backend, which the account then occupies, unless
/// its client leaves before.
pub(crate) async fn connect(
    account: &mut Account,
    waiting: &Waiting<'_, '_>,
) -> Result<Stream, Close> {
    let connected = waiting.unless_gone(connect_in_turn(account, waiting)).await;
    connected.unwrap_or_else(|Left| Err(Close { cause: Cause::Client, phase: account.phase }))
}

async fn connect_in_turn(
    account: &mut Account,
    waiting: &Waiting<'_, '_>,
) -> Result<Stream, Close> {
    let shard = Rc::clone(&account.shard);
    let timeout = account.frontend().timeout.connect;
    let mut tried: Vec<ServerId> = Vec::new();
    let mut id = queue::occupy(account, waiting).await?;
    account.phase = Phase::Connect;
    let until = shard.reactor.now() + timeout;
    // Attempts that reached a server and failed, and why the last one did.
    let (mut failed, mut last_cause) = (0, None);
    let mut passed_over = 0;
    loop {
        let race_after = shard.snapshot.backend(account.route().0).race_after;
        let outcome = match race_after {
            None => attempt_one(&shard, id, (account.client(), timeout), waiting).await,
            Some(after) => shard.reactor.brief(race(account, id, (timeout, after), waiting)).await,
        };
        match outcome {
            Ok(server) => {
                account.connected();
                return Ok(server);
            }
            Err(Failure::Exhausted) => {
                account.failed(id);
                return Err(Close::connect(Cause::Resource));
            }
            Err(Failure::Impossible) => passed_over += 1,
            Err(Failure::Server(cause)) => (failed, last_cause) = (failed + 1, Some(cause)),
        }
        account.failed(id);
        tried.push(id);
        if failed == CONNECT_ATTEMPTS || passed_over == PASSED_OVER_MAX {
            return Err(Close::connect(last_cause.unwrap_or(Cause::Resource)));
        }
        id = match take(account, &tried) {
            Some(id) => id,
            None => {
                // This machine can't connect to any.
                let cause = last_cause.ok_or(Close::connect(Cause::Resource))?;
                // Boxed, as most sessions never get here.
                let again = begin_again(account, &tried, (cause, until), waiting);
                let id = Box::pin(again).await?;
                account.phase = Phase::Connect;
                tried.clear();
                id
            }
        };
        account.retries += 1;
    }
}

/// Takes a place when every server has failed, the last one for this cause: at another one as soon as
/// there is one, such as a replica that is promoted, and after a pause at any, in line with all others.
async fn begin_again(
    account: &mut Account,
    tried: &[ServerId],
    (cause, until): (Cause, Instant),
    waiting: &Waiting<'_, '_>,
) -> Result<ServerId, Close> {
    let shard = Rc::clone(&account.shard);
    let has_queue = shard.gauges.queue(account.route().0).is_some();
    let resume = shard.reactor.now() + RETRY_PAUSE;
    if resume > until && !has_queue {
        return Err(Close::connect(cause));
    }
    waiting.watch();
    while shard.reactor.now() < resume {
        shard.reactor.sleep(RETRY_LOOK).await;
        // Who is in line came later.
        if let Some(id) = take(account, tried) {
            return Ok(id);
        }
    }
    if has_queue {
        return queue::occupy(account, waiting).await;
    }
    take(account, &[]).ok_or_else(|| Close::connect(cause))
}

enum Failure {
    /// The server refused, or did not answer in time.
    Server(Cause),
    /// This machine ran out of descriptors or memory: no other server would help.
    Exhausted,
    /// This machine has no port or route left towards the server, or refuses what is configured.
    Impossible,
}

/// Connects to the server that the account occupies, or to another one that it then occupies, if that
/// is faster.
async fn race(
    account: &mut Account,
    id: ServerId,
    (timeout, after): (Duration, RaceAfter),
    waiting: &Waiting<'_, '_>,
) -> Result<Stream, Failure> {
    let shard = Rc::clone(&account.shard);
    let how = (account.client(), timeout);
    let mut slow = pin!(attempt_one(&shard, id, how, waiting));
    let after = match after {
        RaceAfter::Time(time) => Some(time),
        RaceAfter::P95 => shard.gauges.connect_p95(),
    };
    let Some(after) = after else { return slow.await };
    if let First::Left(outcome) = first(slow.as_mut(), shard.reactor.sleep(after)).await {
        return outcome;
    }
    let Some(second) = Second::take(&shard, choose(&shard, account, &[id])) else {
        return slow.await;
    };
    let mut other = pin!(attempt_one(&shard, second.id, how, waiting));
    let (won, stream) = match first(slow.as_mut(), other.as_mut()).await {
        First::Left(Ok(stream)) => (false, stream),
        First::Right(Ok(stream)) => (true, stream),
        First::Left(Err(_)) => (true, other.await?),
        First::Right(Err(_)) => (false, slow.await?),
    };
    if won {
        shard.counters().server(second.id).races_won.add(1);
        let (id, begun) = second.keep();
        account.move_to(id, begun);
    }
    Ok(stream)
}

/// A place at the second server of a race, given back on drop.
struct Second<'a> {
    shard: &'a Shard,
    id: ServerId,
    /// Words on ending sessions so far.
    begun: u32,
    kept: bool,
}

impl<'a> Second<'a> {
    /// The place at this server, if there is one and it has room.
    fn take(shard: &'a Shard, id: Option<ServerId>) -> Option<Self> {
        let id = id.filter(|id| shard.gauges.server(*id).try_enter())?;
        Some(Self { shard, id, begun: shard.endings.said(), kept: false })
    }

    /// The place is somebody else's now.
    fn keep(mut self) -> (ServerId, u32) {
        self.kept = true;
        (self.id, self.begun)
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.shard.leave_server(self.id);
        }
    }
}

/// Connects to a server for a client, with no word on whether it should be.
pub(crate) async fn dial(
    shard: &Shard,
    id: ServerId,
    client: Option<SocketAddr>,
) -> io::Result<Stream> {
    let backend = shard.snapshot.backend(shard.snapshot.server(id).backend);
    let Backend { congestion, tcp, source, .. } = backend;
    let options = ConnectOptions { congestion, tcp, source, client };
    // It has just lost its address, or the news of it has not come yet.
    let address = shard.address(id).ok_or(io::ErrorKind::NotConnected)?;
    Stream::connect(&shard.reactor, &address, &options).await
}

async fn attempt_one(
    shard: &Shard,
    id: ServerId,
    (client, timeout): (Option<SocketAddr>, Duration),
    waiting: &Waiting<'_, '_>,
) -> Result<Stream, Failure> {
    let gauge = shard.gauges.server(id);
    let counters = shard.counters().server(id);
    let deadline = shard.reactor.now() + timeout;
    let dialled = waiting.timeout_at(deadline, dial(shard, id, client));
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
        Ok(Err(error)) if is_ours(&error) => {
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
    gauge.failed(shard.gauges.millis(shard.reactor.now()));
    Err(Failure::Server(cause))
}

/// Takes a place at a server that has not been tried; `None` when there is none.
pub(crate) fn take(account: &mut Account, tried: &[ServerId]) -> Option<ServerId> {
    let shard = Rc::clone(&account.shard);
    // Once is enough, unless other shards take the last places at the same moment.
    for _ in 0..TAKE_ATTEMPTS {
        let id = choose(&shard, account, tried)?;
        if account.try_enter_server(id) {
            return Some(id);
        }
    }
    None
}

/// Chooses a server that has not been tried; `None` when all have, or none has room. A client that is
/// remembered gets its server again while that takes sessions.
fn choose(shard: &Shard, account: &Account, tried: &[ServerId]) -> Option<ServerId> {
    let (backend, role) = account.route();
    let settings = shard.snapshot.backend(backend);
    let first = settings.first_server.0;
    let now_ms = shard.gauges.millis(shard.reactor.now());
    let id_of = |index: usize| ServerId(first + u32::try_from(index).unwrap_or(u32::MAX));
    let view = |index: usize| {
        let id = id_of(index);
        let gauge = shard.gauges.server(id);
        let orders = gauge.eligibility();
        View {
            sessions: gauge.sessions(),
            weight: orders.weight(),
            rate: gauge.rate(),
            measured: gauge.measured(),
            open: orders.is_open_for(role),
            usable: gauge.is_usable(now_ms),
            tried: tried.contains(&id),
            backup: orders.is_backup_for(role),
        }
    };
    let key_by = |kind| balance::key(kind, account.known());
    let key = if settings.balance.is_by_hash() { key_by(settings.hash) } else { 0 };
    let choose = || {
        let index = shard.choose((backend, role), view, key)?;
        let gauge = shard.gauges.server(id_of(index));
        // A server whose time-out is over gets one trial; who comes second chooses again.
        let trial_is_lost = gauge.is_usable(now_ms) && !gauge.claim(now_ms);
        if trial_is_lost { shard.choose((backend, role), view, key) } else { Some(index) }
    };
    let Some(table) = shard.gauges.affinity(backend) else { return choose().map(id_of) };
    let counters = shard.counters().affinity(backend);
    let key = key_by(table.affinity().key);
    // One that is drained, or of weight 0, gets no new clients and keeps those that it has, as with
    // HAProxy's stick tables.
    let keeps = |index: usize| {
        let (id, gauge) = (id_of(index), shard.gauges.server(id_of(index)));
        let has_place = gauge.is_usable(now_ms) && !gauge.is_full();
        gauge.eligibility().keeps_for(role) && has_place && !tried.contains(&id)
    };
    let claims = |index: usize| shard.gauges.server(id_of(index)).claim(now_ms);
    if let Some(index) = table.find(key, now_ms, |index| keeps(index) && claims(index)) {
        counters.hits.add(1);
        return Some(id_of(index));
    }
    counters.misses.add(1);
    let assigned = table.assign(key, choose()?, now_ms, keeps);
    counters.evictions.add(assigned.evicted.into());
    Some(id_of(assigned.server))
}

/// Whether an error says that this machine has no source address, port or route left for a connection,
/// or refuses what the configuration tells its socket. An unreachable host is none of them: a server
/// whose machine is off is reported like that.
fn is_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, NetworkUnreachable};
    is_refusal(error) || matches!(error.kind(), AddrInUse | AddrNotAvailable | NetworkUnreachable)
}

/// Whether an error says that this machine ran out of something.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOMEM, ENOBUFS of Linux.
    matches!(error.raw_os_error(), Some(24 | 23 | 12 | 105))
}
