//! Messages to a shard: a bounded queue, and a doorbell that wakes the shard.
//!
//! Any thread may post; the owning shard empties the queue once per turn. Invariant: a message that
//! `post` accepted is seen by the shard even if it was about to sleep (`machine::Doorbell`).

use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use ringlane_core::counters::{Ending, Reason};
use ringlane_core::ids::{FrontendId, Tag};
use ringlane_core::limits;
use ringlane_core::machine::sys::Socket;
use ringlane_core::machine::{Address, Doorbell};
use ringlane_core::settings::RoleWanted;
use ringlane_core::shared::clients::Permit;

use crate::published::Installation;

/// A connection that was admitted: it has a place at the gates of its frontend and of the process.
#[derive(Debug)]
pub struct Arrival {
    /// The accepted socket.
    pub connection: Socket,
    /// The configuration that it was admitted with.
    pub generation: u64,
    /// Where it came in, in that configuration.
    pub frontend: FrontendId,
    /// Its client's permit, if those are limited.
    pub permit: Option<Permit>,
}

/// Every message that a shard understands.
#[derive(Debug)]
pub enum Message {
    /// Serve this connection, which a more loaded shard has just accepted. The sender has already
    /// counted it in this shard's gauge.
    Adopt(Arrival),
    /// End sessions of a server, because something about it has changed.
    EndSessions {
        /// Of this server.
        server: Tag,
        /// How many it has, on all shards.
        sessions: u32,
        /// Those of frontends that want this role; `Any`: of all.
        role: RoleWanted,
        /// How.
        how: Ending,
        /// Why.
        why: Reason,
    },
    /// A server is somewhere else from now on. New sessions go there; those that live stay.
    Moved {
        /// Which server.
        server: Tag,
        /// Where it is; `None`: nowhere. Boxed, since it is rare and a message is small.
        address: Option<Box<Address>>,
    },
    /// A server of this backend may have room for the first session that waits here.
    PlaceFree {
        /// The backend.
        backend: Tag,
        /// Which of its lines.
        line: RoleWanted,
    },
    /// Get a configuration ready to be served.
    Install(Box<Installation>),
    /// Serve the installed configuration of this number from now on.
    Serve(u64),
    /// Let go of the configuration of this number: sessions that began with it keep it.
    Retire(u64),
    /// A gate that this shard may wait at has a free place.
    GateOpened,
    /// Stop accepting and end when the last session has ended, at the latest after this time.
    Drain(Duration),
    /// End now.
    Stop,
}

/// Messages that must find room where several are to be posted at once.
const FEW: usize = 16;

/// One shard's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    queue: ArrayQueue<Message>,
    bell: Arc<Doorbell>,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> std::io::Result<Self> {
        let bell = Arc::new(Doorbell::new()?);
        Ok(Self { queue: ArrayQueue::new(limits::MAILBOX_MESSAGES), bell })
    }

    /// What wakes its shard.
    pub fn bell(&self) -> &Arc<Doorbell> {
        &self.bell
    }

    /// Posts a message and wakes the shard if it sleeps.
    ///
    /// # Errors
    /// The message comes back when the mailbox is full.
    pub fn post(&self, message: Message) -> Result<(), Message> {
        self.queue.push(message)?;
        self.bell.ring();
        Ok(())
    }

    /// Takes the next message. For the owning shard.
    pub fn take(&self) -> Option<Message> {
        self.queue.pop()
    }

    /// Whether there is room for a few more messages.
    pub fn has_room(&self) -> bool {
        self.queue.len() + FEW <= self.queue.capacity()
    }

    /// Whether no message is there.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let mailbox = Mailbox::new().unwrap();
        for _ in 0..limits::MAILBOX_MESSAGES {
            mailbox.post(Message::GateOpened).unwrap();
        }
        assert!(matches!(mailbox.post(Message::Stop), Err(Message::Stop)));
        assert!(mailbox.take().is_some());
        mailbox.post(Message::Stop).unwrap();
    }
}
