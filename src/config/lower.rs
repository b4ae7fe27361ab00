//! From tables to one [`Snapshot`]: resolves references to ids, and finds duplicate names.
//!
//! Not here: the syntax of single values, which the readers have checked. Where something is
//! missing or was reported, a placeholder is used, so the rest can be checked too; the module above
//! returns no snapshot once an error was reported.

use std::collections::HashMap;
use std::ops::Range;

use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::settings::{self, Route, Snapshot};

use super::model::{Global, LogField};
use super::read::backend::{BackendTable, ServerTable};
use super::read::claims::BoundAddresses;
use super::read::frontend::FrontendTable;
use super::read::route;
use super::text::report::{Diagnostic, Diagnostics, quoted};
use super::text::synonyms;
use super::text::table::{At, Table};
use super::value::address::ServerAddress;
use super::value::lookup::Lookup;

/// Largest number of names in a hint.
const LISTED_MAX: usize = 5;

/// The generation of a configuration that was just read.
const FIRST_GENERATION: u64 = 1;

/// Names of one kind, to find duplicates.
#[derive(Debug, Default)]
struct UniqueNames(HashMap<String, Range<usize>>);

impl UniqueNames {
    fn insert(&mut self, sink: &Diagnostics, name: &At<&str>, plural: &str) {
        if let Some(first) = self.0.get(name.value) {
            sink.add(
                Diagnostic::at(
                    name.span.clone(),
                    format!("two {plural} are named {}", quoted(name.value)),
                )
                .label("again here")
                .also(first.clone(), "first here")
                .hint("give each a unique name"),
            );
            return;
        }
        self.0.insert(name.value.to_owned(), name.span.clone());
    }
}

/// Makes the snapshot and the list of DNS names to resolve; errors go to `sink`.
pub(super) fn snapshot(
    sink: &Diagnostics,
    global: &Global,
    frontends: Vec<FrontendTable<'_>>,
    backends: Vec<BackendTable<'_>>,
    claims: &mut BoundAddresses,
) -> (Snapshot, Vec<Lookup>) {
    let mut snapshot = Snapshot {
        generation: FIRST_GENERATION,
        max_connections: global.max_connections.unwrap_or(u32::MAX),
        log_sessions: global.access_log.is_some(),
        frontends: Vec::with_capacity(frontends.len()),
        backends: Vec::with_capacity(backends.len()),
        servers: Vec::new(),
    };
    let sees_roles: Vec<bool> = backends.iter().map(|backend| backend.sees_roles).collect();
    let lookups = lower_backends(sink, backends, &mut snapshot);
    lower_frontends(sink, frontends, &mut snapshot, &sees_roles, claims);
    let logged = global.access_log.iter().flat_map(|log| &log.fields);
    let wants_names = logged.copied().any(LogField::is_of_the_first_message);
    for frontend in &mut snapshot.frontends {
        frontend.log_names = wants_names && frontend.protocol.begins_with_the_client();
    }
    (snapshot, lookups)
}

fn lower_backends(
    sink: &Diagnostics,
    backends: Vec<BackendTable<'_>>,
    snapshot: &mut Snapshot,
) -> Vec<Lookup> {
    let mut lookups = Vec::new();
    let mut seen = UniqueNames::default();
    for backend in backends {
        if let Some(name) = &backend.name {
            seen.insert(sink, name, "backends");
        }
        let id = BackendId(id(snapshot.backends.len()));
        let first_server = ServerId(id_of_next_server(snapshot));
        let plural = format!("servers of {}", backend.table.called());
        let mut servers_seen = UniqueNames::default();
        for server in backend.servers {
            if let Some(name) = &server.name {
                servers_seen.insert(sink, name, &plural);
                for slot in slot_names(&server) {
                    servers_seen.insert(
                        sink,
                        &At { value: &slot, span: name.span.clone() },
                        &plural,
                    );
                }
            }
            lookups.extend(lower_server(server, id, snapshot));
        }
        snapshot.backends.push(settings::Backend {
            name: owned(backend.name.as_ref()),
            first_server,
            server_count: id_of_next_server(snapshot) - first_server.0,
            ..backend.settings
        });
    }
    lookups
}

