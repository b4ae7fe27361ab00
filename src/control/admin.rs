//! The admin API over HTTP, on the control thread: pages to read, and orders on the unix socket.
//!
//! Pages are built beside it. Not here: what they say (`status`, `metrics`), what becomes of an order
//! (`servers`). Invariants: the sockets listen before privileges are given up; at most [`CONNECTIONS_MAX`] clients per socket
//! are served at once, and one that is silent for [`IDLE_MAX`] is cut off, so that nobody can use up
//! the process's descriptors from here. Next: `connection`.

pub(super) mod affinity;
mod connection;
mod orders;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, Permissions};
use std::future;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::{Semaphore, oneshot};

use super::Running;
use super::log::say;
use super::metrics::Format;
use super::privileges::{Identity, PrivilegesError};
use super::running::Stage;
use super::signals::block_here;
use super::sockets::{Problem, SocketFiles, make_room};
use super::{metrics, status};
use crate::config;
use connection::Bounded;

/// Clients served at once on one socket; more wait in its queue.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may neither send nor take anything.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Connections that wait in the kernel.
const BACKLOG: i32 = 128;
/// The owner and the group may use the unix socket.
const SOCKET_MODE: u32 = 0o660;

const PAGES: &str = "There are:\n  GET /healthz   200 while serving, 503 before and after, and during shutdown_delay\n  \
                     GET /status    everything as JSON\n  GET /metrics   Prometheus text\n  \
                     POST /v1/backends/BACKEND/servers/SERVER   {\"state\": \"ready|drain|maint\", \
                     \"weight\": N}\n  GET, DELETE /v1/backends/BACKEND/affinity   remembered clients; \
                     ?key= for one\n";

/// The sockets of the admin API, listening. A socket file is removed when this is dropped.
#[derive(Debug, Default)]
pub struct Bound {
    socket: Option<UnixListener>,
    http: Option<TcpListener>,
    files: SocketFiles,
}

impl Bound {
    /// Gives the socket file to whom the process is about to become.
    pub(super) fn give_to(&self, identity: &Identity) -> Result<(), PrivilegesError> {
        self.files.paths().try_for_each(|path| identity.own(path))
    }

    /// The TCP address with the port that the kernel chose, if there is one.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.local_addr().ok()
    }
}

/// The admin API can't listen where it should.
#[derive(Debug)]
pub struct BindError {
    place: Place,
    problem: Problem,
}

#[derive(Debug)]
enum Place {
    Socket(PathBuf),
    Http(SocketAddr),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = &self.problem;
        match &self.place {
            Place::Socket(path) => {
                write!(f, "[global] admin.socket cannot listen on {}: {problem}", path.display())
            }
            Place::Http(address) => {
                write!(f, "[global] admin.http cannot listen on {address}: {problem}")
            }
        }
    }
}

impl std::error::Error for BindError {}

/// Makes the sockets listen. A socket file that nobody listens at is removed first.
///
/// # Errors
/// When an address is taken, not ours or not permitted, in a sentence for the operator.
pub fn bind(admin: &config::Admin) -> Result<Bound, BindError> {
    let mut bound = Bound::default();
    if let Some(path) = &admin.socket {
        let error = |problem| BindError { place: Place::Socket(path.clone()), problem };
        make_room(path).map_err(error)?;
        bound.socket = Some(bind_unix(path).map_err(|e| error(problem(e)))?);
        bound.files.add(path).map_err(|e| error(problem(e)))?;
    }
    if let Some(address) = admin.http {
        let error = |e| BindError { place: Place::Http(address), problem: problem(e) };
        let listener = TcpListener::bind(address).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        bound.http = Some(listener);
    }
    Ok(bound)
}

/// Nobody can connect before `listen`, so that the mode counts from the first client on.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn problem(error: io::Error) -> Problem {
    match error.kind() {
        ErrorKind::AddrInUse => Problem::InUse,
        ErrorKind::AddrNotAvailable => Problem::NotLocal,
        ErrorKind::PermissionDenied => Problem::Denied,
        _ => Problem::Other(error),
    }
}

/// Answers on the sockets of `bound` until the future is dropped. Needs a tokio runtime.
pub async fn serve(bound: Bound, running: Arc<Running>) {
    let Bound { socket, http, files } = bound;
    let shows = router();
    let server = "/v1/backends/{backend}/servers/{server}";
    let obeys = shows
        .clone()
        .route(server, post(orders::order))
        .route(affinity::PATH, delete(affinity::forget));
    let shows =
        shows.route(server, post(orders::refused)).route(affinity::PATH, delete(orders::refused));
    let obeys = obeys.with_state(Arc::clone(&running));
    let unix = listen(socket.map(tokio::net::UnixListener::from_std), obeys);
    let tcp = listen(http.map(tokio::net::TcpListener::from_std), shows.with_state(running));
    tokio::join!(unix, tcp);
    drop(files);
}

/// Serves on one socket, if there is one. Comes back only when it can't.
async fn listen<L>(listener: Option<io::Result<L>>, router: Router)
where
    L: axum::serve::Listener<Addr: fmt::Debug>,
{
    let outcome = match listener {
        None => future::pending().await,
        Some(Err(error)) => Err(error),
        Some(Ok(listener)) => axum::serve(Bounded::new(listener), router).await,
    };
    if let Err(error) = outcome {
        say(format_args!("the admin API ended: {error}; sessions are not concerned"));
    }
}

/// What every socket has.
fn router() -> Router<Arc<Running>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/status", get(status_page))
        .route("/metrics", get(metrics_page))
        .route(affinity::PATH, get(affinity::show))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
}

async fn healthz(State(running): State<Arc<Running>>) -> (StatusCode, &'static str) {
    match running.stage() {
        Stage::Serving => (StatusCode::OK, "ok"),
        stage => (StatusCode::SERVICE_UNAVAILABLE, stage.name()),
    }
}

async fn status_page(State(running): State<Arc<Running>>) -> Response {
    let page = move || {
        let page = serde_json::to_string_pretty(&status::Status::of(&running));
        page.map(|page| page + "\n").map_err(|error| error.to_string())
    };
    respond(built(page).await, "application/json")
}

async fn metrics_page(State(running): State<Arc<Running>>, headers: HeaderMap) -> Response {
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

/// Builds a page beside the control thread, since one of thousands of servers takes its time, and
/// one page after the other, since clients may ask for many at once.
async fn built(
    page: impl FnOnce() -> Result<String, String> + Send + 'static,
) -> Result<String, String> {
    static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);
    let turn = ONE_AT_A_TIME.acquire().await.map_err(|error| error.to_string())?;
    // Whoever comes first takes it: the thread, or this one when there can be no other thread.
    // Tokio's own pool panics then, and a limit on threads must not end the balancer.
    let page = Arc::new(Mutex::new(Some(page)));
    let apart = Arc::clone(&page);
    let take = |page: &Mutex<Option<_>>| page.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (done, built) = oneshot::channel();
    let thread = thread::Builder::new().name("admin-page".to_owned()).spawn(move || {
        block_here();
        if let Some(page) = take(&apart) {
            // Fails when the client has gone meanwhile.
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
    (StatusCode::METHOD_NOT_ALLOWED, format!("This is not what can be done here. {PAGES}"))
}
