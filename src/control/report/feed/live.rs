//! `GET /v1/live`: compact numbers of everything, once a second, for `ringlane top` and pages.
//!
//! One task makes the frames for all clients, and only while there is one; each frame is built
//! beside the control thread. Not here: the whole status (`status`). Invariants: totals are in each
//! frame, so that a client that misses one can still compute its rates; a frame is made of the
//! state at its time, and nothing of that is kept but numbers by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ringlane_core::ids::{BackendId, FrontendId};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{COMMENT_INTERVAL, Frames, Gone, begin, wants_json};
use crate::control::Running;
use crate::control::changes::time;
use crate::control::report::admin::{Access, Requester, answer, built};
use crate::control::running::Current;
use crate::control::traffic::latency::Latency;

/// Between two frames.
const INTERVAL: Duration = Duration::from_secs(1);

/// The latest frame, and whether a task makes the next one.
static LIVE: LazyLock<Live> = LazyLock::new(Live::new);

struct Live {
    frames: watch::Sender<Bytes>,
    is_made: Mutex<bool>,
}

/// The numbers of one moment. Rates are per second since the last frame; null in the first one.
#[derive(JsonSchema, Serialize)]
struct LiveFrame {
    at: String,
    state: &'static str,
    sessions_live: u32,
    /// Sessions per second.
    sessions_rate: Option<f64>,
    /// Since the last frame; null without a connect.
    connect_p50_us: Option<u64>,
    connect_p99_us: Option<u64>,
    frontends: Vec<LiveFrontend>,
    backends: Vec<LiveBackend>,
    shards: Vec<LiveShard>,
}

#[derive(JsonSchema, Serialize)]
struct LiveFrontend {
    name: String,
    sessions_live: u32,
    sessions_max: u32,
    paused: bool,
    sessions: u64,
    sessions_rate: Option<f64>,
    sessions_failed: u64,
    bytes_in: u64,
    bytes_out: u64,
    bytes_in_rate: Option<f64>,
    bytes_out_rate: Option<f64>,
}

#[derive(JsonSchema, Serialize)]
struct LiveBackend {
    name: String,
    /// Sessions that wait in its queue; null without one.
    queued: Option<u32>,
    servers: Vec<LiveServer>,
}

#[derive(JsonSchema, Serialize)]
struct LiveServer {
    name: String,
    state: &'static str,
    admin: &'static str,
    role: &'static str,
    ejected: bool,
    sessions_live: u32,
    sessions: u64,
    sessions_rate: Option<f64>,
    sessions_failed: u64,
    bytes_in: u64,
    bytes_out: u64,
    bytes_in_rate: Option<f64>,
    bytes_out_rate: Option<f64>,
}

#[derive(JsonSchema, Serialize)]
struct LiveShard {
    index: usize,
    sessions_live: u32,
    turns: u64,
    turns_rate: Option<f64>,
}

/// What the next frame is compared with.
#[derive(Default)]
struct Before {
    at: Option<Instant>,
    /// Totals by the name of the object and of the number.
    totals: HashMap<String, u64>,
    /// Connect times and how many there were of each.
    connects: BTreeMap<u64, u64>,
}

/// What one frame is made with.
struct Maker<'a> {
    before: &'a Before,
    seconds: Option<f64>,
    now: Before,
}

pub(in crate::control::report) fn shape(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<LiveFrame>()
}

