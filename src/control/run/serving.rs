//! The control thread while shards serve: signals, the admin API, shards that end.
//!
//! ```text
//! serving ──signal, drain()──▶ lame duck ──shutdown_delay, signal──▶ draining ──signal──▶ stopping
//!    │                                                                │ all shards have   │
//!    └──a shard broke──▶ stopping                                     ▼ ended             ▼
//!                                                             end, code 0 (1 if a shard broke)
//! ```
//!
//! Not here: start-up and what comes after the last shard (`supervisor`). Invariant: it returns
//! when the last shard has ended, and only then.

use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use ringlane_core::machine::sys::DriverKind;
use ringlane_shard::Message;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use crate::control::life::{Life, Stage};
use crate::control::log;
use crate::control::log::{Level, Notice};
use crate::control::report::events::{Events, LOOK_INTERVAL};
use crate::control::run::requests::Requests;
use crate::control::run::shards::{End, Shards};
use crate::control::run::signals::{Signal, Signals};
use crate::control::running::{Current, Running};

/// The control thread's state.
pub(in crate::control) struct Serving {
    life: Arc<Life>,
    current: Current,
    driver: DriverKind,
    shards: Shards,
    signals: Signals,
    /// Where requests to change the configuration go.
    reloads: Requests,
    /// When a lame duck begins to drain.
    drain_at: Option<tokio::time::Instant>,
    events: Events,
    broken: bool,
    /// systemd could not be notified, which has been logged.
    unheard: bool,
}

impl Serving {
    pub(in crate::control) fn new(
        current: Current,
        shards: Shards,
        signals: Signals,
        reloads: Requests,
    ) -> Self {
        let running = current.get();
        Self {
            life: Arc::clone(&running.life),
            driver: running.driver,
            events: Events::new(&running.traffic, Instant::now()),
            current,
            shards,
            signals,
            reloads,
            drain_at: None,
            broken: false,
            unheard: false,
        }
    }

    /// Serves until the last shard has ended. `beside`, the admin API and the reloads, is polled
    /// all
    /// the while.
    pub(in crate::control) async fn run(mut self, ready: &str, beside: impl Future) -> ExitCode {
        log::announce(&Notice::new(Level::Info, "ready", ready.to_owned()));
        // By itself: systemd drops a datagram that is too long, and with it all that is in it.
        self.notify(&[NotifyState::Ready]);
        self.notify(&[NotifyState::Status(&self.summary())]);
        let mut beside = pin!(beside);
        let mut beside_ended = false;
        let mut looks = interval_at(tokio::time::Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shards.all_ended() {
            tokio::select! {
                signal = self.signals.next() => self.answer(signal),
                () = self.life.drain_requested() => self.leave("drain requested"),
                () = reached(self.drain_at) => self.drain("shutdown_delay is over"),
                (index, end) = self.shards.next_ended() => self.account_for(index, &end),
                now = looks.tick() => self.look(now.into_std()),
                _ = &mut beside, if !beside_ended => beside_ended = true,
            }
        }
        let why = match self.life.stage() {
            Stage::Stopping => "at stop",
            _ => "at the end of drain_timeout",
        };
        write(self.events.last_look(&self.current.get().traffic, Instant::now(), why));
        log::info(format_args!("stopped"));
        if self.broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn answer(&mut self, signal: Signal) {
        match signal {
            Signal::End(name) => match self.life.stage() {
                Stage::Starting | Stage::Serving => self.leave(name),
                Stage::LameDuck => self.drain(name),
                Stage::Draining | Stage::Stopping => {
                    self.stop(format_args!("{name}: stopping immediately"))
                }
            },
            Signal::Upgrade => log::info(format_args!(
                "SIGUSR2: ignored, this version cannot hand its sessions to a new process"
            )),
            Signal::Meaningless(name) => log::info(format_args!("{name}: ignored (logged once)")),
            Signal::Reload => self.reloads.reload_by_signal(),
            Signal::Reopen => self.reloads.reopen_logs(),
        }
    }

    fn look(&mut self, now: Instant) {
        write(self.events.look(&self.current.get().traffic, now));
    }

    /// The status that systemd shows for the unit.
    fn summary(&self) -> String {
        let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        let traffic = self.current.get().traffic;
        format!(
            "ringlane {}: serving, {} on {}, {}",
            env!("CARGO_PKG_VERSION"),
            count(traffic.shards(), "shard"),
            self.driver.name(),
            count(traffic.snapshot.frontends.len(), "frontend"),
        )
    }

    /// Drains, after `shutdown_delay` if there is one: until then `/healthz` announces the end, and
    /// new sessions are still served.
    fn leave(&mut self, why: &str) {
        let delay = self.current.get().shutdown.delay;
        if delay.is_zero() {
            return self.drain(why);
        }
        if self.life.stage() >= Stage::LameDuck {
            return;
        }
        self.life.enter(Stage::LameDuck);
        self.drain_at = Some(tokio::time::Instant::now() + delay);
        self.notify(&[NotifyState::Stopping, NotifyState::Status("about to drain")]);
        log::info(format_args!(
            "{why}: /healthz answers 503 from now on; listeners close in {} s, or at a second signal",
            delay.as_secs_f64(),
        ));
    }

    /// Notifies systemd, if there is one. Only the first failure is logged.
    fn notify(&mut self, states: &[NotifyState<'_>]) {
        let Err(error) = sd_notify::notify(states) else { return };
        if !std::mem::replace(&mut self.unheard, true) {
            log::warning(format_args!("cannot notify systemd (NOTIFY_SOCKET): {error}"));
        }
    }

    /// Lets sessions finish, for a while. Does nothing when they are already at it.
    fn drain(&mut self, why: &str) {
        if self.life.stage() >= Stage::Draining {
            return;
        }
        self.life.enter(Stage::Draining);
        self.drain_at = None;
        self.notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        let Running { traffic, shutdown, .. } = self.current.get();
        let (timeout, live) = (shutdown.drain, traffic.gauges.common.process.live());
        log::info(format_args!(
            "{why}: draining, {live} live session{} may finish within {} s; a second signal ends them",
            if live == 1 { "" } else { "s" },
            timeout.as_secs_f64(),
        ));
        self.shards.tell_all(|| Message::Drain(timeout));
    }

    /// Ends everything now.
    fn stop(&mut self, why: std::fmt::Arguments<'_>) {
        if self.life.stage() == Stage::Stopping {
            return;
        }
        self.life.enter(Stage::Stopping);
        self.notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        log::info(why);
        self.shards.tell_all(|| Message::Stop);
    }

    /// Handles the end of a shard: it may return after a drain or a stop, and must not end
    /// otherwise.
    fn account_for(&mut self, index: usize, end: &End) {
        match end {
            End::Returned if self.life.stage() >= Stage::Draining => return,
            End::Returned => log::error(format_args!(
                "shard {index} exited unexpectedly: this is a bug in ringlane, please report it"
            )),
            End::Failed(error) => log::error(format_args!(
                "shard {index} failed because of an error of the kernel ({error}): its sessions are \
                 lost; `dmesg` may show the cause"
            )),
            End::Panicked => log::error(format_args!(
                "shard {index} panicked: this is a bug in ringlane, please report it"
            )),
        }
        self.broken = true;
        self.stop(format_args!("stopping the other shards"));
    }
}

/// Writes the lines of a look.
fn write(notices: Vec<Notice>) {
    notices.iter().for_each(log::write);
}

/// Completes at a time, if there is one.
async fn reached(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
