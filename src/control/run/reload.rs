//! Changes the configuration of a running balancer, without an end of any session or listener that
//! stays.
//!
//! A reload reads, checks and prepares first, on a thread of its own; whatever is refused is
//! refused
//! then, as a whole, and nothing has been touched. What follows cannot fail: states of servers go
//! on by name, every shard installs the new configuration, then serves it, then lets go of the old
//! one (`ringlane_shard::run`). Not here: what can't be changed (`refusals`), the steps of the
//! preparation (`prepare`). Invariants: one reload at a time; requests that come meanwhile wait,
//! and
//! of those for the same file one reload serves all.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringlane_core::balance::HashTable;
use ringlane_shard::Message;
use sd_notify::NotifyState;
use tokio::time::sleep;

use super::live;
use super::prepare::{self, Prepared, ServedNow};
use super::publish;
use super::refusals::ReloadRefusal;
use super::requests::{
    ConfigOrigin, Published, ReloadOrder, ReloadOrders, ReloadOutcome, ReloadRequest, Reloaded,
};
use crate::config::{Config, Global, Objects, Sources};
use crate::control::Stage;
use crate::control::log::{self, Level, Notice};
use crate::control::report::access_log::{self, AccessLogThread};
use crate::control::report::admin::apply;
use crate::control::running::{Current, NewerParts, Running, Shutdown};
use crate::control::servers::tasks::{Task, Tasks};
use crate::control::servers::{checks, names};
use crate::control::start::socket_files::SocketFiles;
use crate::control::start::sockets::Listeners;

/// The pause between two looks at what shards have done.
const STEP: Duration = Duration::from_millis(1);

/// The time after which a shard that has not taken a configuration is named in the log.
const PATIENCE: Duration = Duration::from_secs(1);

/// Configurations whose texts are kept.
const HISTORY_MAX: usize = 10;

/// What a reload changes, and what it goes by.
#[derive(Debug)]
pub(in crate::control) struct Reloader {
    current: Current,
    /// Settings of the process that are in effect.
    global: Arc<Global>,
    sources: Arc<Sources>,
    /// The objects of the configuration that is served, as they are written.
    objects: Arc<Objects>,
    /// The tasks of the configuration that is served.
    tasks: Tasks,
    files: SocketFiles,
    log: Option<AccessLogThread>,
    history: VecDeque<Published>,
}

impl Reloader {
    /// What the first configuration has.
    pub(super) fn new(
        current: Current,
        config: (Global, Arc<Sources>, Objects),
        tasks: Tasks,
        files: SocketFiles,
        log: Option<AccessLogThread>,
    ) -> Self {
        let (global, sources, objects) = config;
        let generation = current.get().traffic.snapshot.generation;
        let mut reloader = Self {
            current,
            global: Arc::new(global),
            sources,
            objects: Arc::new(objects),
            tasks,
            files,
            log,
            history: VecDeque::new(),
        };
        reloader.remember(generation, "start".to_owned());
        reloader
    }

    /// The file that the process was started with.
    fn path(&self) -> Option<PathBuf> {
        self.sources.main_path().map(Into::into)
    }

