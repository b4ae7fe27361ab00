//! Clients that write and read while the primary is lost, or while there are two: PostgreSQL, Redis
//! and MariaDB in the same stories.
//!
//! Replication is asynchronous, so what the old primary acknowledged last may be lost with it: what
//! a story claims is what the replica had before, and all that was acknowledged after. Not here:
//! roles, lag and conflicts as `/status` shows them (`roles`).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::member::{CHECK, Member, all, writes_and_reads};
use crate::harness::program::{bound_to_us, find};
use crate::harness::talk::{Database, Talk};
use crate::harness::{AtEnd, heavy, pause, wait_until};

/// Writes over each session of a writer, as long as it lasts: two stay, two come and go.
const WRITERS: [usize; 4] = [usize::MAX, usize::MAX, 8, 8];

/// Reads over each session of a reader: one stays, one comes and goes.
const READERS: [usize; 2] = [usize::MAX, 1];

/// What a client does between two questions.
const THINKING: Duration = Duration::from_millis(1);

/// Many enough to have met whatever there is to be met.
const MANY: usize = 200;

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Write {
    number: u64,
    /// The port of the server that did it.
    by: u16,
    /// When the client's kernel heard of it, since the beginning of 1970.
    at: Duration,
}

/// A question of a reader, and who answered, if anybody did.
#[derive(Clone, Copy, Debug)]
struct Read {
    begun: Instant,
    ended: Instant,
    by: Option<u16>,
}

/// Writers and readers, and what they met.
struct Clients {
    database: Database,
    writes: SocketAddr,
    reads: SocketAddr,
    over: AtomicBool,
    next: AtomicU64,
    written: Mutex<Vec<Write>>,
    read: Mutex<Vec<Read>>,
}

impl Clients {
    fn of(database: Database, ringlane: &Ringlane) -> Self {
        Self {
            database,
            writes: ringlane.address(),
            reads: ringlane.binds("reads")[0].parse().unwrap(),
            over: AtomicBool::new(false),
            next: AtomicU64::new(0),
            written: Mutex::default(),
            read: Mutex::default(),
        }
    }

    /// Lets them go on while `story` does.
    fn beside(&self, readers: &[usize], story: impl FnOnce()) {
        thread::scope(|scope| {
            for per_session in WRITERS {
                scope.spawn(move || self.write(per_session));
            }
            for &per_session in readers {
                scope.spawn(move || self.read(per_session));
            }
            let _end = AtEnd(&self.over);
            story();
        });
    }

    /// A session, and the port of the server that it is with.
    fn begin(&self, address: SocketAddr) -> Option<(Talk, u16)> {
        let mut talk = Talk::try_begin(self.database, address)?;
        let port = talk.ask(self.database.who())?;
        Some((talk, port.parse().unwrap()))
    }

    /// Writes over one session after another.
    fn write(&self, per_session: usize) {
        while !self.over.load(Ordering::Relaxed) {
            let Some((mut talk, by)) = self.begin(self.writes) else { continue };
            for _ in 0..per_session {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                if talk.ask(&self.database.keep(number)).is_none() {
                    break;
                }
                self.written.lock().unwrap().push(Write { number, by, at: talk.heard() });
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                // PAUSE: the client thinks between two writes; the load is the same at any speed.
                pause(THINKING);
            }
        }
    }

    /// Reads over one session after another.
    fn read(&self, per_session: usize) {
        let mut session = None;
        let mut left = 0;
        while !self.over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            if left == 0 {
                session = Talk::try_begin(self.database, self.reads);
                left = per_session;
            }
            let port = session.as_mut().and_then(|talk| talk.ask(self.database.who()));
            let by = port.map(|port| port.parse().unwrap());
            left = if by.is_some() { left - 1 } else { 0 };
            self.read.lock().unwrap().push(Read { begun, ended: Instant::now(), by });
            // PAUSE: the client thinks between two reads.
            pause(THINKING);
        }
    }

    fn written_by(&self, member: &Member) -> Vec<Write> {
        let written = self.written.lock().unwrap();
        written.iter().filter(|write| write.by == member.address().port()).copied().collect()
    }

    fn read_between(&self, from: Instant, to: Instant) -> Vec<Read> {
        let read = self.read.lock().unwrap();
        read.iter().filter(|read| read.begun >= from && read.ended <= to).copied().collect()
    }
}

/// Numbers of writes.
fn numbers(writes: &[Write]) -> BTreeSet<u64> {
    writes.iter().map(|write| write.number).collect()
}

