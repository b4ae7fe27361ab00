//! Servers that are configured by DNS name: their addresses follow DNS while they serve.
//!
//! One task per entry on the control thread resolves the name repeatedly and passes changes on to
//! `servers`, which sends them to the shards. `ringlane_health::addresses` decides what an answer
//! means. Not here: the lookup itself (`dns`). Invariants: a name that can't be resolved prevents
//! neither the start nor service; each change is logged once, one line per server, and of several
//! failures in a row the first.

mod dns;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringlane_core::ids::ServerId;
use ringlane_core::settings::Snapshot;
use ringlane_health::addresses::{Addresses, Answer, Found, of_srv};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::Servers;
use super::tasks::{Task, Tasks};
use crate::config::{Lookup, Name, Resolver};
use crate::control::log;
use dns::{Answered, Dns, Memory, Unresolved};

/// How long a start waits for first answers. Later answers are used when they arrive.
const START_WAIT: Duration = Duration::from_secs(5);

/// One entry that is configured by name.
#[derive(Debug)]
pub struct Followed {
    /// The name, and the servers that get their addresses from it.
    pub lookup: Lookup,
    /// What has come of it.
    pub state: Arc<NameState>,
}

/// What has come of following one entry; goes on from one configuration to the next.
#[derive(Debug)]
pub struct NameState {
    /// Questions.
    pub resolutions: AtomicU64,
    /// Lookups that failed.
    pub failures: AtomicU64,
    /// Slots that have an address.
    pub addresses: AtomicU32,
    slots: Mutex<Addresses>,
}

/// All entries that are configured by name.
#[derive(Debug)]
pub struct Names {
    followed: Vec<Followed>,
    /// By server: the entry that gives it its address, if it has one.
    of_server: Vec<Option<usize>>,
}

impl Names {
    /// For a configuration with this number of servers.
    pub(in crate::control) fn new(lookups: Vec<Lookup>, servers: usize, hold: Duration) -> Self {
        let followed = |lookup| Followed::new(lookup, hold);
        Self::of_all(lookups.into_iter().map(followed).collect(), servers)
    }

    /// For a newer configuration: entries that stay as they are keep their addresses. Also gives
    /// the servers whose address came from an entry that is not the same any more.
    pub(in crate::control) fn follow(
        &self,
        before: &Snapshot,
        snapshot: &Snapshot,
        lookups: Vec<Lookup>,
        hold: Duration,
    ) -> (Self, HashSet<ServerId>) {
        let older: HashMap<_, _> =
            self.followed.iter().map(|one| (key(before, &one.lookup), one)).collect();
        let mut renamed = HashSet::new();
        let followed = lookups.into_iter().map(|lookup| {
            let same = older.get(&key(snapshot, &lookup)).filter(|one| {
                (&one.lookup.name, one.lookup.slots, one.lookup.weight)
                    == (&lookup.name, lookup.slots, lookup.weight)
            });
            match same.map(|one| Arc::clone(&one.state)) {
                Some(state) => Followed { lookup, state },
                None => {
                    let first = lookup.first.0;
                    renamed.extend((first..first + lookup.slots).map(ServerId));
                    Followed::new(lookup, hold)
                }
            }
        });
        (Self::of_all(followed.collect(), snapshot.servers.len()), renamed)
    }

    fn of_all(followed: Vec<Followed>, servers: usize) -> Self {
        let mut of_server = vec![None; servers];
        for (nth, Followed { lookup, .. }) in followed.iter().enumerate() {
            let first = lookup.first.0 as usize;
            of_server[first..first + lookup.slots as usize].fill(Some(nth));
        }
        Self { followed, of_server }
    }

    /// The name that gives a server its address; `None` for one that is configured by address.
    pub(in crate::control) fn of(&self, id: ServerId) -> Option<&Name> {
        let nth = self.of_server[id.0 as usize]?;
        Some(&self.followed[nth].lookup.name)
    }

    /// All entries.
    pub(in crate::control) fn all(&self) -> &[Followed] {
        &self.followed
    }
}

