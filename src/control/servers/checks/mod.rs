//! Active checks: every server is checked periodically for its health, role and lag.
//!
//! One task per server on the control thread, which follows the server to its current address. A
//! check is bounded in time; its result goes to `servers`, which draws the conclusions. It connects
//! as sessions do (`destination`), its time stands still while the process is paused (`awake`), and
//! checks of databases log in each time, unless they keep a connection (`kept`). Not here: any
//! decision, and the passive view that shards have of servers. Invariants: at most one check of a
//! server is under way; checks of many servers are spread over time. One file per kind.

mod agent;
mod awake;
mod destination;
mod exec;
mod http;
mod kept;
mod mysql;
mod postgres;
mod redis;
mod shortage;
mod tcp;
mod tls;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::machine::Address;
use ringlane_core::prng::Prng;
use ringlane_health::Seen;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout_at};

use self::destination::Destination;
use super::tasks::{Task, Tasks};
use super::{Servers, blocking};
use crate::config::{Check, Kind, Secret, Watch, credential_file};
use kept::Kept;

/// The first checks of a backend's servers are spread over this time at most.
const FIRST_SPREAD: Duration = Duration::from_secs(1);

/// A check starts up to this share of its interval early or late, in percent.
const JITTER: u64 = 5;

/// Checks begin at multiples of this time, or of a hundredth of their interval: so a wake-up of the
/// thread does for several of thousands of servers, which halves what each of them costs.
const TICK_MAX: Duration = Duration::from_millis(10);

/// The shortest pause between two steps of a server that warms up.
const WARMING_STEP_MIN: Duration = Duration::from_millis(10);

/// Bytes that a server may answer in one check; a longer answer is cut there.
const ANSWER_MAX: usize = 64 * 1024;

/// How long the end of a session in order may take, beside the checks.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// Begins to check the servers of all backends that want it. Needs a tokio runtime around it.
pub(in crate::control) fn begin(tasks: &mut Tasks, servers: &Arc<Servers>, watches: &[Watch]) {
    let origin = Instant::now();
    for (id, watch) in (0..).map(BackendId).zip(watches) {
        if watch.rules.slow_start.is_some() {
            tasks.start(Task::Warming(id), warm(Arc::clone(servers), id));
        }
        let Some(check) = &watch.check else { continue };
        let count = servers.snapshot().backend(id).server_count;
        for (nth, server) in (0..count).zip(servers.snapshot().ids_of(id)) {
            let first = match servers.since_check(server) {
                // Of a configuration before.
                Some(since) => check.interval.saturating_sub(since),
                None => check.interval.min(FIRST_SPREAD) * nth / count,
            };
            let own = watch.addresses.get(nth as usize).cloned().flatten();
            let work = watch_one(Arc::clone(servers), server, check.clone(), own, origin, first);
            tasks.start(Task::Check(server), work);
        }
    }
}

/// Lets the weights of warming servers grow.
async fn warm(servers: Arc<Servers>, backend: BackendId) {
    loop {
        match servers.pass(backend) {
            Some(next) => sleep(next.max(WARMING_STEP_MIN)).await,
            None => servers.warming(backend).await,
        }
    }
}

/// Checks one server until it is stopped: the first time after `first`, then on ticks counted from
/// `origin`.
async fn watch_one(
    servers: Arc<Servers>,
    id: ServerId,
    check: Check,
    own: Option<Address>,
    origin: Instant,
    first: Duration,
) {
    let mut prng = Prng::new(RandomState::new().hash_one(id));
    let mut probe = Probe::of(&check);
    let snapshot = servers.snapshot();
    let name = snapshot.full_name(id);
    let backend_id = snapshot.server(id).backend;
    let backend = snapshot.backend(backend_id);
    sleep(first).await;
    let mut checked = None;
    loop {
        let moved = servers.moved(id);
        let Some(address) = servers.address(id) else {
            moved.await;
            continue;
        };
        if checked.as_ref() != Some(&address) {
            probe = Probe::of(&check);
            checked = Some(address.clone());
        }
        let destination = Destination::new(&check, backend, &address, own.as_ref());
        let begin = Instant::now();
        let ended = awake::within(check.timeout, probe.run(&name, &destination)).await;
        let outcome =
            ended.outcome.unwrap_or_else(|| Err(destination.gave_up(check.timeout)).into());
        if outcome.seen.is_err() && ended.paused {
            // The process was paused during the check: it is repeated before it counts.
            continue;
        }
        servers.check_times(backend_id).record(begin.elapsed());
        if outcome.seen.is_err() && destination.is_exhausted() {
            // Nothing was learnt of the server.
            let why = without_number(&outcome.seen.err().unwrap_or_default());
            shortage::warn(&name, &why);
            servers.check_impossible(id, why);
            sleep(check.interval).await;
            continue;
        }
        if servers.address(id) != checked {
            // The server has moved during the check: the result is about its old address.
            continue;
        }
        let seen = outcome.seen.map_err(|why| without_number(&why));
        servers.observe(id, seen, outcome.certificate_days);
        let changing = servers.is_changing(id);
        let interval = if changing { check.fast_interval } else { check.interval };
        let percent = 100 - JITTER + prng.below(2 * JITTER + 1);
        let next = begin + interval * u32::try_from(percent).unwrap_or(100) / 100;
        let next = origin + on_tick(next - origin, interval);
        let _ = timeout_at(next, has_moved(&servers, id, checked.as_ref())).await;
        if awake::overslept(next) {
            // All other checks became due during the pause as well, so they are spread again.
            let spread = check.interval.min(FIRST_SPREAD);
            let share = u32::try_from(prng.below(100)).unwrap_or(0);
            sleep(spread * share / 100).await;
        }
    }
}

