//! Waiting for a moment, to the microsecond: the runtime's own timers count in milliseconds.
//!
//! A timer of the kernel's, whose readiness the ring (or epoll) reports.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use monoio::net::TcpStream;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Tells when a descriptor is ready, whatever it is.
#[derive(Debug)]
pub(crate) struct Readiness(
    /// Only ever asked for readiness, which it passes on for any kind of descriptor.
    TcpStream,
);

impl Readiness {
    /// Watches a non-blocking descriptor.
    pub(crate) fn of(descriptor: &impl AsFd) -> io::Result<Self> {
        let copy: OwnedFd = descriptor.as_fd().try_clone_to_owned()?;
        TcpStream::from_std(copy.into()).map(Self)
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable(false).await
    }

    /// Waits until there is room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.0.writable(false).await
    }
}

/// One timer of the kernel's.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: TimerFd,
    readiness: Readiness,
}

impl Timer {
    /// Belongs to the thread that makes it.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let readiness = Readiness::of(&timer)?;
        Ok(Self { timer, readiness })
    }

    /// Waits for a moment; one that has passed is not waited for.
    pub(crate) async fn until(&self, moment: Instant) -> io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(());
        }
        let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
        // Setting it anew forgets earlier expirations, so they need not be read.
        self.timer.set(expiration, TimerSetTimeFlags::empty())?;
        self.readiness.readable().await
    }
}

/// Nanoseconds between two moments; 0 if they are the wrong way round.
pub(crate) fn nanos(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_waits_for_its_moment_again_and_again() {
        let mut runtime =
            monoio::RuntimeBuilder::<monoio::FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async {
            let timer = Timer::new().unwrap();
            for micros in [0, 300, 50, 1200] {
                let moment = Instant::now() + Duration::from_micros(micros);
                timer.until(moment).await.unwrap();
                assert!(Instant::now() >= moment);
            }
        });
    }
}
