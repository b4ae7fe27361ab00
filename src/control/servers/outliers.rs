//! Passive checks: servers are ejected for what the sessions of all shards met there.
//!
//! The control thread adds up the counters of all shards a few times a second, as for rates; shards
//! do nothing for it but count. Not here: when a server is ejected (`Outlier` of the core), what
//! follows from it (`servers`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringlane_core::ids::{BackendId, Places, ServerId, Tag};
use ringlane_core::machine::Address;
use ringlane_health::{Ejection, Met, Outlier, Verdict};
use tokio::time::{MissedTickBehavior, interval};

use super::Servers;
use crate::control::running::{Current, Running};
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
    /// The configuration that it is of.
    generation: u64,
    first: ServerId,
    /// What its servers are recognised by in other configurations.
    tags: Vec<Tag>,
    /// Where each server was when it was judged last.
    addresses: Vec<Option<Address>>,
    outlier: Outlier,
}

/// Judges the servers of those backends that want it, until the future is dropped.
pub(in crate::control) async fn judge(current: Current) {
    let mut judged: HashMap<Tag, Judged> = HashMap::new();
    let mut ticker = interval(PACE);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut forgiven_until) = (Instant::now(), None);
    let mut generation = 0;
    loop {
        ticker.tick().await;
        let now = Instant::now();
        if now.saturating_duration_since(last) > PACE + AWAY {
            forgiven_until = Some(now + FORGIVEN);
        }
        last = now;
        let running = current.get();
        let number = running.traffic.snapshot.generation;
        if number != std::mem::replace(&mut generation, number) {
            follow(&mut judged, &running, now);
        }
        let is_forgiven = forgiven_until.is_some_and(|until| now < until);
        let Running { traffic, servers, .. } = &running;
        judged.values_mut().for_each(|judged| judged.look(traffic, servers, now, is_forgiven));
    }
}

/// Another configuration is served: servers that stay are judged by what they have met so far.
fn follow(judged: &mut HashMap<Tag, Judged>, running: &Running, now: Instant) {
    let Running { traffic, servers, watches, .. } = running;
    for (id, watch) in (0..).map(BackendId).zip(&**watches) {
        let limits = watch.outlier;
        for gauge in traffic.snapshot.ids_of(id).map(|id| traffic.gauges.server(id)) {
            gauge.limit_loss(limits.and_then(|rules| rules.retransmits).unwrap_or(0));
            gauge.limit_first_byte(limits.and_then(|rules| rules.first_byte));
        }
        let tag = traffic.gauges.backend_tag(id);
        match watch.outlier {
            Some(rules) => {
                let before = judged.remove(&tag);
                judged.insert(tag, Judged::follow(before, traffic, id, rules, now));
            }
            None if judged.contains_key(&tag) => {
                // What it has ejected is judged by nothing any more.
                let ids = traffic.snapshot.ids_of(id);
                ids.for_each(|id| servers.set_ejected(id, None, "outlier is no longer configured"));
            }
            None => {}
        }
    }
    judged.retain(|_, judged| judged.generation == traffic.snapshot.generation);
}

impl Judged {
    fn follow(
        before: Option<Self>,
        traffic: &Traffic,
        id: BackendId,
        rules: Ejection,
        now: Instant,
    ) -> Self {
        let ids: Vec<ServerId> = traffic.snapshot.ids_of(id).collect();
        let tags: Vec<Tag> = ids.iter().map(|id| traffic.gauges.server_tag(*id)).collect();
        let met = || ids.iter().map(|id| met(traffic, *id));
        // Until the first look, new ones are as if they were nowhere.
        let (addresses, outlier) = match before {
            None => (vec![None; ids.len()], Outlier::new(rules, met(), now)),
            Some(Self { tags: older, addresses, mut outlier, .. }) => {
                let places: Vec<_> = Places::new(&tags, &older).iter().collect();
                outlier.follow(rules, places.iter().copied().zip(met()), now);
                let address = |place: &Option<usize>| addresses[(*place)?].clone();
                (places.iter().map(address).collect(), outlier)
            }
        };
        let first = traffic.snapshot.backend(id).first_server;
        let generation = traffic.snapshot.generation;
        Self { generation, first, tags, addresses, outlier }
    }

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