pub(in crate::control::report) async fn show(
    State(current): State<Current>,
    State(access): State<Arc<Access>>,
    ConnectInfo(requester): ConnectInfo<Requester>,
    headers: HeaderMap,
) -> Response {
    if wants_json(&headers) {
        let page = built(move || Ok(make(&current.get(), &Before::default()).0)).await;
        return match page.map(serde_json::to_value) {
            Ok(Ok(page)) => answer(StatusCode::OK, &page),
            _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
    }
    begin(&access, &requester, move |frames| {
        let latest = LIVE.follow(current);
        follow(frames, latest)
    })
}

/// Sends each frame until the client is gone; one that is slow misses some.
async fn follow(frames: Frames, mut latest: watch::Receiver<Bytes>) -> Result<(), Gone> {
    frames.send("retry: 1000\n\n").await?;
    loop {
        match timeout(COMMENT_INTERVAL, latest.changed()).await {
            Ok(Ok(())) => {
                let frame = latest.borrow_and_update().clone();
                frames.send(frame).await?;
            }
            // The sender lives as long as the process.
            Ok(Err(_)) => return Ok(()),
            Err(_) => frames.comment().await?,
        }
    }
}

impl Live {
    fn new() -> Self {
        Self { frames: watch::Sender::new(Bytes::new()), is_made: Mutex::new(false) }
    }

    /// The frames from now on; starts the task that makes them, if there is none.
    fn follow(&'static self, current: Current) -> watch::Receiver<Bytes> {
        let receiver = self.frames.subscribe();
        let mut is_made = self.is_made.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *is_made, true) {
            tokio::spawn(self.make_all(current));
        }
        receiver
    }

    /// Makes frames while there are clients.
    async fn make_all(&self, current: Current) {
        let mut before = Before::default();
        let mut ticker = interval(INTERVAL);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            {
                // Together: a client that comes now must find the task, or start another.
                let mut is_made = self.is_made.lock().unwrap_or_else(PoisonError::into_inner);
                if self.frames.receiver_count() == 0 {
                    *is_made = false;
                    return;
                }
            }
            let running = current.get();
            let made = built(move || {
                let (frame, now) = make(&running, &before);
                let data = serde_json::to_string(&frame).unwrap_or_default();
                Ok((format!("data: {data}\n\n"), now))
            });
            match made.await {
                Ok((frame, now)) => {
                    before = now;
                    self.frames.send_replace(frame.into());
                }
                Err(_) => before = Before::default(),
            }
        }
    }
}

/// A frame, and what the next one is compared with.
fn make(running: &Running, before: &Before) -> (LiveFrame, Before) {
    let now = Instant::now();
    let seconds = before.at.map(|at| (now - at).as_secs_f64().max(0.001));
    let kept = Before { at: Some(now), ..Before::default() };
    let mut maker = Maker { before, seconds, now: kept };
    let (connect_p50_us, connect_p99_us) = maker.connects(running);
    let frontends = maker.frontends(running);
    let total = frontends.iter().map(|frontend| frontend.sessions).sum();
    let frame = LiveFrame {
        at: time(SystemTime::now()),
        state: running.life.stage().name(),
        sessions_live: running.traffic.gauges.common.process.live(),
        sessions_rate: maker.rate("sessions", total),
        connect_p50_us,
        connect_p99_us,
        frontends,
        backends: maker.backends(running),
        shards: maker.shards(running),
    };
    (frame, maker.now)
}

