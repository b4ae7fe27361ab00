//! The words of one server that all shards read to choose it, and write to count its sessions.
//!
//! Not here: how a choice is made (`balance`), accounts (`counters`).

use std::time::Duration;

use super::eligibility::{Eligibility, WEIGHT_SCALE};
use crate::settings::Server;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Milliseconds for which a server that failed a connect is not tried again, but by one session.
pub const RETRY_FAILED_MS: u64 = 1000;

/// One server as all shards see it.
#[derive(Debug, Default)]
pub struct ServerGauge {
    sessions: AtomicU32,
    /// Sessions at once that it may have.
    max: AtomicU32,
    avoid_until_ms: AtomicU64,
    /// Written by the control thread alone, as are the next two.
    eligibility: AtomicU64,
    /// Bytes per second, both directions.
    rate: AtomicU64,
    /// Sessions when the rate was measured.
    measured: AtomicU32,
    /// As above: percentage of segments sent again with which a session counts as lossy; 0: none
    /// does.
    loss_limit: AtomicU32,
    /// As above: milliseconds after which a session's first byte comes late; 0: it never does.
    first_byte_limit_ms: AtomicU64,
}

impl From<&Server> for ServerGauge {
    /// Without sessions, and open until somebody says otherwise, if it has an address.
    fn from(server: &Server) -> Self {
        let gauge = Self { max: server.max_connections.into(), ..Self::default() };
        let open = server.address.is_some();
        gauge.set_eligibility(Eligibility::new(
            [open, false, false],
            server.weight.saturating_mul(WEIGHT_SCALE),
        ));
        gauge
    }
}

impl ServerGauge {
    /// Sessions that this server has now, those still connecting included.
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Bytes per second that it carried lately, all shards together.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Sessions that it had when its rate was measured.
    pub fn measured(&self) -> u32 {
        self.measured.load(Ordering::Relaxed)
    }

    /// Publishes its rate, which its present sessions make. For the control thread.
    pub fn measure(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
        self.measured.store(self.sessions(), Ordering::Relaxed);
    }

    /// The percentage of segments sent again above which a session is lossy, if somebody asked.
    pub fn loss_limit(&self) -> Option<u32> {
        Some(self.loss_limit.load(Ordering::Relaxed)).filter(|limit| *limit != 0)
    }

    /// Asks for lossy sessions to be counted. For the control thread.
    pub fn limit_loss(&self, percent: u32) {
        self.loss_limit.store(percent, Ordering::Relaxed);
    }

    /// How long its first byte may take after a client's, if somebody asked.
    pub fn first_byte_limit(&self) -> Option<Duration> {
        let limit = self.first_byte_limit_ms.load(Ordering::Relaxed);
        (limit != 0).then(|| Duration::from_millis(limit))
    }

    /// Asks for sessions whose first byte comes later to be counted, to the millisecond and at
    /// least one. For the control thread.
    pub fn limit_first_byte(&self, limit: Option<Duration>) {
        let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        self.first_byte_limit_ms.store(limit.map_or(0, millis), Ordering::Relaxed);
    }

    /// Sessions at once that it may have.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes that; sessions above a lower limit stay. For the control thread.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Whether it has as many sessions as it may have.
    pub fn is_full(&self) -> bool {
        self.sessions() >= self.max()
    }

    /// A session takes a place at this server, unless it is full.
    pub fn try_enter(&self) -> bool {
        let max = self.max();
        let enter = |sessions| (sessions < max).then_some(sessions + 1);
        self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    /// A session left this server.
    pub fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connect failed at `now_ms`: leave the server alone for a while.
    pub fn failed(&self, now_ms: u64) {
        self.avoid_until_ms.store(now_ms + RETRY_FAILED_MS, Ordering::Relaxed);
    }

    /// A connect succeeded.
    pub fn answered(&self) {
        if self.avoid_until_ms.load(Ordering::Relaxed) != 0 {
            self.avoid_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Which sessions it is open for, as the control thread last decided.
    pub fn eligibility(&self) -> Eligibility {
        Eligibility::from_bits(self.eligibility.load(Ordering::Relaxed))
    }

    /// Changes that. For the control thread.
    pub fn set_eligibility(&self, eligibility: Eligibility) {
        self.eligibility.store(eligibility.to_bits(), Ordering::Relaxed);
    }

    /// Whether the last connect failed and none has succeeded since.
    pub fn is_down(&self) -> bool {
        self.avoid_until_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether a session may choose this server at `now_ms`: it is up, or its time-out is over.
    pub fn is_usable(&self, now_ms: u64) -> bool {
        self.avoid_until_ms.load(Ordering::Relaxed) <= now_ms
    }

    /// Claims the one trial that a failed server gets when its time-out is over; `true` for a
    /// server that is up. Whoever gets `false` lost the race and should choose again.
    pub fn claim(&self, now_ms: u64) -> bool {
        let until = self.avoid_until_ms.load(Ordering::Relaxed);
        until == 0
            || (until <= now_ms
                && self
                    .avoid_until_ms
                    .compare_exchange(
                        until,
                        now_ms + RETRY_FAILED_MS,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    )
                    .is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_server_gets_one_trial_per_interval_and_a_full_one_no_session() {
        let server = ServerGauge { max: 1.into(), ..ServerGauge::default() };
        assert!(server.try_enter() && server.is_full() && !server.try_enter());
        server.set_max(2);
        assert!(!server.is_full() && server.try_enter() && !server.try_enter());
        server.leave();
        server.leave();
        assert!(!server.is_full());
        assert!(server.is_usable(0) && server.claim(0));
        server.failed(10);
        assert!(server.is_down() && !server.is_usable(11));
        let later = 10 + RETRY_FAILED_MS;
        assert!(server.is_usable(later) && server.claim(later), "the trial");
        assert!(!server.is_usable(later), "only one");
        server.answered();
        assert!(!server.is_down() && server.claim(later));
    }
}
