//! Wakes a shard from another thread: a flag, and an eventfd that the shard's ring watches.
//!
//! The eventfd is written only while the shard sleeps, so that ringing at a busy shard costs no
//! system call. Not here: what the bell is rung for. Invariant: what was done before a ring is seen
//! by the shard after it has found the bell rung, even if it was about to sleep: it parks first and
//! looks at the bell once more before it waits. Next: `parking`, which is that protocol without the
//! eventfd, so that it can be proved.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::parking::Parking;

/// The doorbell of one shard.
#[derive(Debug)]
pub struct Doorbell {
    parking: Parking,
    event: EventFd,
}

impl Doorbell {
    /// A bell that has not been rung.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> std::io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self { parking: Parking::default(), event: EventFd::from_value_and_flags(0, flags)? })
    }

    /// Rings, and wakes the shard if it sleeps.
    pub fn ring(&self) {
        if self.parking.ring() {
            // Only a counter at its maximum can fail here, and then the shard is awake already.
            let _ = self.event.write(1);
        }
    }

    /// Whether it was rung since it was last silenced.
    pub fn is_rung(&self) -> bool {
        self.parking.is_rung()
    }

    /// Silences it; whether it was rung. For the owning shard.
    pub(crate) fn silence(&self) -> bool {
        self.parking.silence()
    }

    /// Announces that the shard is about to sleep; `false` if it was rung for, so it must not.
    pub(crate) fn park(&self) -> bool {
        self.parking.park()
    }

    /// Announces that the shard is awake.
    pub(crate) fn unpark(&self) {
        self.parking.unpark();
    }

    /// The descriptor that becomes readable when a sleeping shard is rung for.
    pub(crate) fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Resets the wake-up after it fired.
    pub(crate) fn acknowledge(&self) {
        // Would block only if another wake-up was already read; nothing is lost either way.
        let _ = self.event.read();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_was_rung_for_does_not_park() {
        let bell = Doorbell::new().unwrap();
        assert!(bell.park());
        bell.ring();
        assert!(!bell.park());
        assert_eq!(bell.event.read().unwrap(), 1, "it was parked, so the ring woke it");
        bell.ring();
        assert!(bell.event.read().is_err(), "awake: no system call spent");
        assert!(bell.silence() && !bell.silence() && bell.park());
    }
}
