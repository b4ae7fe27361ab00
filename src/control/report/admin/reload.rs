//! `POST /v1/reload`, `PUT /v1/config`, `POST /v1/plan`, `GET /v1/snapshots`: another
//! configuration.
//!
//! On the unix socket only: whoever may change the configuration may run programs by it. Not here:
//! the reload (`run::reload`). Invariant: an answer comes once the new configuration is served, or
//! with every reason why it is not.

use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::Caller;
use super::orders::answer;
use crate::control::Running;
use crate::control::run::refusals::ReloadRefusal;
use crate::control::run::requests::{
    ConfigOrigin, Published, ReloadOutcome, ReloadRequest, Reloaded,
};

/// Bytes of a configuration in a request.
pub(super) const TEXT_MAX: usize = 4 * 1024 * 1024;

/// Keys of the query of all of these requests.
pub(super) const QUERY: &[(&str, &str)] =
    &[("expect", "refuse with 409 unless this generation is served")];

/// What all of these requests may have behind the `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The generation that the request was made for.
    expect: Option<u64>,
}

/// Reads the file again.
pub(super) async fn reload(
    State(running): State<Running>,
    Extension(caller): Extension<Caller>,
    Query(options): Query<Options>,
) -> Response {
    ask(&running, &caller, ConfigOrigin::File, options, false).await
}

/// Serves the text in the body in place of the file.
pub(super) async fn put(
    State(running): State<Running>,
    Extension(caller): Extension<Caller>,
    Query(options): Query<Options>,
    body: Bytes,
) -> Response {
    match text(&body) {
        Some(text) => ask(&running, &caller, ConfigOrigin::Text(text), options, false).await,
        None => not_text(),
    }
}

/// What would happen with the text in the body, or, without one, with the file.
pub(super) async fn plan(
    State(running): State<Running>,
    Extension(caller): Extension<Caller>,
    Query(options): Query<Options>,
    body: Bytes,
) -> Response {
    if body.is_empty() {
        return ask(&running, &caller, ConfigOrigin::File, options, true).await;
    }
    match text(&body) {
        Some(text) => ask(&running, &caller, ConfigOrigin::Text(text), options, true).await,
        None => not_text(),
    }
}

/// Serves an earlier text again.
pub(super) async fn rollback(
    State(running): State<Running>,
    Extension(caller): Extension<Caller>,
    Path(generation): Path<u64>,
    Query(options): Query<Options>,
) -> Response {
    ask(&running, &caller, ConfigOrigin::Generation(generation), options, false).await
}

/// The configurations that were served, the oldest first.
#[derive(JsonSchema, Serialize)]
struct HistoryPage {
    /// The one that is served.
    generation: u64,
    snapshots: Vec<HistoryEntry>,
}

/// A configuration that was served.
#[derive(JsonSchema, Serialize)]
struct HistoryEntry {
    generation: u64,
    /// Whether it is served now.
    current: bool,
    /// When it was published.
    at: Option<String>,
    /// What asked for it.
    by: String,
}

/// Another configuration is served, or would be.
#[derive(JsonSchema, Serialize)]
struct ReloadAnswer {
    ok: bool,
    /// The generation before.
    from: u64,
    generation: u64,
    /// What has changed, a line each.
    changes: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<ReloadAnswer>()
}

pub(super) fn history_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<HistoryPage>()
}

/// The configurations that were published, the oldest first.
pub(super) async fn history(State(running): State<Running>) -> Response {
    let generation = running.traffic.snapshot.generation;
    let entry = |one: Published| HistoryEntry {
        generation: one.generation,
        current: one.generation == generation,
        at: Timestamp::try_from(one.at).map(|at| at.to_string()).ok(),
        by: one.by,
    };
    let snapshots = running.reloads.history().await.into_iter().map(entry).collect();
    answer(StatusCode::OK, &json!(HistoryPage { generation, snapshots }))
}

fn text(body: &[u8]) -> Option<String> {
    String::from_utf8(body.to_vec()).ok()
}

fn not_text() -> Response {
    let why = "the body must be a configuration in UTF-8";
    answer(StatusCode::BAD_REQUEST, &json!({ "error": why }))
}

async fn ask(
    running: &Running,
    caller: &Caller,
    origin: ConfigOrigin,
    options: Options,
    plan: bool,
) -> Response {
    let Options { expect } = options;
    let by = format!("admin API, {caller}");
    let request = ReloadRequest { origin, expect, plan, by, answer: None };
    respond(running.reloads.ask(request).await)
}

fn respond(outcome: ReloadOutcome) -> Response {
    match outcome {
        Ok(Reloaded { from, generation, changes, warnings }) => {
            let ok = true;
            let body = ReloadAnswer { ok, from, generation, changes, warnings };
            answer(StatusCode::OK, &json!(body))
        }
        Err(refusal) => {
            let ReloadRefusal { is_conflict, reasons } = &refusal;
            let status = match is_conflict {
                true => StatusCode::CONFLICT,
                false => StatusCode::UNPROCESSABLE_ENTITY,
            };
            answer(status, &json!({ "error": refusal.to_string(), "reasons": reasons }))
        }
    }
}
