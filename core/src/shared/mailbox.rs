//! Messages to a shard: a bounded queue and a wake-up through the ring.
//!
//! Any thread may post; the owning shard empties the queue once per turn. The shard's ring watches
//! the eventfd, and it is written only while the shard sleeps (`parked`), so that posting to a busy
//! shard costs no system call. Invariant: a message that `post` accepted is seen by the shard even
//! if it was about to sleep: it parks first and looks at the queue once more before it waits. Next:
//! `parking`, which is that protocol without queue and eventfd, so that it can be proved.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::clients::Permit;
use crate::counters::{Ending, Reason};
use crate::ids::{BackendId, FrontendId, ServerId};
use crate::limits;
use crate::machine::Address;
use crate::machine::parking::Parking;
use crate::machine::sys::Socket;
use crate::settings::RoleWanted;

/// A connection that was admitted: it has a place at the gates of its frontend and of the process.
#[derive(Debug)]
pub struct Arrival {
    /// The accepted socket.
    pub connection: Socket,
    /// Where it came in.
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
        server: ServerId,
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
        server: ServerId,
        /// Where it is; `None`: nowhere. Boxed, since it is rare and a message is small.
        address: Option<Box<Address>>,
    },
    /// A server of this backend may have room for the first session that waits here.
    PlaceFree {
        /// The backend.
        backend: BackendId,
        /// Which of its lines.
        line: RoleWanted,
    },
    /// A gate that this shard may wait at has a free place.
    GateOpened,
    /// Stop accepting and end when the last session has ended, at the latest after this time.
    Drain(Duration),
    /// End now.
    Stop,
}

/// One shard's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    queue: ArrayQueue<Message>,
    event: EventFd,
    parking: Parking,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> std::io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            queue: ArrayQueue::new(limits::MAILBOX_MESSAGES),
            event: EventFd::from_value_and_flags(0, flags)?,
            parking: Parking::default(),
        })
    }

    /// Posts a message and wakes the shard if it sleeps.
    ///
    /// # Errors
    /// The message comes back when the mailbox is full.
    pub fn post(&self, message: Message) -> Result<(), Message> {
        self.queue.push(message)?;
        if self.parking.must_wake() {
            // Only a counter at its maximum can fail here, and then the shard is awake already.
            let _ = self.event.write(1);
        }
        Ok(())
    }

    /// Takes the next message. For the owning shard.
    pub fn take(&self) -> Option<Message> {
        self.queue.pop()
    }

    /// Whether no message is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Announces that the shard is about to sleep; `false` if a message is there, so it must not.
    pub(crate) fn park(&self) -> bool {
        self.parking.park(|| self.queue.is_empty())
    }

    /// Announces that the shard is awake.
    pub(crate) fn unpark(&self) {
        self.parking.unpark();
    }

    /// The descriptor that becomes readable when a sleeping shard has mail.
    pub(crate) fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Resets the wake-up after it fired.
    pub(crate) fn acknowledge(&self) {
        // Would block only if another wake-up was already read; nothing is lost either way.
        let _ = self.event.read();
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

    #[test]
    fn a_shard_with_mail_does_not_park() {
        let mailbox = Mailbox::new().unwrap();
        assert!(mailbox.park());
        mailbox.post(Message::Stop).unwrap();
        assert!(!mailbox.park());
        assert_eq!(mailbox.event.read().unwrap(), 1, "it was parked, so the post woke it");
        mailbox.post(Message::Stop).unwrap();
        assert!(mailbox.event.read().is_err(), "awake: no system call spent");
    }
}
