//! How each metric is read, and what one scrape reads only once.
//!
//! Not here: names (`registry`), encoding (`metrics`). Invariant: one pass over the servers copies
//! their states, so that no metric takes the lock again.

use std::fmt;

use ringlane_core::counters::{
    AffinityCounters, BackendCounters, Close, FrontendCounters, Histogram, QueueCounters,
    ServerCounters, ShardCounters,
};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::settings::Backend;
use ringlane_health::Admin;

use super::process::LocalPorts;
use super::{Labels, Value};
use crate::cli::{REVISION, VERSION};
use crate::control::Running;
use crate::control::report::admin::REFUSALS;
use crate::control::servers::Known;
use crate::control::servers::names::Followed;
use crate::control::traffic::Traffic;
use crate::control::traffic::buckets::{Bounds, Buckets};

/// The source of a metric's values, which also defines its labels. A value of `None` is absent from
/// the page.
#[derive(Clone, Copy)]
pub(super) enum Read {
    /// What was built, as labels.
    Build,
    /// Per frontend and close code, a counter.
    Closes,
    /// Per server: source ports that there are for connections to it.
    SourcePorts,
    /// Of the process.
    Process(fn(&Running) -> Option<Value>),
    /// A histogram with these bounds, merged over all shards.
    Times(Bounds, fn(&ShardCounters) -> &Histogram),
    /// Per status: requests to the admin API that were refused.
    Refused,
    /// A histogram: how late the control thread was.
    ControlLag,
    /// Per shard: the CPU time of its thread.
    ShardCpu,
    /// Per shard.
    Shard(fn(&Traffic, usize) -> Value),
    /// Per shard, a counter.
    ShardCount(fn(&ShardCounters) -> u64),
    /// Per frontend.
    Frontend(fn(&Traffic, FrontendId) -> Value),
    /// Per frontend, a counter.
    FrontendCount(fn(&FrontendCounters) -> u64),
    /// Per backend.
    Backend(fn(&Traffic, BackendId) -> Option<Value>),
    /// A histogram per backend that has checks.
    CheckTimes,
    /// Per backend: the number of its servers that this is true of.
    BackendServers(fn(&Known) -> bool),
    /// Per backend that remembers its clients, a counter.
    AffinityCount(fn(&AffinityCounters) -> u64),
    /// Per backend that lets sessions wait, a counter.
    QueueCount(fn(&QueueCounters) -> u64),
    /// Per backend that has a certain feature, a counter.
    BackendCount(fn(&Backend) -> bool, fn(&BackendCounters) -> u64),
    /// Per server entry that is given by name.
    Name(fn(&Followed) -> Value),
    /// Per server.
    Server(fn(&Traffic, ServerId, &Known) -> Option<Value>),
    /// Per server, a counter.
    ServerCount(fn(&ServerCounters) -> u64),
    /// Per server and administrative state: 1 for the one that it is in.
    ServerAdmin,
}

impl Read {
    /// The labels, in the order in which they are printed.
    #[cfg(test)]
    pub(super) fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Build => &["version", "revision"],
            Self::Closes => &["frontend", "code"],
            Self::SourcePorts => &["backend", "server"],
            Self::Refused => &["code"],
            Self::Process(_) | Self::Times(..) | Self::ControlLag => &[],
            Self::Shard(_) | Self::ShardCpu | Self::ShardCount(_) => &["shard"],
            Self::Frontend(_) | Self::FrontendCount(_) => &["frontend"],
            Self::Backend(_)
            | Self::CheckTimes
            | Self::BackendServers(_)
            | Self::AffinityCount(_)
            | Self::QueueCount(_)
            | Self::BackendCount(..) => &["backend"],
            Self::Name(_) => &["backend", "server", "name"],
            Self::Server(_) | Self::ServerCount(_) => &["backend", "server"],
            Self::ServerAdmin => &["backend", "server", "state"],
        }
    }
}

/// What takes a value and its labels.
type Each<'a> = &'a mut dyn FnMut(Labels<'_>, Value) -> fmt::Result;

/// What one scrape reads.
pub(super) struct View<'a> {
    running: &'a Running,
    /// By server.
    known: Vec<Option<Known>>,
    ports: Option<LocalPorts>,
}

impl<'a> View<'a> {
    pub(super) fn of(running: &'a Running) -> Self {
        let ids = (0..).map(ServerId).take(running.traffic.snapshot.servers.len());
        let known = ids.map(|id| running.servers.known(id)).collect();
        Self { running, known, ports: LocalPorts::of_kernel() }
    }

    fn known(&self, id: ServerId) -> Option<&Known> {
        self.known.get(id.0 as usize)?.as_ref()
    }