impl Maker<'_> {
    /// The rate of a total since the last frame.
    fn rate(&mut self, name: &str, total: u64) -> Option<f64> {
        self.now.totals.insert(name.to_owned(), total);
        let before = self.before.totals.get(name)?;
        let rate = total.saturating_sub(*before) as f64 / self.seconds?;
        Some((rate * 10.0).round() / 10.0)
    }

    /// Median and 99th percentile of the connects since the last frame.
    fn connects(&mut self, running: &Running) -> (Option<u64>, Option<u64>) {
        let latency = Latency::merge(&running.traffic, |shard| &shard.connect_time);
        self.now.connects = latency.into_values();
        if self.before.at.is_none() {
            return (None, None);
        }
        let news = self.now.connects.iter().map(|(value, count)| {
            (*value, count - self.before.connects.get(value).unwrap_or(&0).min(count))
        });
        let news: BTreeMap<u64, u64> = news.filter(|(_, count)| *count > 0).collect();
        if news.is_empty() {
            return (None, None);
        }
        let news = Latency::from_values(news);
        (Some(news.us_at(0.5)), Some(news.us_at(0.99)))
    }

    fn frontends(&mut self, running: &Running) -> Vec<LiveFrontend> {
        let traffic = &running.traffic;
        let ids = (0..).map(FrontendId).zip(&traffic.snapshot.frontends);
        let frontends = ids.map(|(id, frontend)| {
            let name = &frontend.name;
            let sessions = traffic.frontend_total(id, |f| f.sessions.get());
            let bytes_in = traffic.frontend_total(id, |f| f.bytes_in.get());
            let bytes_out = traffic.frontend_total(id, |f| f.bytes_out.get());
            let gate = traffic.gauges.frontend(id);
            LiveFrontend {
                name: name.clone(),
                sessions_live: gate.live(),
                sessions_max: traffic.frontend_max(id),
                paused: gate.max() == 0,
                sessions,
                sessions_rate: self.rate(&format!("f sessions {name}"), sessions),
                sessions_failed: traffic.frontend_total(id, |f| f.sessions_failed.get()),
                bytes_in,
                bytes_out,
                bytes_in_rate: self.rate(&format!("f in {name}"), bytes_in),
                bytes_out_rate: self.rate(&format!("f out {name}"), bytes_out),
            }
        });
        frontends.collect()
    }

    fn backends(&mut self, running: &Running) -> Vec<LiveBackend> {
        let traffic = &running.traffic;
        let ids = (0..).map(BackendId).zip(&traffic.snapshot.backends);
        let backends = ids.map(|(id, backend)| LiveBackend {
            name: backend.name.clone(),
            queued: traffic.gauges.queue(id).map(|queue| queue.waiting()),
            servers: self.servers(running, id),
        });
        backends.collect()
    }

    fn servers(&mut self, running: &Running, backend: BackendId) -> Vec<LiveServer> {
        let traffic = &running.traffic;
        let servers = traffic.snapshot.ids_of(backend).filter_map(|id| {
            let known = running.servers.known(id)?;
            let full = traffic.snapshot.full_name(id);
            let sessions = traffic.server_total(id, |s| s.sessions.get());
            let bytes_in = traffic.server_total(id, |s| s.bytes_in.get());
            let bytes_out = traffic.server_total(id, |s| s.bytes_out.get());
            Some(LiveServer {
                name: traffic.snapshot.server(id).name.clone(),
                state: known.health.name(),
                admin: known.state.admin.name(),
                role: known.state.role.name(),
                ejected: known.state.ejected,
                sessions_live: traffic.gauges.server(id).sessions(),
                sessions,
                sessions_rate: self.rate(&format!("s sessions {full}"), sessions),
                sessions_failed: traffic.server_total(id, |s| s.sessions_failed.get()),
                bytes_in,
                bytes_out,
                bytes_in_rate: self.rate(&format!("s in {full}"), bytes_in),
                bytes_out_rate: self.rate(&format!("s out {full}"), bytes_out),
            })
        });
        servers.collect()
    }

    fn shards(&mut self, running: &Running) -> Vec<LiveShard> {
        let traffic = &running.traffic;
        let shards = (0..traffic.shards()).map(|index| {
            let turns = traffic.shard_counters[index].event_loop.turns.get();
            let turns_rate = self.rate(&format!("shard {index}"), turns);
            LiveShard {
                index,
                sessions_live: traffic.gauges.common.shard(index),
                turns,
                turns_rate,
            }
        });
        shards.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::status::tests::running;

    #[test]
    fn rates_are_of_the_time_since_the_frame_before() {
        let running = running();
        let (first, mut before) = make(&running, &Before::default());
        assert!(first.sessions_rate.is_none() && first.connect_p50_us.is_none());
        assert_eq!(first.frontends[0].sessions, 3);
        let counters = &running.traffic.counters[0];
        counters.frontend(FrontendId(0)).sessions.add(20);
        running.traffic.shard_counters[0].connect_time.record(500);
        before.at = Instant::now().checked_sub(Duration::from_secs(10));
        let (second, _) = make(&running, &before);
        let rate = second.frontends[0].sessions_rate.unwrap();
        assert!((1.9..=2.0).contains(&rate), "{rate}");
        let connect = second.connect_p99_us.unwrap();
        assert!((500..=516).contains(&connect), "only the new one counts: {connect}");
        assert_eq!(second.backends[0].servers.len(), 2);
        let json = serde_json::to_value(&second).unwrap();
        assert_eq!(json["shards"][1]["turns_rate"], 0.0);
    }
}
