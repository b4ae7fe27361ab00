//! `GET /v1/events`: the last events, and those that come.
//!
//! Not here: where they come from (`log::recent`). A client that reconnects sends the number of the
//! last event that it got (`Last-Event-ID`), and gets those after it. Invariant: events that a
//! client misses, because it was slow or away for too long, are one event `lagged` with their
//! number.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{COMMENT_INTERVAL, Frames, Gone, begin, wants_json};
use crate::control::changes::time;
use crate::control::log::recent::{self, EVENTS_KEPT, Event, Subscription};
use crate::control::report::admin::{Access, Requester, answer};

/// Events in a list without `limit`.
const LIMIT_DEFAULT: usize = 100;

/// Keys of the query, with what they mean.
pub(in crate::control::report) const QUERY: &[(&str, &str)] = &[
    ("limit", "at most so many of the last events; in JSON 100 by default"),
    ("since", "only events after the one with this number, as the header Last-Event-ID"),
];

/// The query string.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control::report) struct EventsQuery {
    limit: Option<usize>,
    since: Option<u64>,
}

/// The last events, the oldest first.
#[derive(JsonSchema, Serialize)]
struct EventsPage<'a> {
    events: Vec<ShownEvent<'a>>,
}

/// An event: a line of the log of level info or above.
#[derive(JsonSchema, Serialize)]
struct ShownEvent<'a> {
    id: u64,
    at: String,
    /// `error`, `warning` or `info`.
    level: &'static str,
    /// The `event` of the log line; `other` for lines without one.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    frontend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    /// How many sessions, connections or records it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    text: &'a str,
}

impl<'a> ShownEvent<'a> {
    fn of(Event { id, at, notice }: &'a Event) -> Self {
        Self {
            id: *id,
            at: time(*at),
            level: notice.level.word(),
            kind: if notice.event.is_empty() { "other" } else { notice.event },
            frontend: notice.frontend.as_deref(),
            backend: notice.backend.as_deref(),
            server: notice.server.as_deref(),
            count: notice.count,
            text: &notice.message,
        }
    }
}

pub(in crate::control::report) fn shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<EventsPage<'static>>()
}

pub(in crate::control::report) async fn show(
    State(access): State<Arc<Access>>,
    ConnectInfo(requester): ConnectInfo<Requester>,
    headers: HeaderMap,
    wanted: Result<Query<EventsQuery>, QueryRejection>,
) -> Response {
    let bad = |why: &str| answer(StatusCode::BAD_REQUEST, &json!({ "error": why }));
    let Ok(Query(wanted)) = wanted else {
        return bad("the query may have limit=NUMBER and since=NUMBER, each once");
    };
    let seen = headers.get("last-event-id").map(|id| id.to_str().ok()?.trim().parse().ok());
    let Some(seen) = seen.map_or(Some(None), |id: Option<u64>| id.map(Some)) else {
        return bad("the header Last-Event-ID must be the number of an event");
    };
    let limit = wanted.limit.map(|limit| limit.min(EVENTS_KEPT));
    let since = wanted.since.or(seen);
    if wants_json(&headers) {
        return list(since, limit.unwrap_or(LIMIT_DEFAULT));
    }
    let subscription = match (since, limit) {
        (Some(id), _) => recent::since(id),
        (None, limit) => recent::last(limit.unwrap_or(0)),
    };
    begin(&access, &requester, |frames| follow(frames, subscription))
}

fn list(since: Option<u64>, limit: usize) -> Response {
    let Subscription { kept, .. } = since.map_or_else(|| recent::last(limit), recent::since);
    let newest = kept.iter().skip(kept.len().saturating_sub(limit));
    let page = EventsPage { events: newest.map(|event| ShownEvent::of(event)).collect() };
    match serde_json::to_value(page) {
        Ok(page) => answer(StatusCode::OK, &page),
        Err(error) => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error.to_string() }))
        }
    }
}

/// Sends events until the client is gone.
async fn follow(frames: Frames, subscription: Subscription) -> Result<(), Gone> {
    let Subscription { missed, kept, mut receiver } = subscription;
    // Sent at once, so that the client sees that it is connected. It tries again after a second.
    frames.send("retry: 1000\n\n").await?;
    if missed > 0 {
        frames.send(lagged(missed)).await?;
    }
    for event in kept {
        frames.send(frame(&event)).await?;
    }
    let mut comments = interval_at(Instant::now() + COMMENT_INTERVAL, COMMENT_INTERVAL);
    comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = receiver.recv() => match event {
                Ok(event) => frames.send(frame(&event)).await?,
                Err(RecvError::Lagged(missed)) => frames.send(lagged(missed)).await?,
                // The sender lives as long as the process.
                Err(RecvError::Closed) => return Ok(()),
            },
            _ = comments.tick() => frames.comment().await?,
        }
    }
}

fn frame(event: &Event) -> String {
    let data = serde_json::to_string(&ShownEvent::of(event)).unwrap_or_default();
    format!("id: {}\ndata: {data}\n\n", event.id)
}

fn lagged(missed: u64) -> String {
    format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::control::log::{Level, Notice};

    #[test]
    fn an_event_is_one_frame_whatever_its_text() {
        let notice = Notice::new(Level::Warning, "", "a\nb: \u{1b}\"c\"".to_owned()).backend("b");
        let text = frame(&Event { id: 7, at: SystemTime::UNIX_EPOCH, notice });
        assert!(text.starts_with("id: 7\ndata: {\"id\":7,") && text.ends_with("}\n\n"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("\"kind\":\"other\",\"backend\":\"b\",\"text\":\"a\\nb"), "{text}");
        assert_eq!(lagged(3), "event: lagged\ndata: {\"missed\":3}\n\n");
    }
}