    /// Gives every value of a metric to `each`, with its labels.
    pub(super) fn values(&self, read: Read, each: Each<'_>) -> fmt::Result {
        let Running { traffic, servers, threads, .. } = self.running;
        match read {
            Read::Build => each(&[("version", VERSION), ("revision", REVISION)], true.into()),
            Read::Closes => self.closes(each),
            Read::SourcePorts => self.servers(|id, labels| {
                let snapshot = &traffic.snapshot;
                let ports = self.ports.as_ref();
                let ports = ports.and_then(|ports| ports.towards(snapshot, snapshot.server(id)));
                ports.map_or(Ok(()), |ports| each(&labels, ports.into()))
            }),
            Read::Process(read) => read(self.running).map_or(Ok(()), |value| each(&[], value)),
            Read::Times(bounds, which) => {
                each(&[], Value::Times(Buckets::merge(traffic, bounds, which)))
            }
            Read::Refused => REFUSALS.iter().try_for_each(|status| {
                let count = self.running.access.refused(*status);
                each(&[("code", &status.to_string())], count.into())
            }),
            Read::ControlLag => each(&[], Value::Times(threads.control_lag.buckets())),
            Read::ShardCpu => {
                self.shards(each, |index| Some(threads.cpu_time(Some(index))?.as_secs_f64().into()))
            }
            Read::Shard(read) => self.shards(each, |index| Some(read(traffic, index))),
            Read::ShardCount(read) => {
                self.shards(each, |index| Some(read(&traffic.shard_counters[index]).into()))
            }
            Read::Frontend(read) => self.frontends(each, |id| read(traffic, id)),
            Read::FrontendCount(read) => {
                self.frontends(each, |id| traffic.frontend_total(id, read).into())
            }
            Read::Backend(read) => self.backends(each, |_, id| read(traffic, id)),
            Read::CheckTimes => self.backends(each, |backend, id| {
                let checked = self.known(backend.first_server)?.checked;
                checked.then(|| Value::Times(servers.check_times(id).buckets()))
            }),
            Read::BackendServers(is) => self.backends(each, |_, backend_id| {
                let ids = traffic.snapshot.ids_of(backend_id);
                let is = |id: &ServerId| self.known(*id).is_some_and(is);
                let found = ids.filter(is);
                Some((found.count() as u64).into())
            }),
            Read::AffinityCount(read) => self.backends(each, |backend, id| {
                let has = backend.affinity.is_some();
                has.then(|| traffic.affinity_total(id, read).into())
            }),
            Read::QueueCount(read) => self.backends(each, |backend, id| {
                backend.queue.map(|_| traffic.queue_total(id, read).into())
            }),
            Read::BackendCount(has, read) => self.backends(each, |backend, id| {
                has(backend).then(|| traffic.backend_total(id, read).into())
            }),
            Read::Name(read) => self.names(each, read),
            Read::Server(read) => self.servers(|id, labels| {
                let value = self.known(id).and_then(|known| read(traffic, id, known));
                value.map_or(Ok(()), |value| each(&labels, value))
            }),
            Read::ServerCount(read) => {
                self.servers(|id, labels| each(&labels, traffic.server_total(id, read).into()))
            }
            Read::ServerAdmin => self.servers(|id, [backend, server]| {
                let Some(now) = self.known(id).map(|known| known.state.admin) else {
                    return Ok(());
                };
                [Admin::Ready, Admin::Drain, Admin::Maint].into_iter().try_for_each(|state| {
                    each(&[backend, server, ("state", state.name())], (state == now).into())
                })
            }),
        }
    }

    /// Codes that no session has ended with are absent, but for the ordinary one.
    fn closes(&self, each: Each<'_>) -> fmt::Result {
        let all = self.running.traffic.snapshot.frontends.iter().zip((0..).map(FrontendId));
        for (frontend, id) in all {
            for close in Close::all() {
                let shards = self.running.traffic.counters.iter();
                let count: u64 = shards.map(|shard| shard.frontend(id).closes.get(close)).sum();
                if count > 0 || close == Close::NORMAL {
                    let labels = [("frontend", &*frontend.name), ("code", &close.to_string())];
                    each(&labels, count.into())?;
                }
            }
        }
        Ok(())
    }

    fn shards(&self, each: Each<'_>, read: impl Fn(usize) -> Option<Value>) -> fmt::Result {
        (0..self.running.traffic.shards()).try_for_each(|index| {
            let Some(value) = read(index) else { return Ok(()) };
            each(&[("shard", &index.to_string())], value)
        })
    }

    fn frontends(&self, each: Each<'_>, read: impl Fn(FrontendId) -> Value) -> fmt::Result {
        let all = self.running.traffic.snapshot.frontends.iter().zip((0..).map(FrontendId));
        all.map(|(frontend, id)| (&*frontend.name, read(id)))
            .try_for_each(|(name, value)| each(&[("frontend", name)], value))
    }

    fn backends(
        &self,
        each: Each<'_>,
        read: impl Fn(&Backend, BackendId) -> Option<Value>,
    ) -> fmt::Result {
        let all = self.running.traffic.snapshot.backends.iter().zip((0..).map(BackendId));
        all.filter_map(|(backend, id)| Some((&*backend.name, read(backend, id)?)))
            .try_for_each(|(name, value)| each(&[("backend", name)], value))
    }

    fn names(&self, each: Each<'_>, read: fn(&Followed) -> Value) -> fmt::Result {
        self.running.names.all().iter().try_for_each(|name| {
            let lookup = &name.lookup;
            let snapshot = &self.running.traffic.snapshot;
            let backend = snapshot.backend(snapshot.server(lookup.first).backend);
            let labels = [
                ("backend", &*backend.name),
                ("server", &*lookup.entry),
                ("name", lookup.name.asked()),
            ];
            each(&labels, read(name))
        })
    }

    /// Gives every server to `each`, with its labels.
    fn servers(
        &self,
        mut each: impl FnMut(ServerId, [(&'static str, &str); 2]) -> fmt::Result,
    ) -> fmt::Result {
        let snapshot = &self.running.traffic.snapshot;
        snapshot.servers.iter().zip((0..).map(ServerId)).try_for_each(|(server, id)| {
            let backend = &snapshot.backend(server.backend).name;
            each(id, [("backend", backend), ("server", &server.name)])
        })
    }
}
