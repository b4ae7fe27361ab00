//! Servers that are configured by DNS name: their addresses follow DNS while they serve.
//!
//! One task per entry on the control thread resolves the name repeatedly and passes changes on to
//! `servers`, which sends them to the shards. `ringlane_health::addresses` decides what an answer
//! means. Not here: the lookup itself (`dns`). Invariants: a name that can't be resolved prevents
//! neither the start nor service; each change is logged once, one line per server, and of several
//! failures in a row the first.

mod dns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringlane_core::ids::ServerId;
use ringlane_health::addresses::{Addresses, Answer, Found, of_srv};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::Servers;
use super::tasks::{Task, Tasks};
use crate::config::{Lookup, Name, Resolver};
use crate::control::log;
use dns::{Answered, Dns, Memory, Unresolved};

/// How long a start waits for first answers. Later answers are used when they arrive.
const START_WAIT: Duration = Duration::from_secs(5);

/// What is counted of one entry.
#[derive(Debug)]
pub struct Followed {
    /// The name, and the servers that get their addresses from it.
    pub lookup: Lookup,
    /// Questions.
    pub resolutions: AtomicU64,
    /// Lookups that failed.
    pub failures: AtomicU64,
    /// Slots that have an address.
    pub addresses: AtomicU32,
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
    pub(in crate::control) fn new(lookups: Vec<Lookup>, servers: usize) -> Self {
        let mut of_server = vec![None; servers];
        for (nth, lookup) in lookups.iter().enumerate() {
            let first = lookup.first.0 as usize;
            of_server[first..first + lookup.slots as usize].fill(Some(nth));
        }
        Self { followed: lookups.into_iter().map(Followed::from).collect(), of_server }
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

impl From<Lookup> for Followed {
    /// Nothing resolved yet.
    fn from(lookup: Lookup) -> Self {
        let (resolutions, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { lookup, resolutions, failures, addresses: AtomicU32::new(0) }
    }
}

/// Descriptors that resolving this many names may take at once.
pub(in crate::control) fn sockets(names: usize) -> usize {
    // Both families of a name are queried at once.
    (2 * names).min(dns::QUERIES_MAX) * dns::SOCKETS_PER_QUERY
}

/// Starts to follow all names, and waits until each was resolved once, for at most [`START_WAIT`].
/// Needs a tokio runtime around it, which must go on afterwards.
pub(in crate::control) async fn begin(
    tasks: &mut Tasks,
    names: &Arc<Names>,
    servers: &Arc<Servers>,
    resolver: &Resolver,
) {
    let dns = Arc::new(Dns::new(resolver.clone()));
    let (asked, mut first_answers) = mpsc::channel::<()>(1);
    for (nth, followed) in names.all().iter().enumerate() {
        let follower = Follower {
            names: Arc::clone(names),
            servers: Arc::clone(servers),
            nth,
            dns: Arc::clone(&dns),
            hold: resolver.hold,
            memory: Memory::new(),
            is_failing: false,
            left_over: 0,
        };
        tasks.start(Task::Name(followed.lookup.first), follower.follow(asked.clone()));
    }
    drop(asked);
    // Nothing is ever sent: this ends when all senders are gone.
    let _ = timeout(START_WAIT, first_answers.recv()).await;
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
    /// Resolves the name until it is stopped. Drops `asked` after the first answer.
    async fn follow(mut self, asked: mpsc::Sender<()>) {
        let slots = self.followed().lookup.slots as usize;
        let mut addresses = Addresses::new(slots, self.hold, Instant::now());
        let mut asked = Some(asked);
        loop {
            sleep_until(addresses.ask_at().into()).await;
            let answer = self.resolve().await;
            self.followed().resolutions.fetch_add(1, Ordering::Relaxed);
            let (answer, why) = self.take(answer, addresses.present());
            self.publish(&mut addresses, answer, &why);
            asked.take();
        }
    }

    fn followed(&self) -> &Followed {
        &self.names.followed[self.nth]
    }

    /// The present answer of DNS.
    async fn resolve(&mut self) -> Answered<Found> {
        let Lookup { name, weight, .. } = &self.names.followed[self.nth].lookup;
        match name {
            Name::Addresses { name, port } => {
                let (ips, valid_for) = self.dns.addresses(name, &mut self.memory).await?;
                let found = |ip| Found { address: (ip, *port).into(), weight: None, backup: false };
                Ok((ips.into_iter().map(found).collect(), valid_for))
            }
            Name::Srv(name) => {
                let (records, valid_for) = self.dns.srv(name, &mut self.memory).await?;
                Ok((of_srv(&records, *weight), valid_for))
            }
        }
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
                self.followed().failures.fetch_add(1, Ordering::Relaxed);
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
        self.followed().addresses.store(present, Ordering::Relaxed);
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
