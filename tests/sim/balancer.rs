//! The balancer of a world: its shards, stepped in turn instead of run on threads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use ringlane_core::balance::HashTable;
use ringlane_core::counters::{Counters, SessionRecord, ShardCounters};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::machine::reactor::{Reactor, Rest};
use ringlane_core::machine::sys::sim::Net;
use ringlane_core::settings::Snapshot;
use ringlane_core::shared::Gauges;
use ringlane_shard::{Installation, ListenerId, Mailbox, Message, Published, Setup};

use crate::reloads::Reloads;

/// The only listener of each shard.
const LISTENER: ListenerId = ListenerId(0);

/// Records that a shard's queue holds.
const RECORDS: usize = 4096;

/// Visits to the kernel after which everything that was dropped must be back.
const VISITS_TO_SETTLE: usize = 100;

struct Shard {
    reactor: Reactor,
    rest: Rest,
    log: Arc<ArrayQueue<SessionRecord>>,
}

impl Shard {
    /// It has ended: everything must be given back.
    fn settle(&self, index: usize) -> Result<(), String> {
        for _ in 0..VISITS_TO_SETTLE {
            if self.reactor.lent() == (0, 0) {
                break;
            }
            self.reactor.settle().map_err(|error| error.to_string())?;
        }
        let (operations, buffers) = self.reactor.lent();
        let timers = self.reactor.timers();
        let stale = self.reactor.counters().completions_stale.get();
        if (operations, buffers, timers, stale) == (0, 0, 0, 0) {
            return Ok(());
        }
        Err(format!(
            "shard {index} ended with {operations} operations, {buffers} buffers and {timers} \
             timers, and met {stale} completions of nobody"
        ))
    }
}

/// The shards and what they share.
pub(crate) struct Balancer {
    shards: Vec<Shard>,
    pub(crate) reloads: Reloads,
    pub(crate) gauges: Arc<Gauges>,
    mailboxes: Arc<[Mailbox]>,
    /// Connections on their way to a shard that was stopped.
    pub(crate) lost_in_mail: u64,
}

impl Balancer {
    pub(crate) fn start(
        net: &Net,
        shards: usize,
        snapshot: Arc<Snapshot>,
        gauges: Arc<Gauges>,
        frontend: SocketAddr,
    ) -> Result<Self, String> {
        let mailboxes: Result<Vec<_>, _> = (0..shards).map(|_| Mailbox::new()).collect();
        let mailboxes: Arc<[Mailbox]> = mailboxes.map_err(|error| error.to_string())?.into();
        let log = || Arc::new(ArrayQueue::new(RECORDS));
        let published = Published {
            counters: (0..shards).map(|_| Counters::new(&snapshot)).collect(),
            logs: (0..shards).map(|_| log()).collect(),
            owners: Arc::new(HashMap::from([(LISTENER, FrontendId(0))])),
            gauges: Arc::clone(&gauges),
            tables: HashTable::of_all(&snapshot, None),
            snapshot,
        };
        let reloads = Reloads::new(published);
        let mut balancer = Self { shards: Vec::new(), reloads, gauges, mailboxes, lost_in_mail: 0 };
        for index in 0..shards {
            let shard = balancer.start_shard(net, index, frontend);
            balancer.shards.push(shard.map_err(|error| error.to_string())?);
        }
        Ok(balancer)
    }

    fn start_shard(
        &self,
        net: &Net,
        index: usize,
        frontend: SocketAddr,
    ) -> Result<Shard, Box<dyn std::error::Error>> {
        let counters = Arc::new(ShardCounters::default());
        let bell = Arc::clone(self.mailboxes[index].bell());
        let event_loop = Arc::clone(&counters.event_loop);
        let reactor = Reactor::simulated(net.place(), index, bell, event_loop)?;
        let published = self.reloads.first();
        let log = Arc::clone(&published.logs[index]);
        let servers = &published.snapshot.servers;
        let setup = Setup {
            index,
            installation: Installation {
                published: published.clone(),
                addresses: servers.iter().map(|server| server.address.clone()).collect(),
                listeners: vec![(LISTENER, net.listener(index, frontend))],
                changed: Arc::default(),
            },
            mailboxes: Arc::clone(&self.mailboxes),
            counters,
            carrier: ringlane::carriers::all(net.below(8) as usize + 1),
            seed: net.below(u64::MAX),
        };
        ringlane_shard::start(&reactor, setup)?;
        Ok(Shard { reactor, rest: Rest::Not, log })
    }

