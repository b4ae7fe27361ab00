//! Which server a session goes to, and its place there.
//!
//! Policies are in `ringlane_core::balance`; here is what they see of servers, affinity, and the
//! trial of a server that failed. Not here: waiting for a place (`queue`).

use ringlane_core::balance::{self, View, affinity};
use ringlane_core::ids::ServerId;

use crate::generation::Generation;
use crate::seat::Seat;
use crate::trail::Seeker;

/// Times that a session chooses anew since the server that it chose has become full.
const TAKE_ATTEMPTS: usize = 8;

/// Takes a place at a server that has not been tried; `None` when there is none.
pub(crate) fn take(seeker: &Seeker<'_>, tried: &[ServerId]) -> Option<Seat> {
    // Once is enough, unless other shards take the last places at the same moment.
    (0..TAKE_ATTEMPTS).find_map(|_| match choose(seeker, tried) {
        Some(id) => Seat::take(seeker.generation, id).map(Some),
        None => Some(None),
    })?
}

/// The servers of a backend as one session sees them.
#[derive(Clone, Copy)]
struct Candidates<'a> {
    seeker: &'a Seeker<'a>,
    generation: &'a Generation,
    first: u32,
    tried: &'a [ServerId],
    now_ms: u64,
}

/// Chooses a server that has not been tried; `None` when all have, or none has room. A client that
/// is remembered gets its server again while that takes sessions.
pub(crate) fn choose(seeker: &Seeker<'_>, tried: &[ServerId]) -> Option<ServerId> {
    let candidates = Candidates::of(seeker, tried);
    match seeker.generation.gauges().affinity(seeker.backend) {
        None => candidates.by_policy().map(|index| candidates.id(index)),
        Some(table) => candidates.by_affinity(table),
    }
}

/// Chooses a server beside one that is slow: whatever the client's affinity, which stays as it is.
pub(crate) fn choose_beside(seeker: &Seeker<'_>, slow: ServerId) -> Option<ServerId> {
    let tried = [slow];
    let candidates = Candidates::of(seeker, &tried);
    candidates.by_policy().map(|index| candidates.id(index))
}

/// The client has got this server instead of the one that was chosen for it: it returns there.
pub(crate) fn remember(seeker: &Seeker<'_>, id: ServerId) {
    if let Some(table) = seeker.generation.gauges().affinity(seeker.backend) {
        let key = balance::key(table.affinity().key, seeker.known);
        let index = seeker.generation.snapshot().index_in_backend(id);
        let evicted = table.assign(key, index, seeker.generation.now_ms(), |_| false).evicted;
        let counters = seeker.generation.counters().affinity(seeker.backend);
        counters.evictions.add(evicted.into());
    }
}

impl<'a> Candidates<'a> {
    fn of(seeker: &'a Seeker<'a>, tried: &'a [ServerId]) -> Self {
        let generation: &Generation = seeker.generation;
        let first = generation.backend(seeker.backend).first_server.0;
        Self { seeker, generation, first, tried, now_ms: generation.now_ms() }
    }

    fn id(&self, index: usize) -> ServerId {
        ServerId(self.first + u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// What the policy sees of a server.
    fn view(&self, index: usize) -> View {
        let id = self.id(index);
        let (gauge, role) = (self.generation.server(id), self.seeker.role);
        let eligibility = gauge.eligibility();
        View {
            sessions: gauge.sessions(),
            max: gauge.max(),
            weight: eligibility.weight(),
            rate: gauge.rate(),
            measured: gauge.measured(),
            open: eligibility.is_open_for(role),
            usable: gauge.is_usable(self.now_ms),
            tried: self.tried.contains(&id),
            backup: eligibility.is_backup_for(role),
        }
    }

    /// By the backend's policy.
    fn by_policy(&self) -> Option<usize> {
        let Seeker { generation, backend, role, known, .. } = *self.seeker;
        let settings = generation.backend(backend);
        let by_hash = settings.balance.is_by_hash();
        let key = if by_hash { balance::key(settings.hash, known) } else { 0 };
        let choose = || generation.choose(backend, role, |index| self.view(index), key);
        let index = choose()?;
        let gauge = generation.server(self.id(index));
        // A server whose time-out is over gets one trial; the session that comes second chooses
        // again.
        let trial_is_lost = gauge.is_usable(self.now_ms) && !gauge.claim(self.now_ms);
        if trial_is_lost { choose() } else { Some(index) }
    }

    /// The server that the client had, else by the policy.
    fn by_affinity(&self, table: &affinity::Table) -> Option<ServerId> {
        let Self { seeker, generation, now_ms, .. } = *self;
        let counters = generation.counters().affinity(seeker.backend);
        let key = balance::key(table.affinity().key, seeker.known);
        // One that is drained, or of weight 0, gets no new clients and keeps those that it has, as
        // with HAProxy's stick tables.
        let keeps = |index: usize| {
            let (id, gauge) = (self.id(index), generation.server(self.id(index)));
            let has_place = gauge.is_usable(now_ms) && !gauge.is_full();
            gauge.eligibility().keeps_for(seeker.role) && has_place && !self.tried.contains(&id)
        };
        let claims = |index: usize| generation.server(self.id(index)).claim(now_ms);
        if let Some(index) = table.find(key, now_ms, |index| keeps(index) && claims(index)) {
            counters.hits.add(1);
            return Some(self.id(index));
        }
        counters.misses.add(1);
        let assigned = table.assign(key, self.by_policy()?, now_ms, keeps);
        counters.evictions.add(assigned.evicted.into());
        Some(self.id(assigned.server))
    }
}
