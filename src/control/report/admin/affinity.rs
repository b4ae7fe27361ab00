//! `/v1/backends/{backend}/affinity`: shows and deletes the clients that a backend remembers.
//!
//! Not here: the table (`balance::affinity` of the core). A table keeps hashes, not names: one
//! client is looked up by its key (`?key=10.0.0.1`), while a list shows places in the table.
//! Deleting is an order. Invariant: at most [`ENTRIES_MAX`] entries per
//! answer, whatever the size of the table.

use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use ringlane_core::balance::affinity::{AffinityEntry, Table};
use ringlane_core::balance::key_of;
use ringlane_core::ids::BackendId;
use ringlane_core::settings::HashKey;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::find::{self, Refusal};
use super::orders::answer;
use crate::control::traffic::Traffic;

/// Entries in one answer, unless the request has another number.
const ENTRIES_DEFAULT: usize = 100;

/// The most entries in one answer; a request for more gets this many.
const ENTRIES_MAX: usize = 1000;

/// The query string of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// One client.
    key: Option<String>,
    /// How many entries.
    entries: Option<usize>,
}

/// Keys of the query, with what they mean.
pub(super) const QUERY: &[(&str, &str)] =
    &[("key", "one client, such as 10.0.0.7"), ("entries", "entries in the list, 100 by default")];

/// Clients that a backend remembers. With `key`, only the server of that client.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for the schema")]
struct AffinityPage {
    backend: String,
    key: String,
    server: Option<String>,
    ttl_seconds: Option<f64>,
    size: Option<u64>,
    clients: Option<u64>,
    hits: Option<u64>,
    misses: Option<u64>,
    evictions: Option<u64>,
    entries: Option<Vec<Value>>,
}

/// How many clients were forgotten.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for the schema")]
struct Forgotten {
    backend: String,
    forgotten: u64,
}

pub(super) fn shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<AffinityPage>()
}

pub(super) fn forgotten_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<Forgotten>()
}

/// Where it is.
pub(super) const PATH: &str = "/v1/backends/{backend}/affinity";

pub(super) async fn show(
    State(traffic): State<Traffic>,
    Path(backend): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    respond(query(wanted).and_then(|wanted| match &wanted.key {
        Some(key) => client(&traffic, &backend, key),
        None => list(&traffic, &backend, wanted.entries.unwrap_or(ENTRIES_DEFAULT)),
    }))
}

/// What was asked for, or what can be asked for.
fn query(wanted: Result<Query<Wanted>, QueryRejection>) -> Result<Wanted, Refusal> {
    let Query(wanted) = wanted.map_err(|_| {
        Refusal::bad("the query may have key=CLIENT and entries=NUMBER, each once and nothing else")
    })?;
    Ok(wanted)
}

/// Forgets one client, or all.
pub(super) async fn forget(
    State(traffic): State<Traffic>,
    Path(backend): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let now = traffic.gauges.millis(Instant::now());
    let forgotten = query(wanted).and_then(|wanted| {
        let (_, table) = find(&traffic, &backend)?;
        Ok(match &wanted.key {
            None => table.clear(now),
            Some(text) => usize::from(table.forget(key(table, text)?, now)),
        })
    });
    respond(forgotten.map(|forgotten| json!({ "backend": backend, "forgotten": forgotten })))
}

fn respond(outcome: Result<Value, Refusal>) -> Response {
    match outcome {
        Ok(page) => answer(StatusCode::OK, &page),
        Err(Refusal(status, why)) => answer(status, &json!({ "error": why })),
    }
}

fn client(traffic: &Traffic, backend: &str, text: &str) -> Result<Value, Refusal> {
    let (id, table) = find(traffic, backend)?;
    let found = table.peek(key(table, text)?, traffic.gauges.millis(Instant::now()));
    let server = found.and_then(|server| traffic.snapshot.servers_of(id).get(server));
    let server = server.ok_or_else(|| {
        Refusal::not_found(format!("backend \"{backend}\" has no entry for {text}"))
    })?;
    Ok(json!({ "backend": backend, "key": text, "server": server.name }))
}

fn list(traffic: &Traffic, backend: &str, entries: usize) -> Result<Value, Refusal> {
    let (id, table) = find(traffic, backend)?;
    let servers = traffic.snapshot.servers_of(id);
    let entry = |entry: AffinityEntry| {
        json!({
            "place": entry.place,
            "server": servers.get(entry.server).map(|server| &server.name),
            "expires_in_seconds": entry.left.as_secs_f64(),
        })
    };
    let now = traffic.gauges.millis(Instant::now());
    let entries: Vec<Value> =
        table.entries(now).take(entries.min(ENTRIES_MAX)).map(entry).collect();
    let affinity = table.affinity();
    Ok(json!({
        "backend": backend,
        "key": key_word(affinity.key),
        "ttl_seconds": affinity.ttl.as_secs_f64(),
        "size": table.size(),
        "clients": traffic.remembered_clients(id),
        "hits": traffic.affinity_total(id, |a| a.hits.get()),
        "misses": traffic.affinity_total(id, |a| a.misses.get()),
        "evictions": traffic.affinity_total(id, |a| a.evictions.get()),
        "entries": entries,
    }))
}

fn find<'a>(traffic: &'a Traffic, backend: &str) -> Result<(BackendId, &'a Table), Refusal> {
    let id = find::backend(&traffic.snapshot, backend)?;
    let table = traffic.gauges.affinity(id).map(|table| (id, table));
    table.ok_or_else(|| Refusal::not_found(format!("backend \"{backend}\" has no `affinity`")))
}

fn key(table: &Table, text: &str) -> Result<u64, Refusal> {
    let kind = table.affinity().key;
    key_of(kind, text).ok_or_else(|| {
        let wanted = match kind {
            HashKey::Client => "an address with its port, such as 10.0.0.1:5000",
            HashKey::ClientIp => "an address, such as 10.0.0.1",
            HashKey::Sni => "a name",
            HashKey::User => "a user",
        };
        Refusal::bad(format!("key must be {wanted}, not \"{text}\""))
    })
}

/// The value of `key` in the configuration file.
fn key_word(key: HashKey) -> &'static str {
    match key {
        HashKey::ClientIp => "client_ip",
        HashKey::Client => "client",
        HashKey::Sni => "sni",
        HashKey::User => "user",
    }
}
