//! The admin API over HTTP, on the control thread: pages to read, streams, and orders.
//!
//! Not here: content of pages (`status`, `metrics`), states of servers (`servers`). Invariants: the
//! sockets listen before privileges are given up, except for a TCP address that a terminating
//! process still holds; clients are served within bounds, so that they can't use up the process's
//! descriptors; every request but those for `/healthz` has passed `access`. Next: `routes`, the
//! list of all there is.

mod access;
pub(in crate::control) mod affinity;
pub(in crate::control) mod apply;
mod bound;
mod connection;
pub(in crate::control) mod find;
mod openapi;
mod orders;
mod origin;
mod pages;
mod reload;

pub(crate) mod routes;
mod spares;
mod takeover;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::control::log;
use crate::control::running::Current;
use crate::control::traffic::Traffic;
use crate::control::{Life, Running};
pub(in crate::control) use access::{Access, REFUSALS};
use bound::AdminHttp;
pub use bound::{AdminBindError, Bound, bind};
use connection::Bounded;
pub(super) use orders::answer;
use origin::Accepts;
pub(super) use origin::Requester;
pub(super) use pages::built;

/// Bytes in the largest body of a request, unless a route allows more.
const BODY_MAX: usize = 64 * 1024;

/// Answers on the sockets of `bound` until the future is dropped. Needs a tokio runtime.
pub(in crate::control) async fn serve(bound: Bound, current: Current) {
    let Bound { socket, http, files, rules, .. } = bound;
    let access = current.get().access;
    access.replace(rules);
    let router = |is_unix| {
        routes::router(&access, is_unix)
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .layer(from_fn_with_state(Arc::clone(&access), access::admit))
            .with_state(current.clone())
    };
    let unix = listen("socket", socket.map(tokio::net::UnixListener::from_std), router(true));
    let tcp = async {
        let listener = match http {
            None => None,
            Some(AdminHttp::Listening(listener)) => {
                Some(tokio::net::TcpListener::from_std(listener))
            }
            Some(AdminHttp::Held(address)) => Some(takeover::bind_later(address).await),
        };
        listen("http", listener, router(false)).await;
    };
    tokio::join!(unix, tcp);
    drop(files);
}

impl FromRef<Current> for Running {
    fn from_ref(current: &Current) -> Self {
        current.get()
    }
}

impl FromRef<Current> for Arc<Access> {
    fn from_ref(current: &Current) -> Self {
        current.get().access
    }
}

impl FromRef<Current> for Arc<Life> {
    fn from_ref(current: &Current) -> Self {
        current.get().life
    }
}

impl FromRef<Current> for Traffic {
    fn from_ref(current: &Current) -> Self {
        current.get().traffic
    }
}

/// Serves on one socket, if there is one. Returns only on failure.
async fn listen<L>(key: &'static str, listener: Option<io::Result<L>>, router: Router)
where
    L: Accepts<Addr: fmt::Debug>,
{
    let outcome = match listener {
        None => future::pending().await,
        Some(Err(error)) => Err(error),
        Some(Ok(listener)) => {
            // Each connection carries one request, so that idle clients occupy no slot.
            let router = router.layer(map_response(close));
            let service = router.into_make_service_with_connect_info::<Requester>();
            axum::serve(Bounded::new(key, listener), service).await
        }
    };
    if let Err(error) = outcome {
        log::error(format_args!("admin API stopped: {error}; traffic is not affected"));
    }
}

/// Has the connection end with the answer.
async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers what no route is for.
async fn not_found(uri: Uri) -> Response {
    unknown(StatusCode::NOT_FOUND, "No such page", &uri)
}

async fn wrong_method(uri: Uri) -> Response {
    unknown(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", &uri)
}

/// Names the routes that there are, to people as text and to programs as JSON.
fn unknown(status: StatusCode, what: &str, uri: &Uri) -> Response {
    if uri.path().starts_with("/v1/") {
        let why = format!("{what}: GET /v1/openapi.json and `ringlane ctl routes` list the routes");
        return answer(status, &json!({ "error": why }));
    }
    (status, format!("{what}. There are:\n{}", routes::listing())).into_response()
}