/// What an entry is recognised by in other configurations.
fn key<'a>(snapshot: &'a Snapshot, lookup: &'a Lookup) -> (&'a str, &'a str) {
    let backend = snapshot.backend(snapshot.server(lookup.first).backend);
    (&backend.name, &lookup.entry)
}

impl Followed {
    /// Nothing resolved yet.
    fn new(lookup: Lookup, hold: Duration) -> Self {
        let slots = Addresses::new(lookup.slots as usize, hold, Instant::now());
        let state = NameState {
            resolutions: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            addresses: AtomicU32::new(0),
            slots: Mutex::new(slots),
        };
        Self { lookup, state: Arc::new(state) }
    }
}

impl NameState {
    fn slots(&self) -> MutexGuard<'_, Addresses> {
        // Nothing that panics is called with it held.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Descriptors that resolving this many names may take at once.
pub(in crate::control) fn sockets(names: usize) -> usize {
    // Both families of a name are queried at once.
    (2 * names).min(dns::QUERIES_MAX) * dns::SOCKETS_PER_QUERY
}

/// What names resolved to before they were followed, by their place among all.
pub(in crate::control) type FirstAnswers = HashMap<usize, Answered<Found>>;

/// Resolves once each name that has never been resolved, for at most [`START_WAIT`]. Needs a tokio
/// runtime around it.
pub(in crate::control) async fn ask_first(names: &Names, resolver: &Resolver) -> FirstAnswers {
    let dns = Arc::new(Dns::new(resolver.clone()));
    let mut asking = JoinSet::new();
    for (nth, followed) in names.all().iter().enumerate() {
        if followed.state.resolutions.load(Ordering::Relaxed) > 0 {
            continue;
        }
        let (dns, lookup) = (Arc::clone(&dns), followed.lookup.clone());
        asking.spawn(async move { (nth, resolve(&dns, &lookup, &mut Memory::new()).await) });
    }
    let mut answers = FirstAnswers::new();
    let all = async {
        while let Some(answer) = asking.join_next().await {
            answers.extend(answer);
        }
    };
    let _ = timeout(START_WAIT, all).await;
    answers
}

/// Starts to follow all names, with first answers where there are some. Needs a tokio runtime
/// around it.
pub(in crate::control) fn begin(
    tasks: &mut Tasks,
    names: &Arc<Names>,
    servers: &Arc<Servers>,
    resolver: &Resolver,
    mut first: FirstAnswers,
) {
    let dns = Arc::new(Dns::new(resolver.clone()));
    for (nth, followed) in names.all().iter().enumerate() {
        let mut follower = Follower {
            names: Arc::clone(names),
            servers: Arc::clone(servers),
            nth,
            dns: Arc::clone(&dns),
            hold: resolver.hold,
            memory: Memory::new(),
            is_failing: false,
            left_over: 0,
        };
        if let Some(answer) = first.remove(&nth) {
            follower.take_answer(answer);
        }
        tasks.start(Task::Name(followed.lookup.first), follower.follow());
    }
}

/// The present answer of DNS.
async fn resolve(dns: &Arc<Dns>, lookup: &Lookup, memory: &mut Memory) -> Answered<Found> {
    match &lookup.name {
        Name::Addresses { name, port } => {
            let (ips, valid_for) = dns.addresses(name, memory).await?;
            let found = |ip| Found { address: (ip, *port).into(), weight: None, backup: false };
            Ok((ips.into_iter().map(found).collect(), valid_for))
        }
        Name::Srv(name) => {
            let (records, valid_for) = dns.srv(name, memory).await?;
            Ok((of_srv(&records, lookup.weight), valid_for))
        }
    }
}

/// One entry's task.
struct Follower {
    names: Arc<Names>,
    servers: Arc<Servers>,
    /// Which of the names.
    nth: usize,
    dns: Arc<Dns>,
    hold: Duration,
    memory: Memory,
    /// The last lookup brought no address, and that was logged.
    is_failing: bool,
    /// Addresses without a slot, as last logged.
    left_over: usize,
}

impl Follower {
    /// Resolves the name until it is stopped.
    async fn follow(mut self) {
        loop {
            let ask_at = self.state().slots().ask_at();
            sleep_until(ask_at.into()).await;
            let lookup = &self.names.followed[self.nth].lookup;
            let answer = resolve(&self.dns, lookup, &mut self.memory).await;
            self.take_answer(answer);
        }
    }

