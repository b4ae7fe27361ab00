//! The control thread while shards serve: signals, the admin API, shards that end.
//!
//! ```text
//! serving ──signal, drain()──▶ draining ──second signal──▶ stopping
//!    │                            │ all shards have ended     │
//!    └──a shard broke──▶ stopping ▼                           ▼
//!                                end, code 0 (1 if a shard broke)
//! ```
//!
//! Not here: start-up and what comes after the last shard (`supervisor`). Invariant: it returns
//! when the last shard has ended, and only then.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringlane_core::mailbox::Message;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval_at};

use super::access_log::AccessLogThread;
use super::events::{Events, LOOK_INTERVAL};
use super::log::{announce, say};
use super::notice::Notice;
use super::running::{Running, Stage};
use super::shards::{End, Shards};
use super::signals::{Signal, Signals};

/// The control thread's state.
pub(super) struct Serving<'a> {
    running: Arc<Running>,
    shards: Shards,
    signals: Signals,
    drain_timeout: Duration,
    log: Option<&'a AccessLogThread>,
    events: Events,
    broken: bool,
}

impl<'a> Serving<'a> {
    pub(super) fn new(
        running: Arc<Running>,
        shards: Shards,
        signals: Signals,
        drain_timeout: Duration,
        log: Option<&'a AccessLogThread>,
    ) -> Self {
        let events = Events::new(&running, Instant::now());
        Self { running, shards, signals, drain_timeout, log, events, broken: false }
    }

    /// Serves until the last shard has ended. `admin` is polled all the while.
    pub(super) async fn run(mut self, ready: &str, admin: impl Future) -> ExitCode {
        announce(ready);
        notify(&[NotifyState::Ready, NotifyState::Status(ready)]);
        let mut admin = pin!(admin);
        let mut admin_ended = false;
        let mut looks = interval_at(tokio::time::Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shards.all_ended() {
            tokio::select! {
                signal = self.signals.next() => self.answer(signal),
                () = self.running.drain_asked() => self.drain("drain asked for"),
                (index, end) = self.shards.next_ended() => self.account_for(index, &end),
                now = looks.tick() => write(self.events.look(&self.running, now.into_std())),
                _ = &mut admin, if !admin_ended => admin_ended = true,
            }
        }
        let why = match self.running.stage() {
            Stage::Stopping => "the stop",
            _ => "the end of drain_timeout",
        };
        write(self.events.last_look(&self.running, Instant::now(), why));
        say(format_args!("stopped"));
        if self.broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn answer(&mut self, signal: Signal) {
        match signal {
            Signal::End(name) if self.running.stage() < Stage::Draining => self.drain(name),
            Signal::End(name) => self.stop(format_args!("{name}: stopping at once")),
            Signal::Reload => say(format_args!(
                "SIGHUP: nothing to do, this version reads its configuration at start"
            )),
            Signal::Reopen => match self.log {
                Some(log) => log.reopen(),
                None => say(format_args!("SIGUSR1: nothing to do, there is no access log")),
            },
        }
    }

    /// Lets sessions finish, for a while. Does nothing when they are already at it.
    fn drain(&mut self, why: &str) {
        if self.running.stage() >= Stage::Draining {
            return;
        }
        self.running.enter(Stage::Draining);
        notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        let timeout = self.drain_timeout;
        say(format_args!(
            "{why}: draining, live sessions ({}) have {} s to finish; a second signal ends them",
            self.running.gauges.process.live(),
            timeout.as_secs_f64(),
        ));
        self.shards.tell_all(|| Message::Drain(timeout));
    }

    /// Ends everything now.
    fn stop(&mut self, why: std::fmt::Arguments<'_>) {
        if self.running.stage() == Stage::Stopping {
            return;
        }
        self.running.enter(Stage::Stopping);
        notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        say(why);
        self.shards.tell_all(|| Message::Stop);
    }

    /// A shard may end when it was asked to, and by returning.
    fn account_for(&mut self, index: usize, end: &End) {
        match end {
            End::Returned if self.running.stage() >= Stage::Draining => return,
            End::Returned => say(format_args!(
                "shard {index} ended although nobody asked it to: this is a bug of ringlane, \
                 please report it"
            )),
            End::Failed(error) => say(format_args!(
                "shard {index} ended because the kernel refused its ring's work ({error}): its \
                 sessions are lost; the kernel's log (`dmesg`) may say why"
            )),
            End::Panicked => say(format_args!(
                "shard {index} panicked: this is a bug of ringlane, please report it"
            )),
        }
        self.broken = true;
        self.stop(format_args!("stopping the other shards"));
    }
}

/// Writes the lines of a look.
fn write(notices: Vec<Notice>) {
    notices.iter().for_each(|notice| say(format_args!("{}", notice.message)));
}

/// Tells systemd, where there is one to tell.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        say(format_args!("cannot tell systemd about the state (NOTIFY_SOCKET): {error}"));
    }
}
