//! `POST /v1/backends/{backend}/servers/{server}`: operators change a server's state and weight.
//!
//! Accepted on the unix socket only, whose permissions decide who may use it; the TCP address is
//! read-only. The body is JSON: `{"state": "ready" | "drain" | "maint", "weight": 0 to 1000}`,
//! either or both.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::settings::Snapshot;
use ringlane_health::Admin;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::servers::{Servers, WEIGHT_MAX};

/// What is ordered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    state: Option<String>,
    weight: Option<u32>,
}

pub(super) async fn order(
    State(servers): State<Arc<Servers>>,
    Path((backend, server)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    match apply(&servers, &backend, &server, &body) {
        Ok(()) => answer(StatusCode::OK, &json!({ "ok": true })),
        Err((status, why)) => answer(status, &json!({ "error": why })),
    }
}

/// Answers orders on the read-only socket.
pub(super) async fn refused() -> Response {
    let why = "changes are accepted on the unix socket only ([global] admin.socket)";
    answer(StatusCode::FORBIDDEN, &json!({ "error": why }))
}

fn apply(
    servers: &Servers,
    backend: &str,
    server: &str,
    body: &[u8],
) -> Result<(), (StatusCode, String)> {
    let id =
        find(servers.snapshot(), backend, server).map_err(|why| (StatusCode::NOT_FOUND, why))?;
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let order = read(body).map_err(bad)?;
    let admin = order.state.as_deref().map(|word| {
        let admin = [Admin::Ready, Admin::Drain, Admin::Maint];
        let admin = admin.into_iter().find(|admin| admin.name() == word);
        admin.ok_or_else(|| bad(format!("state must be ready, drain or maint, not \"{word}\"")))
    });
    let admin = admin.transpose()?;
    if let Some(weight) = order.weight.filter(|weight| *weight > WEIGHT_MAX) {
        return Err(bad(format!(
            "weight must be a whole number from 0 to {WEIGHT_MAX}, not {weight}"
        )));
    }
    if admin.is_none() && order.weight.is_none() {
        return Err(bad("nothing to change: give state, weight or both".to_owned()));
    }
    if let Some(weight) = order.weight {
        servers.set_weight(id, weight);
    }
    if let Some(admin) = admin {
        servers.set_admin(id, admin);
    }
    Ok(())
}

/// Reads an order; what is wrong with it, in words of the API rather than of Rust.
fn read(body: &[u8]) -> Result<Order, String> {
    const LIKE: &str = "the body must be a JSON object like {\"state\": \"drain\", \"weight\": 10}";
    let value: Value = serde_json::from_slice(body).map_err(|error| match body {
        [] => format!("{LIKE}; it is empty"),
        _ => format!("{LIKE}; it is not JSON: {error}"),
    })?;
    // An array would pass as the fields of the struct in their order.
    let Value::Object(keys) = &value else { return Err(format!("{LIKE}, not {value}")) };
    for (key, value) in keys {
        match key.as_str() {
            "state" if value.is_string() || value.is_null() => {}
            "state" => return Err(format!("state must be ready, drain or maint, not {value}")),
            "weight" if value.is_null() || value.as_u64().is_some_and(|n| n <= u32::MAX.into()) => {
            }
            "weight" => {
                return Err(format!(
                    "weight must be a whole number from 0 to {WEIGHT_MAX}, not {value}"
                ));
            }
            _ => return Err(format!("unknown key \"{key}\": there are state and weight")),
        }
    }
    // What is left is a key that is there twice.
    serde_json::from_slice(body).map_err(|error| format!("{LIKE}: {error}"))
}

fn find(snapshot: &Snapshot, backend: &str, server: &str) -> Result<ServerId, String> {
    let mut backends = (0..).map(BackendId).zip(&snapshot.backends);
    let found = backends.find(|(_, found)| found.name == backend);
    let (id, _) = found.ok_or_else(|| format!("there is no backend \"{backend}\""))?;
    let found = snapshot.ids_of(id).find(|id| snapshot.server(*id).name == server);
    found.ok_or_else(|| format!("backend \"{backend}\" has no server \"{server}\""))
}

/// JSON with a line end.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_an_object_and_what_is_wrong_with_it_is_said_in_words_of_the_api() {
        let order = read(br#"{"state": "drain", "weight": 3}"#).unwrap();
        assert_eq!((order.state.as_deref(), order.weight), (Some("drain"), Some(3)));
        assert!(read(br#"{"weight": null, "state": "ready"}"#).unwrap().weight.is_none());
        let weight = "weight must be a whole number from 0 to 1000, not ";
        for (body, why) in [
            ("", "; it is empty"),
            ("drain", "; it is not JSON: "),
            (r#"["drain",5]"#, r#", not ["drain",5]"#),
            ("5", ", not 5"),
            (r#"{"weight": "5"}"#, &format!("{weight}\"5\"")),
            (r#"{"weight": -1}"#, &format!("{weight}-1")),
            (r#"{"weight": 1.5}"#, &format!("{weight}1.5")),
            (r#"{"weight": 4294967296}"#, &format!("{weight}4294967296")),
            (r#"{"state": true}"#, "state must be ready, drain or maint, not true"),
            (r#"{"stat": "drain"}"#, "unknown key \"stat\": there are state and weight"),
            (r#"{"weight": 1, "weight": 2}"#, "duplicate field"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
            for word in ["struct", "u32", "expected"] {
                assert!(body == "drain" || !error.contains(word), "{body}: {error}");
            }
        }
    }
}
