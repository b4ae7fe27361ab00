//! How far the process is in its life, and how long it has lived.
//!
//! Not here: what happens in each stage (`run::serving`). Invariant: stages have one direction:
//! starting, serving, lame duck, draining, stopping.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// The stage of a balancer and the time of its start. Read from any thread.
#[derive(Debug)]
pub struct Life {
    stage: AtomicU8,
    drain_requested: Notify,
    started_at: Instant,
    started_on: SystemTime,
}

/// A stage in the life of a balancer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Stage {
    /// Shards are coming up.
    Starting,
    /// All shards accept sessions.
    Serving,
    /// All shards accept sessions, and `/healthz` announces that they soon will not.
    LameDuck,
    /// No session is accepted any more; live sessions may finish.
    Draining,
    /// All sessions are being ended.
    Stopping,
}

impl Life {
    /// A balancer that is about to start.
    pub(super) fn begin() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Starting as u8),
            drain_requested: Notify::new(),
            started_at: Instant::now(),
            started_on: SystemTime::now(),
        }
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// The start by the wall clock.
    pub(super) fn started_on(&self) -> SystemTime {
        self.started_on
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Ordering::Relaxed))
    }

    /// Requests a drain, as SIGTERM does.
    pub fn drain(&self) {
        self.drain_requested.notify_one();
    }

    /// Completes when [`Life::drain`] was called.
    pub(super) async fn drain_requested(&self) {
        self.drain_requested.notified().await;
    }

    /// Goes on to a later stage; never back.
    pub(super) fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }
}

impl Stage {
    /// The word for people and for `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }

    fn from_u8(value: u8) -> Self {
        [Self::Starting, Self::Serving, Self::LameDuck, Self::Draining]
            .into_iter()
            .find(|stage| *stage as u8 == value)
            .unwrap_or(Self::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_only_go_forward() {
        let life = Life::begin();
        assert_eq!(life.stage(), Stage::Starting);
        for (enter, then) in [
            (Stage::Serving, Stage::Serving),
            (Stage::LameDuck, Stage::LameDuck),
            (Stage::Stopping, Stage::Stopping),
            (Stage::Draining, Stage::Stopping),
        ] {
            life.enter(enter);
            assert_eq!(life.stage(), then);
        }
    }
}