/// The first tick at or after a time.
fn on_tick(time: Duration, interval: Duration) -> Duration {
    let tick = (interval / 100).min(TICK_MAX).as_nanos().max(1);
    let ticks = time.as_nanos().div_ceil(tick);
    Duration::from_nanos(u64::try_from(ticks * tick).unwrap_or(u64::MAX))
}

/// Completes when a server's address is no longer this one.
async fn has_moved(servers: &Servers, id: ServerId, there: Option<&Address>) {
    loop {
        let moved = servers.moved(id);
        if servers.address(id).as_ref() != there {
            return;
        }
        moved.await;
    }
}

/// What one check found.
struct Outcome {
    /// What the server reported about itself; otherwise a phrase for operators.
    seen: Result<Seen, String>,
    /// Days that the certificate has left which it showed, if it did.
    certificate_days: Option<i64>,
}

impl From<Result<Seen, String>> for Outcome {
    fn from(seen: Result<Seen, String>) -> Self {
        Self { seen, certificate_days: None }
    }
}

/// How a server is checked, and what is kept from one check to the next.
enum Probe<'a> {
    Tcp(&'a [crate::config::Step]),
    Http(&'a crate::config::Http),
    Tls(&'a crate::config::Tls, Option<u32>),
    Exec(&'a [String]),
    Agent(&'a [u8], Duration),
    Mysql(Kept<'a, mysql::Session>),
    Postgres(postgres::Probe<'a>),
    Redis(Kept<'a, redis::Session>),
}

impl<'a> Probe<'a> {
    fn of(check: &'a Check) -> Self {
        match &check.kind {
            Kind::Tcp(steps) => Self::Tcp(steps),
            Kind::Http(http) => Self::Http(http),
            Kind::Tls(tls, min_days) => Self::Tls(tls, *min_days),
            Kind::Exec(command) => Self::Exec(command),
            Kind::Agent(send) => Self::Agent(send, check.timeout),
            Kind::Mysql(login) => Self::Mysql(Kept::new(login)),
            Kind::Postgres(login) => Self::Postgres(postgres::Probe::new(login)),
            Kind::Redis(login) => Self::Redis(Kept::new(login)),
        }
    }

    async fn run(&mut self, name: &str, destination: &Destination) -> Outcome {
        match self {
            Self::Tcp(steps) => tcp::check(steps, destination).await.into(),
            Self::Http(http) => http::check(http, destination).await,
            Self::Tls(tls, min_days) => tls::check(tls, *min_days, destination).await,
            Self::Exec(command) => exec::check(command, name, destination).await.into(),
            Self::Agent(send, time) => agent::check(send, destination, *time).await.into(),
            Self::Mysql(probe) => probe.check(destination).await.into(),
            Self::Postgres(probe) => probe.check(destination).await.into(),
            Self::Redis(probe) => probe.check(destination).await.into(),
        }
    }
}

/// A connection to a server.
trait Connection: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Connection for T {}

/// The text of an error, without its number.
fn plain(error: &io::Error) -> String {
    without_number(&error.to_string()).to_lowercase()
}

/// What an operator reads has no use for the number that Rust puts behind an error of the system.
fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or(text).to_owned()
}

/// What a stranger sent, fit for a log line: one line, printable, not long.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim_start().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// The password itself.
async fn reveal(secret: &Secret, destination: &Destination) -> Result<String, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => first_line(path, destination).await,
        Secret::Credential(name) => first_line(&credential_file(name)?, destination).await,
        Secret::Variable(name) => std::env::var(name)
            .map_err(|_| format!("environment variable {name} with the password is not set")),
    }
}

/// The first line of a file with a password.
async fn first_line(path: &Path, destination: &Destination) -> Result<String, String> {
    let cannot = |why| format!("cannot read the password from {}: {why}", path.display());
    let bytes = read_file(path, destination).await.map_err(cannot)?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| cannot("not UTF-8".to_owned()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What a file holds that a check needs; one that does not answer in time is named.
async fn read_file(path: &Path, destination: &Destination) -> Result<Arc<[u8]>, String> {
    destination.waits_for(Some(path));
    let bytes = blocking::read_file(path).await;
    destination.waits_for(None);
    bytes.map_err(|error| destination.text(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_begin_on_ticks_that_cost_no_more_than_a_hundredth_of_the_interval() {
        let millis = Duration::from_millis;
        for (time, interval, tick) in [
            (0, 2000, 0),
            (2001, 2000, 2010),
            (2010, 2000, 2010),
            (7, 100, 7),
            (95_123, 60_000, 95_130),
        ] {
            assert_eq!(
                on_tick(millis(time), millis(interval)),
                millis(tick),
                "{time} of {interval}"
            );
        }
        assert_eq!(on_tick(millis(5), Duration::from_nanos(1)), millis(5));
    }
}