/// A balancer as somebody sets it up who promotes replicas beside primaries that may still answer.
fn balance(database: Database, members: &[&Member]) -> Ringlane {
    let addresses = members.iter().map(|member| member.address().to_string());
    let servers: Vec<_> = ["s1", "s2", "s3"].into_iter().zip(addresses).collect();
    let check = format!("{}, {CHECK}", database.check());
    let keys = "on_conflict = \"newest\"\non_role_change = \"fence\"\non_lag = \"fence\"\n\
                max_lag = \"2s\"\nqueue = { timeout = \"2s\" }";
    let protocol = format!("protocol = \"{}\"\nrole =", database.protocol());
    Setup::of(&writes_and_reads(&servers, &check, keys).replace("role =", &protocol)).start()
}

/// While a replica is held back nobody reads from it, and everybody from the other one.
fn read_around(clients: &Clients, ringlane: &Ringlane, primary: &Member, replica: &Member) {
    let port = Some(replica.address().port());
    let is_read =
        |since| clients.read_between(since, Instant::now()).iter().any(|read| read.by == port);
    replica.hold_back();
    wait_until("the replica to be stale", || all(ringlane, "stale") == [false, false, true]);
    let stale = Instant::now();
    let read = || clients.read_between(stale, Instant::now());
    wait_until("reads elsewhere", || read().iter().filter(|read| read.by.is_some()).count() > 50);
    let read = read();
    assert!(read.iter().all(|read| read.by != port), "{read:?}");
    replica.let_go(primary);
    wait_until("the replica to be back", || all(ringlane, "stale") == [false; 3]);
    let back = Instant::now();
    wait_until("reads from it", || is_read(back));
}

