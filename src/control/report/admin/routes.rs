//! Every route of the admin API: the one list that the router, the text of unknown pages,
//! `ringlane ctl routes` and openapi.json are made of.
//!
//! Not here: what routes do (`pages`, `orders`, `affinity`, …). Invariants: a route that needs less
//! than `Write` changes nothing; what is allowed on the unix socket only is refused on TCP whatever
//! the token. Next: `access`, `openapi`.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, delete, get, on, post, put};
use schemars::{Schema, SchemaGenerator};

use super::access::{Access, Caller, Denial};
use super::{affinity, orders, pages, reload};
use crate::config::TokenRole;
use crate::control::report::feed::{events, live};
use crate::control::running::Current;

/// One route.
pub(crate) struct Route {
    pub(crate) method: Verb,
    pub(crate) path: &'static str,
    pub(super) needs: Needs,
    pub(super) place: Reach,
    /// What it does, without a full stop.
    pub(crate) summary: &'static str,
    /// Keys of its query, with what they mean.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// The shape of its body.
    pub(super) body: Option<MakeSchema>,
    pub(super) answer: AnswerKind,
    serve: fn() -> MethodRouter<Current>,
}

/// Gives the schema of a type.
pub(super) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// The methods that occur.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

/// What a caller must be allowed to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Needs {
    /// Nothing: no token either.
    Nothing,
    /// To read.
    Read,
    /// To give orders.
    Write,
}

/// Where a route can be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    Both,
    /// On the unix socket only.
    Unix,
}

/// What a route answers with.
#[derive(Clone, Copy)]
pub(super) enum AnswerKind {
    Text(&'static str),
    Json(MakeSchema),
    /// Server-sent events, or JSON where that is asked for.
    Stream(MakeSchema),
}

impl Verb {
    /// As in a request line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// A route that anyone may read, but for a token on TCP.
const fn page(
    path: &'static str,
    summary: &'static str,
    answer: AnswerKind,
    serve: fn() -> MethodRouter<Current>,
) -> Route {
    let (method, needs, place) = (Verb::Get, Needs::Read, Reach::Both);
    Route { method, path, needs, place, summary, query: &[], body: None, answer, serve }
}

/// A route that changes something.
const fn order(
    method: Verb,
    path: &'static str,
    summary: &'static str,
    answer: AnswerKind,
    serve: fn() -> MethodRouter<Current>,
) -> Route {
    let (needs, place) = (Needs::Write, Reach::Both);
    Route { method, path, needs, place, summary, query: &[], body: None, answer, serve }
}

/// A route by which another configuration is served: whoever may do that may run programs.
const fn configuration(
    method: Verb,
    path: &'static str,
    summary: &'static str,
    serve: fn() -> MethodRouter<Current>,
) -> Route {
    let answer = AnswerKind::Json(reload::shape);
    Route {
        place: Reach::Unix,
        query: reload::QUERY,
        ..order(method, path, summary, answer, serve)
    }
}

/// Where a server is.
const SERVER: &str = "/v1/backends/{backend}/servers/{server}";

/// The whole API.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        needs: Needs::Nothing,
        ..page(
            "/healthz",
            "200 while serving, 503 before, after and during shutdown_delay",
            AnswerKind::Text("text/plain; charset=utf-8"),
            || get(pages::healthz),
        )
    },
    page("/status", "everything as JSON", AnswerKind::Json(pages::status_shape), || {
        get(pages::status)
    }),
    page("/metrics", "Prometheus text", AnswerKind::Text("text/plain; version=0.0.4"), || {
        get(pages::metrics)
    }),
    page("/v1/status", "the same as /status", AnswerKind::Json(pages::status_shape), || {
        get(pages::status)
    }),
    page("/v1/frontends", "all frontends", AnswerKind::Json(pages::frontends_shape), || {
        get(pages::frontends)
    }),
    page(
        "/v1/frontends/{frontend}",
        "one frontend",
        AnswerKind::Json(pages::frontend_shape),
        || get(pages::frontend),
    ),
    page(
        "/v1/backends",
        "all backends with their servers",
        AnswerKind::Json(pages::backends_shape),
        || get(pages::backends),
    ),
    page("/v1/backends/{backend}", "one backend", AnswerKind::Json(pages::backend_shape), || {
        get(pages::backend)
    }),
    Route {
        query: &[
            ("backend", "only servers of this backend"),
            (
                "state",
                "only servers in this state: up, warming, down, absent, ready, drain, maint or ejected",
            ),
        ],
        ..page(
            "/v1/servers",
            "servers of all backends",
            AnswerKind::Json(pages::servers_shape),
            || get(pages::servers),
        )
    },
    page(SERVER, "one server", AnswerKind::Json(pages::server_shape), || get(pages::server)),
    page("/v1/shards", "all shards", AnswerKind::Json(pages::shards_shape), || get(pages::shards)),
    Route {
        body: Some(orders::server_shape),
        ..order(
            Verb::Post,
            SERVER,
            "changes the state, the weight or the limit of a server",
            AnswerKind::Json(orders::done_shape),
            || post(orders::server),
        )
    },
    Route {
        body: Some(orders::frontend_shape),
        ..order(
            Verb::Post,
            "/v1/frontends/{frontend}",
            "pauses or resumes a frontend, or changes its limit",
            AnswerKind::Json(orders::done_shape),
            || post(orders::frontend),
        )
    },
    Route {
        query: events::QUERY,
        ..page("/v1/events", "events as they happen", AnswerKind::Stream(events::shape), || {
            get(events::show)
        })
    },
    page("/v1/live", "numbers, once a second", AnswerKind::Stream(live::shape), || get(live::show)),
    page("/v1/openapi.json", "this list for programs", AnswerKind::Json(pages::any_shape), || {
        get(pages::openapi)
    }),
    page(
        "/v1/changes",
        "what was changed at run time",
        AnswerKind::Json(orders::changes_shape),
        || get(orders::changes),
    ),
    order(
        Verb::Delete,
        "/v1/changes/{id}",
        "puts back what the configuration has",
        AnswerKind::Json(orders::done_shape),
        || delete(orders::put_back),
    ),
    configuration(Verb::Post, "/v1/reload", "reads the configuration again and serves it", || {
        post(reload::reload)
    }),
    configuration(
        Verb::Put,
        "/v1/config",
        "serves the configuration in the body in place of the file",
        || put(reload::put).layer(DefaultBodyLimit::max(reload::TEXT_MAX)),
    ),
    configuration(
        Verb::Post,
        "/v1/plan",
        "what would change with the configuration in the body, or else with the file",
        || post(reload::plan).layer(DefaultBodyLimit::max(reload::TEXT_MAX)),
    ),
    page(
        "/v1/snapshots",
        "the configurations that were served",
        AnswerKind::Json(reload::history_shape),
        || get(reload::history),
    ),
    configuration(
        Verb::Post,
        "/v1/snapshots/{generation}/rollback",
        "serves an earlier configuration again",
        || post(reload::rollback),
    ),
    Route {
        query: affinity::QUERY,
        ..page(
            affinity::PATH,
            "clients that a backend remembers",
            AnswerKind::Json(affinity::shape),
            || get(affinity::show),
        )
    },
    Route {
        query: affinity::QUERY,
        ..order(
            Verb::Delete,
            affinity::PATH,
            "forgets them, or the one with this key",
            AnswerKind::Json(affinity::forgotten_shape),
            || delete(affinity::forget),
        )
    },
];

