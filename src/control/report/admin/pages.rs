//! Pages to read: health, status and its parts, metrics.
//!
//! Their content is in `status` and `metrics`. Large ones are built on a helper thread. Not here:
//! streams (`feed`), orders. Invariant: a page takes what it shows from the state at the time of
//! the request.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

use super::find::{self, Refusal};
use super::openapi;
use super::orders::answer;
use crate::control::report::metrics::{self, Format};
use crate::control::report::status::{Backend, Frontend, Server, Shard, Status};
use crate::control::{Life, Running, Stage, thread};

pub(super) async fn healthz(State(life): State<Arc<Life>>) -> (StatusCode, &'static str) {
    match life.stage() {
        Stage::Serving => (StatusCode::OK, "ok"),
        stage => (StatusCode::SERVICE_UNAVAILABLE, stage.name()),
    }
}

pub(super) async fn metrics(State(running): State<Running>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    let page = built(move || metrics::scrape(&running, format).map_err(internal)).await;
    respond(page, format.content_type())
}

/// The document for programs.
pub(super) async fn openapi() -> Response {
    json_page(|| text(&openapi::document())).await
}

/// Of an OpenAPI document, whatever it has.
pub(super) fn any_shape(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

pub(super) async fn status(State(running): State<Running>) -> Response {
    json_page(move || text(&Status::of(&running))).await
}

/// All frontends.
#[derive(JsonSchema, Serialize)]
struct FrontendsPage<'a> {
    frontends: Vec<Frontend<'a>>,
}

pub(super) async fn frontends(State(running): State<Running>) -> Response {
    json_page(move || text(&FrontendsPage { frontends: Frontend::all(&running) })).await
}

pub(super) async fn frontend(State(running): State<Running>, Path(name): Path<String>) -> Response {
    json_page(move || {
        let id = find::frontend(&running.traffic.snapshot, &name)?;
        text(&Frontend::of(&running, id))
    })
    .await
}

/// All backends.
#[derive(JsonSchema, Serialize)]
struct BackendsPage<'a> {
    backends: Vec<Backend<'a>>,
}

pub(super) async fn backends(State(running): State<Running>) -> Response {
    json_page(move || text(&BackendsPage { backends: Backend::all(&running) })).await
}

pub(super) async fn backend(State(running): State<Running>, Path(name): Path<String>) -> Response {
    json_page(move || {
        let id = find::backend(&running.traffic.snapshot, &name)?;
        text(&Backend::of(&running, id))
    })
    .await
}

/// ServersPage, possibly of several backends.
#[derive(JsonSchema, Serialize)]
struct ServersPage<'a> {
    servers: Vec<ListedServer<'a>>,
}

/// A server with the name of its backend.
#[derive(JsonSchema, Serialize)]
struct ListedServer<'a> {
    backend: &'a str,
    #[serde(flatten)]
    server: Server<'a>,
}

/// The query string of a list of servers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServersQuery {
    backend: Option<String>,
    state: Option<String>,
}

/// Words that servers are selected by.
const STATES: [&str; 8] = ["up", "warming", "down", "absent", "ready", "drain", "maint", "ejected"];

pub(super) async fn servers(
    State(running): State<Running>,
    wanted: Result<Query<ServersQuery>, QueryRejection>,
) -> Response {
    json_page(move || {
        let Query(wanted) = wanted.map_err(|_| {
            Refusal::bad("the query may have backend=NAME and state=STATE, each once")
        })?;
        let snapshot = &running.traffic.snapshot;
        let only = wanted.backend.map(|name| find::backend(snapshot, &name)).transpose()?;
        let state = wanted.state.as_deref();
        if let Some(state) = state.filter(|state| !STATES.contains(state)) {
            let states = STATES.join(", ");
            return Err(Refusal::bad(format!("state must be one of {states}, not \"{state}\"")));
        }
        let backends = (0..)
            .zip(&snapshot.backends)
            .map(|(id, backend)| (ringlane_core::ids::BackendId(id), backend.name.as_str()));
        let mut servers = Vec::new();
        for (id, backend) in backends.filter(|(id, _)| only.is_none_or(|only| only == *id)) {
            let all = snapshot.ids_of(id).filter_map(|id| Server::of(&running, id));
            let wanted = all.filter(|server| state.is_none_or(|state| server.is(state)));
            servers.extend(wanted.map(|server| ListedServer { backend, server }));
        }
        text(&ServersPage { servers })
    })
    .await
}

pub(super) async fn server(
    State(running): State<Running>,
    Path((backend, server)): Path<(String, String)>,
) -> Response {
    json_page(move || {
        let id = find::server(&running.traffic.snapshot, &backend, &server)?;
        text(&Server::of(&running, id))
    })
    .await
}

/// All shards.
#[derive(JsonSchema, Serialize)]
struct ShardsPage {
    shards: Vec<Shard>,
}

pub(super) async fn shards(State(running): State<Running>) -> Response {
    json_page(move || text(&ShardsPage { shards: Shard::all(&running) })).await
}

pub(super) fn status_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<Status<'static>>()
}

pub(super) fn frontends_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<FrontendsPage<'static>>()
}

pub(super) fn frontend_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<Frontend<'static>>()
}

pub(super) fn backends_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<BackendsPage<'static>>()
}

pub(super) fn backend_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<Backend<'static>>()
}

pub(super) fn servers_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<ServersPage<'static>>()
}

pub(super) fn server_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<Server<'static>>()
}

pub(super) fn shards_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<ShardsPage>()
}

/// JSON for people, with a line end.
fn text(page: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string_pretty(page).map(|page| page + "\n").map_err(internal)
}

fn internal(error: impl ToString) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn json_page(page: impl FnOnce() -> Result<String, Refusal> + Send + 'static) -> Response {
    respond(built(page).await, "application/json")
}

fn respond(page: Result<String, Refusal>, kind: &'static str) -> Response {
    match page {
        Ok(page) => ([(CONTENT_TYPE, kind)], page).into_response(),
        Err(Refusal(status, why)) => answer(status, &json!({ "error": why })),
    }
}

/// Builds a page beside the control thread, since a page with thousands of servers takes time, and
/// one page at a time, since clients may ask for many.
pub(in crate::control::report) async fn built<T: Send + 'static>(
    page: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);
    let turn = ONE_AT_A_TIME.acquire().await.map_err(internal)?;
    // The new thread takes it, or this one if no thread can be started. Tokio's own pool would
    // panic then, and a limit on threads must not end the balancer.
    let page = Arc::new(Mutex::new(Some(page)));
    let apart = Arc::clone(&page);
    let take = |page: &Mutex<Option<_>>| page.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (done, built) = oneshot::channel();
    let thread = thread::spawn("admin-page", move || {
        if let Some(page) = take(&apart) {
            // Fails if the client has disconnected.
            let _ = done.send(page());
        }
        drop(turn);
    });
    match thread {
        Ok(_) => built.await.unwrap_or_else(|error| Err(internal(error))),
        Err(error) => take(&page).map_or_else(|| Err(internal(error)), |page| page()),
    }
}