/// Adds the servers of one entry of `server`; if it has a DNS name, returns what to resolve.
fn lower_server(
    server: ServerTable<'_>,
    backend: BackendId,
    snapshot: &mut Snapshot,
) -> Option<Lookup> {
    let (entry, slots) = (owned(server.name.as_ref()), slot_names(&server));
    let first = ServerId(id_of_next_server(snapshot));
    let (address, name) = match server.place {
        Some(ServerAddress::Fixed(address)) => (Some(address), None),
        Some(ServerAddress::Named(name)) => (None, Some(name)),
        None => (None, None),
    };
    let names = if slots.is_empty() { vec![entry.clone()] } else { slots };
    snapshot.servers.extend(names.into_iter().map(|name| settings::Server {
        name,
        backend,
        address: address.clone(),
        weight: server.weight,
        backup: server.backup,
        max_connections: server.max_connections,
        state: server.state,
    }));
    let (slots, weight) = (server.slots, server.weight);
    name.map(|name| Lookup { name, entry, first, slots, weight })
}

/// The names of an entry that stands for several servers: `web-1`, `web-2` and so on.
fn slot_names(server: &ServerTable<'_>) -> Vec<String> {
    let slots = if server.slots > 1 { server.slots } else { 0 };
    let name = owned(server.name.as_ref());
    (1..=slots).map(|slot| format!("{name}-{slot}")).collect()
}

fn lower_frontends(
    sink: &Diagnostics,
    frontends: Vec<FrontendTable<'_>>,
    snapshot: &mut Snapshot,
    sees_roles: &[bool],
    claims: &mut BoundAddresses,
) {
    let mut ids: HashMap<String, BackendId> = HashMap::new();
    for (index, backend) in snapshot.backends.iter().enumerate() {
        ids.entry(backend.name.clone()).or_insert_with(|| BackendId(id(index)));
    }
    let mut seen = UniqueNames::default();
    for frontend in frontends {
        if let Some(name) = &frontend.name {
            seen.insert(sink, name, "frontends");
        }
        for At { value, span } in &frontend.bind {
            claims.claim(&frontend.table, value, span.clone());
        }
        let find = |name: Option<&At<&str>>, table: &Table<'_>| {
            let found = name.map(|name| (ids.get(name.value), name));
            if let Some((None, name)) = found {
                sink.add(dangling(table, name, snapshot));
            }
            let id = found.and_then(|(id, _)| id.copied());
            if let Some(id) = id
                && !sees_roles.get(id.0 as usize).copied().unwrap_or(true)
            {
                refuse_role(table, &snapshot.backends[id.0 as usize].name);
            }
            id.unwrap_or_default()
        };
        let backend = find(frontend.backend.as_ref(), &frontend.table);
        let lowered = |entry: route::Entry<'_>| Route {
            backend: find(entry.backend.as_ref(), &entry.table),
            ..entry.route
        };
        let routes = frontend.routes.into_iter().map(lowered).collect();
        snapshot.frontends.push(settings::Frontend {
            name: owned(frontend.name.as_ref()),
            bind: frontend.bind.into_iter().map(|bind| bind.value).collect(),
            backend,
            routes,
            ..frontend.settings
        });
    }
}

/// Records an error for a role at a backend that has no check for roles.
fn refuse_role(table: &Table<'_>, backend: &str) {
    let role = table.value("role").filter(|role| role.as_str().is_some_and(|w| w.value != "any"));
    if let Some(role) = role {
        let why = format!("backend {} has no check that reports roles", quoted(backend));
        let hint = "add one to the backend: check = { kind = \"postgres\" }, \
                    \"mysql\" or \"redis\"";
        table.report(table.unusable("role", role.span, &why).hint(hint));
    }
}

/// The error for a backend that does not exist.
fn dangling(table: &Table<'_>, name: &At<&str>, snapshot: &Snapshot) -> Diagnostic {
    let title = format!(
        "{} refers to backend {}, which does not exist",
        table.called(),
        quoted(name.value)
    );
    let diagnostic =
        Diagnostic::at(name.span.clone(), title).label("no [[backend]] has this name").absence();
    let names = || snapshot.backends.iter().map(|backend| backend.name.as_str());
    if let Some(near) = synonyms::nearest(name.value, names()) {
        return diagnostic.hint(format!("did you mean {}?", quoted(near)));
    }
    let mut there: Vec<String> = Vec::new();
    for name in names().filter(|name| !name.is_empty()).map(quoted) {
        if there.len() < LISTED_MAX && !there.contains(&name) {
            there.push(name);
        }
    }
    if there.is_empty() {
        return diagnostic.hint("add a [[backend]] with name and server");
    }
    diagnostic.hint(format!("existing backends: {}", there.join(", ")))
}

fn owned(name: Option<&At<&str>>) -> String {
    name.map(|name| name.value.to_owned()).unwrap_or_default()
}

fn id_of_next_server(snapshot: &Snapshot) -> u32 {
    id(snapshot.servers.len())
}

/// An index as an id. The size limit of the file keeps the number of objects far below `u32::MAX`.
fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