/// Whether a page can be read without a token.
pub(super) fn is_open(path: &str) -> bool {
    ROUTES.iter().any(|route| route.needs == Needs::Nothing && route.path == path)
}

/// The router of the unix socket, or of the TCP address.
pub(super) fn router(access: &Arc<Access>, is_unix: bool) -> Router<Current> {
    ROUTES.iter().fold(Router::new(), |router, route| {
        let served: MethodRouter<Current> = match route.place {
            Reach::Unix if !is_unix => on(route.method.filter(), unix_only),
            _ => (route.serve)(),
        };
        let served = match route.needs {
            Needs::Write => served.route_layer(from_fn_with_state(Arc::clone(access), check_role)),
            Needs::Nothing | Needs::Read => served,
        };
        router.route(route.path, served)
    })
}

/// Refuses orders of callers that may only read.
async fn check_role(
    State(access): State<Arc<Access>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    // HEAD is served by the handlers of GET, and OPTIONS by none.
    if caller.role >= TokenRole::Write || request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    access.refuse(Denial::forbidden(
        "this token may only read: use one with role = \"write\", or the unix socket",
    ))
}

async fn unix_only(State(access): State<Arc<Access>>) -> Response {
    let why = "this is allowed on the unix socket only ([global] admin.socket)";
    access.refuse(Denial::forbidden(why))
}

/// All routes as text, a line each.
pub(crate) fn listing() -> String {
    ROUTES.iter().fold(String::new(), |mut text, route| {
        let role = match route.needs {
            Needs::Nothing => "-",
            Needs::Read => "read",
            Needs::Write => "write",
        };
        let mut summary = route.summary.to_owned();
        if !route.query.is_empty() {
            let keys: Vec<_> = route.query.iter().map(|(key, _)| format!("?{key}=")).collect();
            let _ = write!(summary, " ({})", keys.join(" "));
        }
        if route.place == Reach::Unix {
            summary += " (unix socket only)";
        }
        let line = format!("{} {}", route.method.name(), shown(route.path));
        let _ = writeln!(text, "  {line:46} {role:5}  {summary}");
        text
    })
}

/// A path with its parts in capitals: `/v1/frontends/FRONTEND`.
fn shown(path: &str) -> String {
    let part = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) => name.to_uppercase(),
        None => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_get_needs_write_and_nothing_else_needs_less() {
        for route in ROUTES {
            let is_get = route.method == Verb::Get;
            assert_eq!(is_get, route.needs != Needs::Write, "{}", route.path);
            assert!(!route.summary.ends_with('.'), "{}", route.summary);
        }
        assert!(is_open("/healthz") && !is_open("/status") && !is_open("/healthz/"));
    }

    #[test]
    fn the_listing_has_every_route_once() {
        let text = listing();
        assert_eq!(text.lines().count(), ROUTES.len());
        assert!(text.contains("POST /v1/backends/BACKEND/servers/SERVER "), "{text}");
    }
}