    /// One turn for each shard that has something to do, in random order; how many that were.
    pub(crate) fn turn(&mut self, net: &Net) -> Result<u64, String> {
        self.reloads.go_on(net, &self.mailboxes);
        let mut turns = 0;
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        while !order.is_empty() {
            let pick = if order.len() > 1 { net.below(order.len() as u64) as usize } else { 0 };
            let index = order.swap_remove(pick);
            let shard = &mut self.shards[index];
            let is_due = match shard.rest {
                Rest::Ended => false,
                Rest::Not => true,
                Rest::Until(time) => {
                    net.has_news(index)
                        || shard.reactor.is_rung()
                        || time.is_some_and(|time| time <= net.origin() + net.now())
                }
            };
            if is_due {
                shard.rest = shard.reactor.step().map_err(|error| error.to_string())?;
                if shard.rest == Rest::Ended {
                    shard.settle(index)?;
                }
                net.note("turn", index as u64, 0);
                turns += 1;
            }
        }
        Ok(turns)
    }

    /// When the next timer of a shard is due.
    pub(crate) fn next_timer(&self, net: &Net) -> Option<Duration> {
        let timer = |shard: &Shard| match shard.rest {
            Rest::Until(time) => time.map(|time| time.saturating_duration_since(net.origin())),
            Rest::Not | Rest::Ended => None,
        };
        self.shards.iter().filter_map(timer).min()
    }

    pub(crate) fn tell(&self, message: impl Fn() -> Message) {
        for mailbox in &*self.mailboxes {
            assert!(mailbox.post(message()).is_ok(), "a mailbox is full");
        }
    }

    /// The sessions that have ended since this was last asked.
    pub(crate) fn records(&self) -> Vec<SessionRecord> {
        let logs = self.shards.iter().map(|shard| &shard.log);
        let records = logs.flat_map(|log| std::iter::from_fn(|| log.pop()));
        records.map(|record| self.reloads.told_first(record)).collect()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.shards.iter().all(|shard| shard.rest == Rest::Ended)
    }

    /// With no session left, nothing else may be.
    pub(crate) fn check_rest(&self, short_of_descriptors: bool) -> Result<(), String> {
        for (index, shard) in self.shards.iter().enumerate() {
            if shard.rest == Rest::Ended {
                continue;
            }
            let (operations, buffers) = shard.reactor.lent();
            let timers = shard.reactor.timers();
            // A listener accepts; after it found no descriptor it pauses.
            let pauses = usize::from(short_of_descriptors);
            if operations > 1 || timers > pauses || buffers > 0 {
                return Err(format!(
                    "at rest, shard {index} has {operations} operations, {timers} timers and \
                     {buffers} buffers"
                ));
            }
        }
        Ok(())
    }

    /// All shards have ended: everything must be given back.
    pub(crate) fn close(&mut self, net: &Net) -> Result<(), String> {
        self.shards.clear();
        for mailbox in &*self.mailboxes {
            while let Some(message) = mailbox.take() {
                self.lost_in_mail += u64::from(matches!(message, Message::Adopt { .. }));
            }
        }
        let (descriptors, pipes) = net.held();
        if (descriptors, pipes) != (0, 0) {
            return Err(format!("{descriptors} descriptors and {pipes} pipes are left"));
        }
        if self.lost_in_mail == 0 {
            self.check_gauges()?;
            self.check_permits(net.now())?;
        }
        Ok(())
    }

    /// No client has a session any more.
    fn check_permits(&self, now: Duration) -> Result<(), String> {
        // Where they are paced, clients are remembered for a while longer.
        let limits = self.reloads.first().snapshot.frontends[0].per_client.as_ref();
        let is_paced = limits.is_some_and(|limits| limits.rate.is_some());
        match self.gauges.clients(FrontendId(0)).map(|table| table.clients(now)) {
            Some(clients) if clients > 0 && !is_paced => {
                Err(format!("{clients} clients have permits in the end"))
            }
            _ => Ok(()),
        }
    }

    fn check_gauges(&self) -> Result<(), String> {
        let servers = (0..self.reloads.first().snapshot.servers.len() as u32).map(ServerId);
        let shards = 0..self.mailboxes.len();
        let live = [
            self.gauges.common.process.live(),
            self.gauges.frontend(FrontendId(0)).live(),
            servers.map(|id| self.gauges.server(id).sessions()).max().unwrap_or(0),
            shards.map(|index| self.gauges.common.shard(index)).max().unwrap_or(0),
            self.gauges.queue(BackendId(0)).map_or(0, |queue| queue.waiting()),
        ];
        if live == [0; 5] {
            return Ok(());
        }
        Err(format!(
            "gauges of process, frontend, servers, shards and queue are {live:?} in the end"
        ))
    }
}
