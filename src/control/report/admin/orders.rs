//! Orders of operators: servers and frontends are changed, changes are listed and put back.
//!
//! Not here: how an order takes effect (`apply`). A body is a JSON object; what is wrong with it is
//! reported in words of the API rather than of Rust. Invariant: a body that is refused changes
//! nothing.

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use ringlane_health::Admin;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access::Caller;
use super::apply;
use super::find::Refusal;
use crate::control::Running;
use crate::control::changes::{self, Override, Setting, Subject};
use crate::control::running::Current;
use crate::control::servers::WEIGHT_MAX;

/// ChangesPage of a server. A key that is absent leaves things as they are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the schema, and to find keys that are there twice")]
struct ServerOrderBody {
    /// `ready`, `drain` (no new sessions) or `maint` (no sessions at all).
    state: Option<String>,
    /// Its share of sessions relative to other servers, 0 to 1000.
    weight: Option<u64>,
    /// Sessions at once; null: no limit.
    max_connections: Option<u64>,
}

/// ChangesPage of a frontend. A key that is absent leaves things as they are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the schema, and to find keys that are there twice")]
struct FrontendOrderBody {
    /// While it is paused, connections wait in the kernel's queue.
    paused: Option<bool>,
    /// Sessions at once; null: no limit of its own.
    max_connections: Option<u64>,
}

/// An order was carried out.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for the schema")]
struct Done {
    ok: bool,
}

/// Keys of a kind of order, with an example of a body.
struct OrderKind {
    keys: &'static [&'static str],
    example: &'static str,
}

const SERVER: OrderKind = OrderKind {
    keys: &["state", "weight", "max_connections"],
    example: "{\"state\": \"drain\", \"weight\": 10}",
};

const FRONTEND: OrderKind =
    OrderKind { keys: &["paused", "max_connections"], example: "{\"paused\": true}" };

pub(super) async fn server(
    State(current): State<Current>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Bytes,
) -> Response {
    // Only now: another configuration may have been served while the body came.
    let running = current.get();
    done(path_of(path).and_then(|(backend, server)| {
        let subject = Subject::Server { backend, server };
        apply::exists(&running, &subject)?;
        let settings = settings::<ServerOrderBody>(&SERVER, &body)?;
        apply::order(&running, &subject, &settings, &caller.to_string())
    }))
}

pub(super) async fn frontend(
    State(current): State<Current>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Response {
    // Only now, as above.
    let running = current.get();
    done(path_of(path).and_then(|frontend| {
        let subject = Subject::Frontend { frontend };
        apply::exists(&running, &subject)?;
        let settings = settings::<FrontendOrderBody>(&FRONTEND, &body)?;
        apply::order(&running, &subject, &settings, &caller.to_string())
    }))
}

/// All changes.
#[derive(JsonSchema, Serialize)]
struct ChangesPage {
    changes: Vec<ShownOverride>,
}

/// A value that an operator changed at run time.
#[derive(JsonSchema, Serialize)]
struct ShownOverride {
    id: u64,
    /// For a change of a frontend.
    #[serde(skip_serializing_if = "Option::is_none")]
    frontend: Option<String>,
    /// For a change of a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// `state`, `weight`, `max_connections` or `paused`.
    key: &'static str,
    /// The value of the configuration; null: no limit.
    from: Value,
    /// The value now.
    to: Value,
    /// The process or the token that ordered it.
    by: String,
    at: String,
}

impl From<Override> for ShownOverride {
    fn from(change: Override) -> Self {
        let (frontend, backend, server) = match change.subject {
            Subject::Frontend { frontend } => (Some(frontend), None, None),
            Subject::Server { backend, server } => (None, Some(backend), Some(server)),
        };
        Self {
            id: change.id,
            frontend,
            backend,
            server,
            key: change.to.key(),
            from: change.from.to_json(),
            to: change.to.to_json(),
            by: change.by,
            at: changes::time(change.at),
        }
    }
}

pub(super) async fn changes(State(running): State<Running>) -> Response {
    let changes = running.overlay.lock().list().into_iter().map(ShownOverride::from).collect();
    match serde_json::to_value(ChangesPage { changes }) {
        Ok(page) => answer(StatusCode::OK, &page),
        Err(error) => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error.to_string() }))
        }
    }
}

pub(super) async fn put_back(
    State(running): State<Running>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<u64>, PathRejection>,
) -> Response {
    let id = path.map(|Path(id)| id);
    let id = id.map_err(|_| Refusal::bad("the number of a change must be a whole number"));
    done(id.and_then(|id| apply::put_back(&running, id, &caller.to_string()).map(drop)))
}

pub(super) fn server_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<ServerOrderBody>()
}

pub(super) fn frontend_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<FrontendOrderBody>()
}

pub(super) fn done_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<Done>()
}

pub(super) fn changes_shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<ChangesPage>()
}

fn done(outcome: Result<(), Refusal>) -> Response {
    match outcome {
        Ok(()) => answer(StatusCode::OK, &json!({ "ok": true })),
        Err(Refusal(status, why)) => answer(status, &json!({ "error": why })),
    }
}

/// The names in a path.
fn path_of<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    path.map(|Path(names)| names).map_err(|_| Refusal::bad("a name in the path is not UTF-8"))
}