/// The primary is lost and a replica promoted: writes resume there, with all that it had, and
/// nobody reads from the replica that is left behind.
fn writes_follow(database: Database) {
    let _alone = heavy();
    let mut primary = Member::primary(database);
    let (heir, orphan) = (primary.replica(1), primary.replica(2));
    let ringlane = balance(database, &[&primary, &heir, &orphan]);
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica", "replica"]);
    wait_until("the replicas to have it all", || all(&ringlane, "stale") == [false; 3]);
    let clients = Clients::of(database, &ringlane);
    let (old, new) = (primary.address().port(), heir.address().port());
    let (mut kept, mut promoted) = (BTreeSet::new(), Duration::ZERO);
    clients.beside(&READERS, || {
        wait_until("writes", || clients.written_by(&primary).len() > MANY);
        read_around(&clients, &ringlane, &primary, &orphan);
        kept = numbers(&clients.written_by(&primary));
        wait_until("the replica to have it all", || heir.kept().is_superset(&kept));
        let lost = Instant::now();
        primary.crash();
        wait_until("the primary to be down", || all(&ringlane, "state")[0] == "down");
        let seen = lost.elapsed();
        promoted = since_1970();
        heir.promote();
        println!("{database:?}: the loss is seen after {seen:?}, promoted at {:?}", lost.elapsed());
        wait_until("writes to the new primary", || clients.written_by(&heir).len() > MANY);
        wait_until("the replica left behind to be stale", || all(&ringlane, "stale")[2] == true);
        let stale = Instant::now();
        let read = || clients.read_between(stale, Instant::now());
        wait_until("readers to be refused", || !read().is_empty());
        assert!(read().iter().all(|read| read.by.is_none()), "{:?}", read());

        // It comes back, as if nothing had happened.
        primary.start_again();
        wait_until("two primaries", || all(&ringlane, "in_conflict") == [true, true, false]);
        let so_far = clients.written_by(&heir).len();
        wait_until("more writes", || clients.written_by(&heir).len() > so_far + MANY);
    });
    let (before, after) = (clients.written_by(&primary), clients.written_by(&heir));
    let written = clients.written.lock().unwrap();
    assert!(written.iter().all(|write| [old, new].contains(&write.by)), "{written:?}");
    let last = before.iter().map(|write| write.at).max().unwrap();
    let first = after.iter().map(|write| write.at).min().unwrap();
    assert!(last < promoted && promoted < first, "{last:?}, {first:?}: not by the primary");
    println!("{database:?}: writes resume {:?} after the last", first - last);
    let has = heir.kept();
    assert!(has.is_superset(&kept) && has.is_superset(&numbers(&after)));
    let lost = numbers(&before).difference(&has).count();
    println!("{database:?}: {lost} of {} writes are lost with the primary", before.len());
    ringlane.end();
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

#[test]
fn postgresql_writes_resume_where_the_replica_was_promoted() {
    writes_follow(Database::Postgres);
}

#[test]
fn redis_writes_resume_where_the_replica_was_promoted() {
    writes_follow(Database::Redis);
}

#[test]
fn mariadb_writes_resume_where_the_replica_was_promoted() {
    writes_follow(Database::Mariadb);
}

/// A replica is promoted beside a primary that goes on as if nothing had happened.
fn one_is_written_to(database: Database) {
    let _alone = heavy();
    let old = Member::primary(database);
    let new = old.replica(1);
    let ringlane = balance(database, &[&old, &new]);
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    let clients = Clients::of(database, &ringlane);
    clients.beside(&[], || {
        wait_until("writes to the old primary", || clients.written_by(&old).len() > MANY);
        new.promote();
        wait_until("writes to the new primary", || clients.written_by(&new).len() > MANY);
    });
    let (before, after) = (clients.written_by(&old), clients.written_by(&new));
    let last = before.iter().map(|write| write.at).max().unwrap();
    let first = after.iter().map(|write| write.at).min().unwrap();
    assert!(last < first, "{:?} too late", last - first);
    println!("{database:?}: no write is acknowledged for {:?} between primaries", first - last);
    assert!(old.kept().is_superset(&numbers(&before)));
    assert!(new.kept().is_superset(&numbers(&after)));
    assert_eq!(all(&ringlane, "role"), ["primary", "primary"], "the old one still answers");
    ringlane.end();
}

#[test]
fn nobody_writes_to_an_old_postgresql_once_somebody_writes_to_the_new_one() {
    one_is_written_to(Database::Postgres);
}

#[test]
fn nobody_writes_to_an_old_redis_once_somebody_writes_to_the_new_one() {
    one_is_written_to(Database::Redis);
}

#[test]
fn nobody_writes_to_an_old_mariadb_once_somebody_writes_to_the_new_one() {
    one_is_written_to(Database::Mariadb);
}

/// A run of pgbench: four clients with a session for each write.
#[derive(Clone, Copy, Debug)]
struct Run {
    begun: Instant,
    ended: Instant,
    /// Writes that were acknowledged.
    done: usize,
    is_whole: bool,
}

/// What each client of a run writes.
const PER_CLIENT: usize = 25;

fn pgbench(address: SocketAddr, script: &Path) -> Run {
    let (port, each) = (address.port().to_string(), PER_CLIENT.to_string());
    let begun = Instant::now();
    let output = bound_to_us()
        .arg(find("pgbench", "postgresql-contrib"))
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "it", "-n", "-C", "-c", "4", "-j", "2"])
        .args(["-t", &each, "-f", path_str(script), "postgres"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // "number of transactions actually processed: 81/100"
    let done = said.lines().find_map(|line| line.split_once("actually processed: "));
    let done = done.and_then(|(_, rest)| rest.split('/').next()?.parse().ok()).unwrap_or(0);
    let is_whole = output.status.success() && done == 4 * PER_CLIENT;
    Run { begun, ended: Instant::now(), done, is_whole }
}

#[test]
fn pgbench_fails_only_between_the_loss_of_the_primary_and_the_promotion() {
    let _alone = heavy();
    let mut primary = Member::primary(Database::Postgres);
    let heir = primary.replica(1);
    let ringlane = balance(Database::Postgres, &[&primary, &heir]);
    wait_until("the roles", || all(&ringlane, "role") == ["primary", "replica"]);
    let folder = TempDir::with_prefix("ringlane-it-").unwrap();
    let script = folder.path().join("script.sql");
    let line = "\\set number random(1, 1000000000000000)\nINSERT INTO kept VALUES (:number);\n";
    std::fs::write(&script, line).unwrap();
    let (address, over, runs) = (ringlane.address(), AtomicBool::new(false), Mutex::default());
    let (mut lost, mut promoted) = (Instant::now(), Instant::now());
    let runs_since = |since: Instant| -> Vec<Run> {
        let runs: MutexGuard<'_, Vec<Run>> = runs.lock().unwrap();
        runs.iter().filter(|run| run.begun >= since).copied().collect()
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let run = pgbench(address, &script);
                runs.lock().unwrap().push(run);
            }
        });
        let _end = AtEnd(&over);
        let begun = lost;
        wait_until("some runs", || runs_since(begun).len() > 2);
        let kept = primary.kept().len();
        wait_until("one to be half way", || primary.kept().len() > kept + PER_CLIENT);
        lost = Instant::now();
        primary.crash();
        wait_until("the primary to be down", || all(&ringlane, "state")[0] == "down");
        let seen = lost.elapsed();
        heir.promote();
        println!("pgbench: the loss is seen after {seen:?}, promoted at {:?}", lost.elapsed());
        wait_until("the new primary", || all(&ringlane, "role")[1] == "primary");
        promoted = Instant::now();
        wait_until("some more runs", || runs_since(promoted).len() > 2);
    });
    println!("pgbench was without a primary for {:?}", promoted - lost);
    for run in runs.lock().unwrap().iter().filter(|run| !run.is_whole) {
        assert!(run.begun < promoted && run.ended > lost, "{run:?}");
        println!("a run over the loss wrote {} of {}", run.done, 4 * PER_CLIENT);
    }
    let after: usize = runs_since(promoted).iter().map(|run| run.done).sum();
    assert!(heir.kept().len() >= after, "what was acknowledged is there");
    ringlane.end();
}
