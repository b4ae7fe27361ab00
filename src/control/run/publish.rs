//! What the control thread publishes to the shards.
//!
//! Not here: what a shard makes of it (`ringlane_shard`).

use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use ringlane_core::counters::SessionRecord;
use ringlane_core::limits;
use ringlane_core::machine::sys::Socket;
use ringlane_core::settings::Snapshot;
use ringlane_shard::{Installation, ListenerId, Mailbox, Message, Published};

use crate::control::running::Running;

/// Where the shards put finished sessions, by their index.
pub(in crate::control) type Logs = Arc<[Arc<ArrayQueue<SessionRecord>>]>;

/// Queues for finished sessions. Without an access log nothing ever comes.
pub(in crate::control) fn logs(snapshot: &Snapshot, shards: usize) -> Logs {
    let places = if snapshot.log_sessions { limits::LOG_RECORDS } else { 1 };
    (0..shards).map(|_| Arc::new(ArrayQueue::new(places))).collect()
}

/// What each shard is given of a configuration, with the listening sockets that it gets, and
/// those that have other options than before.
pub(in crate::control) fn installations(
    running: &Running,
    listeners: Vec<Vec<(ListenerId, Socket)>>,
    changed: Vec<ListenerId>,
) -> Vec<Installation> {
    let traffic = &running.traffic;
    let published = Published {
        snapshot: Arc::clone(&traffic.snapshot),
        gauges: Arc::clone(&traffic.gauges),
        tables: Arc::clone(&running.tables),
        counters: Arc::clone(&traffic.counters),
        logs: Arc::clone(&running.logs),
        owners: Arc::new(running.listening.owners()),
    };
    let addresses = running.servers.addresses();
    let changed: Arc<[ListenerId]> = changed.into();
    let installation = |listeners| Installation {
        published: published.clone(),
        addresses: addresses.clone(),
        listeners,
        changed: Arc::clone(&changed),
    };
    listeners.into_iter().map(installation).collect()
}

/// How often a message is offered again at once to a shard whose mailbox is full.
const OFFERS: u32 = 100;

/// The pause before that.
const OFFER_PAUSE: Duration = Duration::from_millis(1);

/// The pause before a message is offered again in the background.
const MAILBOX_RETRY: Duration = Duration::from_millis(5);

/// Posts a message before anything else is posted by this thread: a shard that runs empties its
/// mailbox with each turn.
pub(super) fn post(mailbox: &Mailbox, mut message: Message) -> Result<(), Message> {
    for _ in 0..OFFERS {
        match mailbox.post(message) {
            Ok(()) => return Ok(()),
            Err(back) => message = back,
        }
        std::thread::sleep(OFFER_PAUSE);
    }
    Err(message)
}

/// Sends every shard a message. Needs the control thread's runtime around it: a full mailbox gets
/// the message as soon as it has room.
pub(super) fn tell(mailboxes: &Arc<[Mailbox]>, message: impl Fn() -> Message) {
    for (index, mailbox) in mailboxes.iter().enumerate() {
        if let Err(back) = mailbox.post(message()) {
            tell_later(mailboxes, index, back);
        }
    }
}

/// Sends a shard a message as soon as its mailbox has room.
pub(super) fn tell_later(mailboxes: &Arc<[Mailbox]>, index: usize, mut message: Message) {
    let mailboxes = Arc::clone(mailboxes);
    tokio::spawn(async move {
        while let Err(back) = mailboxes[index].post(message) {
            message = back;
            tokio::time::sleep(MAILBOX_RETRY).await;
        }
    });
}