    /// Gives the servers what an answer changes.
    fn take_answer(&mut self, answer: Answered<Found>) {
        let state = Arc::clone(self.state());
        state.resolutions.fetch_add(1, Ordering::Relaxed);
        let present = state.slots().present();
        let (answer, why) = self.take(answer, present);
        self.publish(&mut state.slots(), answer, &why);
    }

    fn state(&self) -> &Arc<NameState> {
        &self.followed().state
    }

    fn followed(&self) -> &Followed {
        &self.names.followed[self.nth]
    }

    /// Logs what is new about the answer, while `present` slots have an address; returns it with
    /// the reason for the changes that it causes.
    fn take(&mut self, answer: Answered<Found>, present: usize) -> (Answer, String) {
        let lookup = &self.names.followed[self.nth].lookup;
        let (name, full_name) = (lookup.name.asked(), self.full_name());
        let (answer, why) = match answer {
            Ok((found, valid_for)) => {
                if self.is_failing {
                    self.is_failing = false;
                    log::info(format_args!("server {full_name}: {name} resolves again"));
                }
                return (Answer::Found(found, valid_for), format!("{name} resolved"));
            }
            Err(Unresolved::Empty(why)) => (Answer::Empty, why),
            Err(Unresolved::Failed(why)) => {
                self.state().failures.fetch_add(1, Ordering::Relaxed);
                (Answer::Failed, why)
            }
        };
        if !self.is_failing {
            self.is_failing = true;
            let hold = self.hold;
            let then = match (&answer, present) {
                (_, 0) => "no server is available until it resolves".to_owned(),
                (Answer::Failed, _) => {
                    "its last addresses stay in use until it resolves".to_owned()
                }
                _ => format!("its last addresses stay in use for {hold:?}"),
            };
            let text = format!("server {full_name}: {name} cannot be resolved ({why}); {then}");
            log::warning(format_args!("{text}"));
        }
        (answer, format!("{name} has no address: {why}"))
    }

    /// Gives what has moved to the servers.
    fn publish(&mut self, addresses: &mut Addresses, answer: Answer, why: &str) {
        let lookup = &self.names.followed[self.nth].lookup;
        let (first, servers) = (lookup.first, &self.servers);
        let is_empty = matches!(answer, Answer::Empty);
        let moved = addresses.take(answer, Instant::now());
        for moved in &moved {
            let id = ServerId(first.0 + moved.slot as u32);
            match moved.to {
                Some(found) => servers.set_address(id, Some(found), why),
                None if is_empty => servers.set_address(id, None, why),
                None => {
                    let gone = format!("{} no longer lists this address", lookup.name.asked());
                    servers.set_address(id, None, &gone);
                }
            }
        }
        let present = u32::try_from(addresses.present()).unwrap_or(u32::MAX);
        self.state().addresses.store(present, Ordering::Relaxed);
        let left_over = addresses.left_over();
        if left_over > self.left_over {
            let (full_name, slots) = (self.full_name(), lookup.slots);
            let all = left_over + addresses.present();
            log::warning(format_args!(
                "server {full_name}: {} has {all} addresses, but slots = {slots}: raise slots to use \
                 all of them",
                lookup.name.asked(),
            ));
        }
        self.left_over = left_over;
    }

    /// `web/app`: the backend and the entry.
    fn full_name(&self) -> String {
        let lookup = &self.followed().lookup;
        let snapshot = self.servers.snapshot();
        let backend = snapshot.backend(snapshot.server(lookup.first).backend);
        format!("{}/{}", backend.name, lookup.entry)
    }
}
