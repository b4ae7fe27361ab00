//! Requests for another configuration, and how they end.
//!
//! Not here: the reload (`reload`). Invariant: a bounded number of requests waits; one that finds
//! no room is answered at once.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::refusals::ReloadRefusal;
use crate::config::Sources;
use crate::control::log;

/// Requests that may wait.
const REQUESTS_MAX: usize = 64;

/// Where the text of a configuration comes from.
#[derive(Clone, Debug)]
pub(in crate::control) enum ConfigOrigin {
    /// The file that the process was started with, and what it includes.
    File,
    /// A text in place of that file.
    Text(String),
    /// The text of an earlier configuration.
    Generation(u64),
}

/// A request to change the configuration.
#[derive(Debug)]
pub(in crate::control) struct ReloadRequest {
    /// What is to be served.
    pub(in crate::control) origin: ConfigOrigin,
    /// The generation that the request was made for; another one is a conflict.
    pub(in crate::control) expect: Option<u64>,
    /// Only look what would happen.
    pub(in crate::control) plan: bool,
    /// What asked for it, for the log: `SIGHUP`, `the admin API`.
    pub(in crate::control) by: String,
    /// Gets the outcome.
    pub(in crate::control) answer: Option<oneshot::Sender<ReloadOutcome>>,
}

/// How a request ended.
pub(in crate::control) type ReloadOutcome = Result<Reloaded, ReloadRefusal>;

/// A configuration is served, or would be.
#[derive(Clone, Debug)]
pub(in crate::control) struct Reloaded {
    /// The number before.
    pub(in crate::control) from: u64,
    /// The number now.
    pub(in crate::control) generation: u64,
    /// What has changed, one line each.
    pub(in crate::control) changes: Vec<String>,
    /// Warnings of the check.
    pub(in crate::control) warnings: Vec<String>,
}

/// An earlier configuration, or the one that is served.
#[derive(Clone, Debug)]
pub(in crate::control) struct Published {
    /// Its number.
    pub(in crate::control) generation: u64,
    /// When it was published.
    pub(in crate::control) at: SystemTime,
    /// What asked for it.
    pub(in crate::control) by: String,
    /// Its texts.
    pub(in crate::control) sources: Arc<Sources>,
}

/// An order to the task that reloads.
#[derive(Debug)]
pub(super) enum ReloadOrder {
    Reload(ReloadRequest),
    Reopen,
    History(oneshot::Sender<Vec<Published>>),
}

/// Where requests go. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::control) struct Requests(mpsc::Sender<ReloadOrder>);

impl Requests {
    /// Where requests go, and where they come out.
    pub(in crate::control) fn channel() -> (Self, ReloadOrders) {
        let (requests, orders) = mpsc::channel(REQUESTS_MAX);
        (Self(requests), ReloadOrders(orders))
    }

    /// SIGHUP has come.
    pub(super) fn reload_by_signal(&self) {
        let request = ReloadRequest {
            origin: ConfigOrigin::File,
            expect: None,
            plan: false,
            by: "SIGHUP".to_owned(),
            answer: None,
        };
        self.send(ReloadOrder::Reload(request));
    }

    /// SIGUSR1 has come: log files are opened anew.
    pub(super) fn reopen_logs(&self) {
        self.send(ReloadOrder::Reopen);
    }

    /// Asks for a change, and waits for the outcome.
    pub(in crate::control) async fn ask(&self, mut request: ReloadRequest) -> ReloadOutcome {
        let (answer, outcome) = oneshot::channel();
        request.answer = Some(answer);
        if self.0.try_send(ReloadOrder::Reload(request)).is_err() {
            return Err(ReloadRefusal::busy());
        }
        outcome.await.unwrap_or_else(|_| Err(ReloadRefusal::ending()))
    }

    /// The configurations that were published, the oldest first.
    pub(in crate::control) async fn history(&self) -> Vec<Published> {
        let (answer, history) = oneshot::channel();
        self.send(ReloadOrder::History(answer));
        history.await.unwrap_or_default()
    }

    fn send(&self, order: ReloadOrder) {
        if self.0.try_send(order).is_err() {
            log::warning(format_args!(
                "too many requests to reload are waiting ({REQUESTS_MAX}): one was dropped"
            ));
        }
    }
}

/// Where requests come out.
#[derive(Debug)]
pub(in crate::control) struct ReloadOrders(pub(super) mpsc::Receiver<ReloadOrder>);

impl ReloadRequest {
    /// Whether one reload serves both requests.
    pub(super) fn is_served_with(&self, other: &Self) -> bool {
        let is_file = |request: &Self| matches!(request.origin, ConfigOrigin::File);
        is_file(self) && is_file(other) && (self.expect, self.plan) == (other.expect, other.plan)
    }

    /// Answers it.
    pub(super) fn answer(self, outcome: ReloadOutcome) {
        if let Some(answer) = self.answer {
            // Fails if the client has disconnected.
            let _ = answer.send(outcome);
        }
    }
}
