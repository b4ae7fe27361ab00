//! The admin API over HTTP, on the control thread: pages to read, and orders on the unix socket.
//!
//! Pages are built on threads of their own. Not here: their content (`status`, `metrics`), the
//! effect of an order (`servers`). Invariants: the sockets listen before privileges are given up,
//! except for a TCP address that a terminating process still holds; clients are served within
//! bounds, so that they can't use up the process's descriptors. Next: `bound`, `connection`.

pub(in crate::control) mod affinity;
mod bound;
mod connection;
mod orders;
mod spares;
mod takeover;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::header::{ACCEPT, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::sync::{Semaphore, oneshot};

use crate::control::Running;
use crate::control::log;
use crate::control::report::metrics;
use crate::control::report::metrics::Format;
use crate::control::report::status;
use crate::control::servers::Servers;
use crate::control::traffic::Traffic;
use crate::control::{Life, Stage, thread};
use bound::AdminHttp;
pub use bound::{AdminBindError, Bound, bind};
use connection::{Accepts, Bounded};

const PAGES: &str = "There are:\n  GET /healthz   200 while serving, 503 before, after and during \
                     shutdown_delay\n  \
                     GET /status    everything as JSON\n  GET /metrics   Prometheus text\n  \
                     POST /v1/backends/BACKEND/servers/SERVER   {\"state\": \"ready|drain|maint\", \
                     \"weight\": N}\n  GET, DELETE /v1/backends/BACKEND/affinity   remembered clients; \
                     ?key= for one\n";

/// Answers on the sockets of `bound` until the future is dropped. Needs a tokio runtime.
pub async fn serve(bound: Bound, running: Running) {
    let Bound { socket, http, files } = bound;
    let read_only = router();
    let server = "/v1/backends/{backend}/servers/{server}";
    let read_write = read_only
        .clone()
        .route(server, post(orders::order))
        .route(affinity::PATH, delete(affinity::forget));
    let read_only = read_only
        .route(server, post(orders::refused))
        .route(affinity::PATH, delete(orders::refused));
    // Of all routes, so last.
    let read_write =
        read_write.method_not_allowed_fallback(wrong_method).with_state(running.clone());
    let read_only = read_only.method_not_allowed_fallback(wrong_method);
    let unix = listen("socket", socket.map(tokio::net::UnixListener::from_std), read_write);
    let tcp = async {
        let listener = match http {
            None => None,
            Some(AdminHttp::Listening(listener)) => {
                Some(tokio::net::TcpListener::from_std(listener))
            }
            Some(AdminHttp::Held(address)) => Some(takeover::bind_later(address).await),
        };
        listen("http", listener, read_only.with_state(running)).await;
    };
    tokio::join!(unix, tcp);
    drop(files);
}

impl FromRef<Running> for Arc<Life> {
    fn from_ref(running: &Running) -> Self {
        Self::clone(&running.life)
    }
}

impl FromRef<Running> for Arc<Servers> {
    fn from_ref(running: &Running) -> Self {
        Self::clone(&running.servers)
    }
}

impl FromRef<Running> for Traffic {
    fn from_ref(running: &Running) -> Self {
        running.traffic.clone()
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
            axum::serve(Bounded::new(key, listener), router).await
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

/// What every socket has.
fn router() -> Router<Running> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/status", get(status_page))
        .route("/metrics", get(metrics_page))
        .route(affinity::PATH, get(affinity::show))
        .fallback(not_found)
}

async fn healthz(State(life): State<Arc<Life>>) -> (StatusCode, &'static str) {
    match life.stage() {
        Stage::Serving => (StatusCode::OK, "ok"),
        stage => (StatusCode::SERVICE_UNAVAILABLE, stage.name()),
    }
}

async fn status_page(State(running): State<Running>) -> Response {
    let page = move || {
        let page = serde_json::to_string_pretty(&status::Status::of(&running));
        page.map(|page| page + "\n").map_err(|error| error.to_string())
    };
    respond(built(page).await, "application/json")
}

async fn metrics_page(State(running): State<Running>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    let page = move || metrics::scrape(&running, format).map_err(|error| error.to_string());
    respond(built(page).await, format.content_type())
}

fn respond(page: Result<String, String>, kind: &'static str) -> Response {
    match page {
        Ok(page) => ([(CONTENT_TYPE, kind)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// Builds a page beside the control thread, since a page with thousands of servers takes time, and
/// one page at a time, since clients may ask for many.
async fn built(
    page: impl FnOnce() -> Result<String, String> + Send + 'static,
) -> Result<String, String> {
    static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);
    let turn = ONE_AT_A_TIME.acquire().await.map_err(|error| error.to_string())?;
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
        Ok(_) => built.await.unwrap_or_else(|error| Err(error.to_string())),
        Err(error) => take(&page).map_or_else(|| Err(error.to_string()), |page| page()),
    }
}

async fn not_found() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("No such page. {PAGES}"))
}

async fn wrong_method() -> (StatusCode, String) {
    (StatusCode::METHOD_NOT_ALLOWED, format!("Method not allowed. {PAGES}"))
}
