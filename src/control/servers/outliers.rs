//! Passive checks: servers are ejected for what the sessions of all shards met there.
//!
//! The control thread adds up the counters of all shards a few times a second, as for rates; shards
//! do nothing for it but count. Not here: when a server is ejected (`Outlier` of the core), what
//! follows from it (`servers`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::machine::Address;
use ringlane_health::{Met, Outlier, Verdict};
use tokio::time::{MissedTickBehavior, interval};

use super::Servers;
use super::tasks::{Task, Tasks};
use crate::config::Watch;
use crate::control::traffic::Traffic;

/// Between two looks at the counters.
const PACE: Duration = Duration::from_millis(200);

/// A look this much later than due shows that the process was paused.
const AWAY: Duration = Duration::from_secs(1);

/// How long after a pause failures are not counted: they are of sessions whose timeout passed in
/// it.
const FORGIVEN: Duration = Duration::from_secs(1);

/// One backend and its judge.
struct Judged {
    first: ServerId,
    /// Where each server was when it was judged last.
    addresses: Vec<Option<Address>>,
    outlier: Outlier,
}

/// Begins to judge the servers of those backends that want it. Needs a tokio runtime around it.
pub(in crate::control) fn begin(
    tasks: &mut Tasks,
    traffic: &Traffic,
    servers: &Arc<Servers>,
    watches: &[Watch],
) {
    let now = Instant::now();
    let judged = |(id, watch): (BackendId, &Watch)| {
        let ids = || traffic.snapshot.ids_of(id);
        let rules = watch.outlier?;
        for gauge in ids().map(|id| traffic.gauges.server(id)) {
            gauge.limit_loss(rules.retransmits.unwrap_or(0));
            gauge.limit_first_byte(rules.first_byte);
        }
        let outlier = Outlier::new(rules, ids().map(|id| met(traffic, id)), now);
        // Until the first look, as if they were nowhere.
        let first = traffic.snapshot.backend(id).first_server;
        Some(Judged { first, addresses: ids().map(|_| None).collect(), outlier })
    };
    let judged: Vec<Judged> = (0..).map(BackendId).zip(watches).filter_map(judged).collect();
    if !judged.is_empty() {
        let work = judge(traffic.clone(), Arc::clone(servers), judged);
        tasks.start(Task::Outliers, work);
    }
}

async fn judge(traffic: Traffic, servers: Arc<Servers>, mut judged: Vec<Judged>) {
    let mut ticker = interval(PACE);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut forgiven_until) = (Instant::now(), None);
    loop {
        ticker.tick().await;
        let now = Instant::now();
        if now.saturating_duration_since(last) > PACE + AWAY {
            forgiven_until = Some(now + FORGIVEN);
        }
        last = now;
        let is_forgiven = forgiven_until.is_some_and(|until| now < until);
        judged.iter_mut().for_each(|judged| judged.look(&traffic, &servers, now, is_forgiven));
    }
}

impl Judged {
    fn look(&mut self, traffic: &Traffic, servers: &Servers, now: Instant, is_forgiven: bool) {
        let ids = (0..self.addresses.len()).zip((self.first.0..).map(ServerId));
        // All addresses first, since shares are of the servers that are present.
        for (index, id) in ids.clone() {
            let address = servers.address(id);
            if self.addresses[index] != address {
                self.outlier.forget(index, met(traffic, id), address.is_some(), now);
                self.addresses[index] = address;
            }
        }
        for (index, id) in ids {
            if is_forgiven {
                self.outlier.forgive(index, met(traffic, id), now);
            }
            match self.outlier.observe(index, met(traffic, id), now) {
                Some(Verdict::Ejected(time, met)) => {
                    servers.set_ejected(id, Some(time), &met.to_string());
                }
                Some(Verdict::Back) => servers.set_ejected(id, None, "its ejection is over"),
                None => {}
            }
        }
    }
}

/// What the sessions of all shards have met at a server.
fn met(traffic: &Traffic, id: ServerId) -> Met {
    Met {
        sessions: traffic.server_total(id, |s| s.sessions.get()),
        connects_failed: traffic.server_total(id, |s| s.connects_failed.get()),
        failed_early: traffic.server_total(id, |s| s.sessions_failed_early.get()),
        lossy: traffic.server_total(id, |s| s.sessions_lossy.get()),
        late: traffic.server_total(id, |s| s.sessions_late.get()),
    }
}
