//! Another configuration while a world goes on: servers in another order, under the same names.
//!
//! The control thread of the real balancer is played here: each message is sent once all shards
//! have carried out the one before. Ids mean something else in each configuration, so the records
//! of later ones are told in the ids of the first before they are judged.

use std::sync::Arc;

use ringlane_core::balance::HashTable;
use ringlane_core::counters::{Counters, SessionRecord};
use ringlane_core::ids::{Places, ServerId};
use ringlane_core::machine::sys::sim::Net;
use ringlane_core::settings::Snapshot;
use ringlane_shard::{Installation, Mailbox, Message, Published};

/// The configurations of a balancer, the first one first.
pub(crate) struct Reloads {
    all: Vec<Published>,
    /// How far the last one has come.
    phase: Phase,
    /// Further ones that wait for it.
    waiting: u32,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Installing,
    Beginning,
    Served,
}

impl Reloads {
    pub(crate) fn new(first: Published) -> Self {
        Self { all: vec![first], phase: Phase::Served, waiting: 0 }
    }

    /// The first configuration, in whose ids everything is judged.
    pub(crate) fn first(&self) -> &Published {
        &self.all[0]
    }

    /// Another configuration is to be served.
    pub(crate) fn ask(&mut self) {
        self.waiting += 1;
    }

    /// Sends what is due.
    pub(crate) fn go_on(&mut self, net: &Net, mailboxes: &[Mailbox]) {
        let Some(last) = self.all.last() else { return };
        let (common, number) = (&last.gauges.common, last.snapshot.generation);
        let all = |done: &dyn Fn(usize) -> bool| (0..common.shards()).all(done);
        match self.phase {
            Phase::Installing if all(&|shard| common.installed(shard) >= number) => {
                tell(mailboxes, || Message::Serve(number));
                self.phase = Phase::Beginning;
            }
            Phase::Beginning if all(&|shard| common.served(shard) >= number) => {
                tell(mailboxes, || Message::Retire(number - 1));
                self.phase = Phase::Served;
            }
            Phase::Served if self.waiting > 0 => {
                self.waiting -= 1;
                self.begin(net, mailboxes);
            }
            _ => {}
        }
    }

    fn begin(&mut self, net: &Net, mailboxes: &[Mailbox]) {
        let Some(older) = self.all.last() else { return };
        let snapshot = Arc::new(reordered(&older.snapshot));
        let now = net.origin() + net.now();
        let counters = older.counters.iter();
        let newer = Published {
            gauges: Arc::new(older.gauges.follow(&older.snapshot, &snapshot, now)),
            counters: counters
                .map(|own| Counters::follow(&snapshot, Some((own, &older.snapshot))))
                .collect(),
            logs: Arc::clone(&older.logs),
            owners: Arc::clone(&older.owners),
            tables: HashTable::of_all(&snapshot, Some((&older.tables, &older.snapshot))),
            snapshot,
        };
        tell(mailboxes, || {
            let servers = &newer.snapshot.servers;
            Message::Install(Box::new(Installation {
                published: newer.clone(),
                addresses: servers.iter().map(|server| server.address.clone()).collect(),
                listeners: Vec::new(),
                changed: Arc::default(),
            }))
        });
        self.all.push(newer);
        self.phase = Phase::Installing;
    }

    /// A record in the ids of the first configuration.
    pub(crate) fn told_first(&self, mut record: SessionRecord) -> SessionRecord {
        let own = self.all.iter().find(|one| one.snapshot.generation == record.generation);
        let Some(own) = own else { return record };
        let (own, first) = (own.gauges.tags(), self.first().gauges.tags());
        let places: Vec<_> = Places::new(&own.servers, &first.servers).iter().collect();
        let place = |id: ServerId| places[id.0 as usize].map(|place| ServerId(place as u32));
        record.server = record.server.and_then(place);
        record.tried = record.tried.map(|tried| tried.and_then(place));
        record
    }
}

/// The same servers of each backend, the last one first.
fn reordered(older: &Snapshot) -> Snapshot {
    let mut snapshot = older.clone();
    snapshot.generation += 1;
    for backend in &older.backends {
        let first = backend.first_server.0 as usize;
        snapshot.servers[first..first + backend.server_count as usize].reverse();
    }
    snapshot
}

fn tell(mailboxes: &[Mailbox], message: impl Fn() -> Message) {
    for mailbox in mailboxes {
        assert!(mailbox.post(message()).is_ok(), "a mailbox is full");
    }
}