/// Reads an order of one kind, whose shape is `T`.
fn settings<'a, T: Deserialize<'a>>(
    kind: &OrderKind,
    body: &'a [u8],
) -> Result<Vec<Setting>, Refusal> {
    let like = format!("the body must be a JSON object like {}", kind.example);
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad(match body {
            [] => format!("{like}; it is empty"),
            _ => format!("{like}; it is not JSON: {error}"),
        })
    })?;
    // An array would pass as the fields of the struct in their order.
    let Value::Object(keys) = &value else {
        return Err(Refusal::bad(format!("{like}, not {value}")));
    };
    if let Some(key) = keys.keys().find(|key| !kind.keys.contains(&key.as_str())) {
        let (last, others) = kind.keys.split_last().unwrap_or((&"", &[]));
        let known = format!("{} and {last}", others.join(", "));
        return Err(Refusal::bad(format!("unknown key \"{key}\": there are {known}")));
    }
    let read = read_keys(keys)?;
    if read.is_empty() {
        let keys = kind.keys.join(", ");
        return Err(Refusal::bad(format!("nothing to change: give one or more of {keys}")));
    }
    // What is left is a key that is there twice.
    serde_json::from_slice::<T>(body).map_err(|error| Refusal::bad(format!("{like}: {error}")))?;
    Ok(read)
}

fn read_keys(keys: &Map<String, Value>) -> Result<Vec<Setting>, Refusal> {
    let mut read = Vec::new();
    for (key, value) in keys {
        read.push(match (key.as_str(), value) {
            ("max_connections", Value::Null) => Setting::MaxConnections(u32::MAX),
            (_, Value::Null) => continue,
            ("max_connections", _) => {
                let max = value.as_u64().and_then(|max| u32::try_from(max).ok());
                let max = max.filter(|max| *max > 0).ok_or_else(|| {
                    Refusal::bad(format!(
                        "max_connections must be a whole number from 1 to {}, or null for no \
                         limit, not {value}",
                        u32::MAX
                    ))
                })?;
                Setting::MaxConnections(max)
            }
            ("paused", _) => {
                let paused = value.as_bool();
                let why = || Refusal::bad(format!("paused must be true or false, not {value}"));
                Setting::Paused(paused.ok_or_else(why)?)
            }
            ("weight", _) => {
                let weight = value.as_u64().and_then(|weight| u32::try_from(weight).ok());
                let weight = weight.filter(|weight| *weight <= WEIGHT_MAX);
                let why = || {
                    Refusal::bad(format!(
                        "weight must be a whole number from 0 to {WEIGHT_MAX}, not {value}"
                    ))
                };
                Setting::Weight(weight.ok_or_else(why)?)
            }
            _ => {
                let admin = [Admin::Ready, Admin::Drain, Admin::Maint];
                let word = value.as_str();
                let admin = admin.into_iter().find(|admin| Some(admin.name()) == word);
                let why =
                    || Refusal::bad(format!("state must be ready, drain or maint, not {value}"));
                Setting::State(admin.ok_or_else(why)?)
            }
        });
    }
    // A state comes last, so that a server is put back with its weight and its limit.
    read.sort_by_key(|setting| matches!(setting, Setting::State(_)));
    Ok(read)
}

/// JSON with a line end.
pub(in crate::control::report) fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(body: &str) -> Result<Vec<Setting>, String> {
        settings::<ServerOrderBody>(&SERVER, body.as_bytes()).map_err(|Refusal(_, why)| why)
    }

    #[test]
    fn an_order_is_an_object_and_what_is_wrong_with_it_is_said_in_words_of_the_api() {
        let (drain, weight) = (Setting::State(Admin::Drain), Setting::Weight(3));
        assert_eq!(server(r#"{"state": "drain", "weight": 3}"#), Ok(vec![weight, drain]));
        let ready = vec![Setting::State(Admin::Ready)];
        assert_eq!(server(r#"{"weight": null, "state": "ready"}"#), Ok(ready));
        let unlimited = vec![Setting::MaxConnections(u32::MAX)];
        assert_eq!(server(r#"{"max_connections": null}"#), Ok(unlimited));
        let weight = "weight must be a whole number from 0 to 1000, not ";
        let max = "max_connections must be a whole number from 1 to 4294967295, or null";
        for (body, why) in [
            ("", "; it is empty"),
            ("drain", "; it is not JSON: "),
            (r#"["drain",5]"#, r#", not ["drain",5]"#),
            ("5", ", not 5"),
            ("{}", "nothing to change: give one or more of state, weight, max_connections"),
            (r#"{"weight": "5"}"#, &format!("{weight}\"5\"")),
            (r#"{"weight": -1}"#, &format!("{weight}-1")),
            (r#"{"weight": 1.5}"#, &format!("{weight}1.5")),
            (r#"{"weight": 1001}"#, &format!("{weight}1001")),
            (r#"{"weight": 4294967296}"#, &format!("{weight}4294967296")),
            (r#"{"state": true}"#, "state must be ready, drain or maint, not true"),
            (r#"{"state": "up"}"#, "state must be ready, drain or maint, not \"up\""),
            (r#"{"max_connections": 0}"#, max),
            (r#"{"stat": "drain"}"#, "unknown key \"stat\": there are state, weight and max"),
            (r#"{"weight": 1, "weight": 2}"#, "duplicate field"),
        ] {
            let error = server(body).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
            for word in ["struct", "u32", "expected"] {
                assert!(body == "drain" || !error.contains(word), "{body}: {error}");
            }
        }
    }

    #[test]
    fn a_frontend_has_keys_of_its_own() {
        let frontend = |body: &str| {
            settings::<FrontendOrderBody>(&FRONTEND, body.as_bytes()).map_err(|Refusal(_, why)| why)
        };
        assert_eq!(frontend(r#"{"paused": true}"#), Ok(vec![Setting::Paused(true)]));
        let why = frontend(r#"{"paused": 1}"#).unwrap_err();
        assert_eq!(why, "paused must be true or false, not 1");
        let why = frontend(r#"{"weight": 1}"#).unwrap_err();
        assert_eq!(why, "unknown key \"weight\": there are paused and max_connections");
    }
}