    /// A configuration is served from now on; its text is kept.
    fn remember(&mut self, generation: u64, by: String) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        let sources = Arc::clone(&self.sources);
        self.history.push_back(Published { generation, at: SystemTime::now(), by, sources });
    }

    /// Ends what the configuration that is served has: its tasks, its log, its socket files.
    pub(super) fn end(self) {
        let Self { tasks, log, files, .. } = self;
        drop(tasks);
        if let Some(log) = log {
            log.stop();
        }
        drop(files);
    }

    /// Carries out orders until the future is dropped.
    pub(in crate::control) async fn run(&mut self, orders: &mut ReloadOrders) {
        // Taken out already, in their order.
        let mut pending = VecDeque::new();
        loop {
            let next = match pending.pop_front() {
                Some(order) => Some(order),
                None => orders.0.recv().await,
            };
            match next {
                None => return,
                Some(ReloadOrder::Reopen) => self.reopen(),
                Some(ReloadOrder::History(answer)) => {
                    // Fails if the client has disconnected.
                    let _ = answer.send(self.history.iter().cloned().collect());
                }
                Some(ReloadOrder::Reload(request)) => {
                    while let Ok(order) = orders.0.try_recv() {
                        pending.push_back(order);
                    }
                    let outcome = self.reload(&request).await;
                    // What waited for the same before it began is served by it.
                    for other in take_same(&mut pending, &request) {
                        other.answer(outcome.clone());
                    }
                    request.answer(outcome);
                }
            }
        }
    }

    fn reopen(&self) {
        match &self.log {
            Some(access_log) => {
                access_log.reopen();
                log::reopen();
            }
            None if log::reopen() => {}
            None => log::info(format_args!("SIGUSR1: ignored, no log goes to a file")),
        }
    }

    /// Carries out one request.
    async fn reload(&mut self, request: &ReloadRequest) -> ReloadOutcome {
        let begin = Instant::now();
        let generation = self.current.get().traffic.snapshot.generation;
        if !request.plan {
            notify_reloading();
        }
        let outcome = self.try_reload(request).await;
        if request.plan {
            return outcome;
        }
        match &outcome {
            Ok(reloaded) => {
                let took = begin.elapsed().as_millis();
                let Reloaded { generation, changes, warnings, .. } = reloaded;
                for warning in warnings {
                    log::warning(format_args!("{warning}"));
                }
                let what = live::summary(changes);
                let text = format!(
                    "{}: configuration {generation} is served after {took} ms: {what}",
                    request.by
                );
                log::write(&Notice::new(Level::Info, "reloaded", text));
                notify_ready(&format!("serving configuration {generation}"));
            }
            Err(refusal) => {
                let text = format!(
                    "{}: reload refused, configuration {generation} goes on: {refusal}",
                    request.by
                );
                log::write(&Notice::new(Level::Error, "reload_refused", text));
                notify_ready(&format!(
                    "serving configuration {generation}; the last reload was refused: {refusal}"
                ));
            }
        }
        outcome
    }

    async fn try_reload(&mut self, request: &ReloadRequest) -> ReloadOutcome {
        let running = self.current.get();
        let generation = running.traffic.snapshot.generation;
        if let Some(expected) = request.expect.filter(|expected| *expected != generation) {
            return Err(ReloadRefusal::other_generation(expected, generation));
        }
        if running.life.stage() >= Stage::Draining {
            return Err(ReloadRefusal::ending());
        }
        let source = match &request.origin {
            ConfigOrigin::File => match self.path() {
                Some(path) => prepare::Source::File(path),
                None => return Err(ReloadRefusal::without_file()),
            },
            ConfigOrigin::Text(text) => match self.path() {
                Some(path) => prepare::Source::Text(path, text.clone()),
                None => return Err(ReloadRefusal::without_file()),
            },
            ConfigOrigin::Generation(number) => {
                let found = self.history.iter().find(|one| one.generation == *number);
                let Some(found) = found else { return Err(ReloadRefusal::no_such_text(*number)) };
                prepare::Source::Again(Arc::clone(&found.sources))
            }
        };
        let before = ServedNow {
            global: Arc::clone(&self.global),
            objects: Arc::clone(&self.objects),
            running: running.clone(),
        };
        let prepared = prepare::prepare(source, before, request.plan).await?;
        let outcome = prepared.outcome(generation);
        let Prepared { config, listeners, tables, access_log, .. } = prepared;
        if let Some(listeners) = listeners {
            self.apply(running, config, listeners, tables, access_log).await;
            self.remember(generation + 1, request.by.clone());
        }
        Ok(outcome)
    }

    /// Serves what was prepared.
    async fn apply(
        &mut self,
        running: Running,
        config: Config,
        listeners: Listeners,
        tables: Arc<[HashTable]>,
        access_log: Option<access_log::Opened>,
    ) {
        let hold = config.global.resolver.hold;
        let older = &running.traffic.snapshot;
        let (new_names, renamed) =
            running.names.follow(older, &config.snapshot, config.lookups, hold);
        let first = names::ask_first(&new_names, &config.global.resolver).await;
        self.wait_for_mailboxes(&running).await;

        // From here to the last message nothing is awaited: states of servers must not change
        // between being taken over and being served.
        self.tasks = Tasks::default();
        let newer = running.follow(NewerParts {
            snapshot: config.snapshot,
            watches: config.watches,
            names: Arc::new(new_names),
            renamed: &renamed,
            listening: listeners.addresses,
            tables,
            shutdown: Shutdown::of(&config.global),
        });
        let mut tasks = Tasks::default();
        names::begin(&mut tasks, &newer.names, &newer.servers, &config.global.resolver, first);
        let installations = publish::installations(&newer, listeners.shards, listeners.changed);
        for (index, installation) in installations.into_iter().enumerate() {
            let message = Message::Install(Box::new(installation));
            if let Err(back) = publish::post(&newer.mailboxes[index], message) {
                // It may miss addresses that change before it runs again.
                log::warning(format_args!("shard {index} takes no message: its mailbox is full"));
                publish::tell_later(&newer.mailboxes, index, back);
            }
        }
        self.current.set(newer.clone());
        for (change, why) in apply::follow(&newer) {
            let text = format!(
                "{}: the change of {} by {} ends with this reload: {why}",
                change.subject.called(),
                change.to.key(),
                change.by
            );
            log::write(&Notice::new(Level::Info, "change_ended", text));
        }
        checks::begin(&mut tasks, &newer.servers, &newer.watches);
        let servers = Arc::clone(&newer.servers);
        tasks.start(Task::Delivery, async move { servers.deliver().await });
        newer.servers.wake();
        self.tasks = tasks;
        self.log_to(&newer, access_log);
        (self.global, self.sources) = (Arc::new(config.global), config.sources);
        self.objects = Arc::new(config.objects);

        self.serve(&running, &newer).await;
        self.files.follow(listeners.files, &newer.listening.paths());
    }

    /// Has every shard serve what it has installed, and let go of what it served before.
    async fn serve(&self, older: &Running, newer: &Running) {
        let (common, number) = (&newer.traffic.gauges.common, newer.traffic.snapshot.generation);
        let has_installed = |shard| common.installed(shard) >= number;
        self.wait_for_shards(newer, "installed", has_installed).await;
        publish::tell(&newer.mailboxes, || Message::Serve(number));
        self.wait_for_shards(newer, "begun to serve", |shard| common.served(shard) >= number).await;
        for leaving in older.servers.leave(&newer.traffic.gauges) {
            publish::tell(&newer.mailboxes, || leaving.message());
        }
        let older = older.traffic.snapshot.generation;
        publish::tell(&newer.mailboxes, || Message::Retire(older));
    }

    /// Waits until every shard has done something; one that has not for long is logged.
    async fn wait_for_shards(&self, running: &Running, what: &str, done: impl Fn(usize) -> bool) {
        let (begin, number) = (Instant::now(), running.traffic.snapshot.generation);
        let mut is_logged = false;
        let shards = running.traffic.shards();
        // A shard that has ended takes nothing; with the last of them this future is dropped.
        while running.life.stage() < Stage::Draining {
            let Some(late) = (0..shards).find(|shard| !done(*shard)) else { return };
            if begin.elapsed() > PATIENCE && !std::mem::replace(&mut is_logged, true) {
                log::warning(format_args!(
                    "shard {late} has not {what} configuration {number} after {PATIENCE:?}: the \
                     reload goes on when it has"
                ));
            }
            sleep(STEP).await;
        }
    }

    /// Waits until all that shards were to be sent before is sent, no fence is open, and every
    /// mailbox has room for more.
    async fn wait_for_mailboxes(&self, running: &Running) {
        let (begin, mut is_logged) = (Instant::now(), false);
        let has_room = || running.mailboxes.iter().all(|mailbox| mailbox.has_room());
        while !(running.servers.settle(Instant::now()) && has_room()) {
            if begin.elapsed() > PATIENCE && !std::mem::replace(&mut is_logged, true) {
                log::warning(format_args!(
                    "a reload waits: after {PATIENCE:?} a shard still has messages to read"
                ));
            }
            sleep(STEP).await;
        }
    }

    /// Writes finished sessions to what is configured now. Without an access log the thread stays
    /// for the sessions of older configurations.
    fn log_to(&mut self, newer: &Running, access_log: Option<access_log::Opened>) {
        let Some(opened) = access_log else { return };
        match opened.start(newer.snapshots.clone(), newer.records_lost.clone(), newer.logs.to_vec())
        {
            Ok(thread) => {
                // Ends by itself, once it has written what is queued.
                drop(self.log.replace(thread));
            }
            Err(error) => log::error(format_args!(
                "access log: cannot start its thread ({error}); the log before goes on"
            )),
        }
    }
}

/// Takes the requests out that are served by the same reload as `request`.
fn take_same(pending: &mut VecDeque<ReloadOrder>, request: &ReloadRequest) -> Vec<ReloadRequest> {
    let (mut same, mut others) = (Vec::new(), VecDeque::new());
    for order in pending.drain(..) {
        match order {
            ReloadOrder::Reload(other) if other.is_served_with(request) => same.push(other),
            other => others.push_back(other),
        }
    }
    *pending = others;
    same
}

/// Notifies systemd that a reload begins. With Type=notify-reload both must be in one message.
fn notify_reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        // Without systemd there is nothing to notify; a failure was logged at start.
        let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
    }
}

/// Notifies systemd that the reload is over, and what the unit's status is.
fn notify_ready(status: &str) {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    // By itself: systemd drops a datagram that is too long, and with it all that is in it.
    let _ = sd_notify::notify(&[NotifyState::Status(status)]);
}
