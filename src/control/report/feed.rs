//! Streams of the admin API: events as they happen, and live numbers every second.
//!
//! Server-sent events (WHATWG HTML, section 9.2): each client has a task that makes frames, and a
//! short queue between it and the connection. Not here: what events are (`log::recent`), bounds on
//! the time of a connection (`admin::connection`). Invariants: at most [`STREAMS_MAX`] streams at
//! once per address, a further one is refused; a client that does not read holds up its own task
//! only; a comment is sent every [`COMMENT_INTERVAL`], so that both ends notice when the other is
//! gone; no task keeps parts of the running balancer between two frames.

pub(super) mod events;
pub(super) mod live;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde_json::json;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::admin::{Access, Requester, answer};

/// Streams at once on each of the two addresses: half of the connections that it accepts.
pub(super) const STREAMS_MAX: usize = 32;

/// The time between two comments.
const COMMENT_INTERVAL: Duration = Duration::from_secs(10);

/// Frames that wait for a connection to take them.
const FRAMES_WAITING: usize = 4;

/// Places on the unix socket and on TCP: clients of one leave those of the other alone.
static STREAMS: [Semaphore; 2] =
    [Semaphore::const_new(STREAMS_MAX), Semaphore::const_new(STREAMS_MAX)];

/// Where a task puts its frames. While it is there, it counts as a stream.
struct Frames {
    sender: Sender<Bytes>,
    _place: SemaphorePermit<'static>,
}

/// The client is gone.
struct Gone;

impl Frames {
    async fn send(&self, frame: impl Into<Bytes>) -> Result<(), Gone> {
        self.sender.send(frame.into()).await.map_err(|_| Gone)
    }

    async fn comment(&self) -> Result<(), Gone> {
        self.send(": still here\n\n").await
    }
}

/// The body of an answer.
struct FrameStream(Receiver<Bytes>);

impl Stream for FrameStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// Begins a stream whose frames `make` sends, or refuses it.
fn begin<F>(access: &Arc<Access>, requester: &Requester, make: impl FnOnce(Frames) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let Ok(place) = STREAMS[usize::from(requester.is_tcp())].try_acquire() else {
        access.count(StatusCode::SERVICE_UNAVAILABLE);
        let why = format!("there are {STREAMS_MAX} streams already, which is the limit");
        return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": why }));
    };
    requester.begin_stream();
    let (sender, receiver) = mpsc::channel(FRAMES_WAITING);
    let watch = sender.clone();
    let made = make(Frames { sender, _place: place });
    tokio::spawn(async move {
        tokio::select! {
            // The connection has ended; the task may be waiting for something else.
            () = watch.closed() => {}
            _ = made => {}
        }
    });
    let kind = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (kind, Body::from_stream(FrameStream(receiver))).into_response()
}

/// Whether a request wants JSON instead of a stream.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let accept: String = accept.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    accept.contains("application/json") && !accept.contains("text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_sent_to_those_that_ask_for_it_and_for_no_stream() {
        let wants = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            wants_json(&headers)
        };
        assert!(wants(&["application/json"]) && wants(&["text/html", "Application/JSON;q=0.5"]));
        assert!(!wants(&[]) && !wants(&["*/*"]) && !wants(&["text/event-stream"]));
        assert!(!wants(&["text/event-stream, application/json"]));
    }
}
