//! How orders of operators take effect, and how they are put back.
//!
//! Each is checked, recorded and carried out in one step. Not here: reading requests (`orders`),
//! the list of changes (`control::changes`). Invariant: what is recorded has taken effect, since
//! both happen with the list locked and nothing in between waits. Next: `order`.

use std::sync::Arc;
use std::time::Duration;

use ringlane_core::ids::{FrontendId, ServerId};
use ringlane_core::settings::Snapshot;
use ringlane_shard::{Mailbox, Message};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::find::{self, Refusal};
use crate::control::Running;
use crate::control::changes::{Override, Overrides, Setting, Subject};
use crate::control::log::{self, Level, Notice};

/// The pause between two attempts to wake a shard whose mailbox is full.
const WAKE_STEP: Duration = Duration::from_millis(1);

/// The object itself, in the present snapshot.
#[derive(Clone, Copy)]
enum ObjectId {
    Frontend(FrontendId),
    Server(ServerId),
}

/// Gives an object other values, all or none of them.
///
/// # Errors
/// When there is no such object.
pub(in crate::control) fn order(
    running: &Running,
    subject: &Subject,
    settings: &[Setting],
    by: &str,
) -> Result<(), Refusal> {
    let mut entries = running.overlay.lock();
    let object = find_object(&running.traffic.snapshot, subject)?;
    for &to in settings {
        let from = configured(&running.traffic.snapshot, object, to);
        let is_fixed = !matches!(to, Setting::Weight(_)) || !is_named(running, object);
        entries.set(subject, [from, to], is_fixed, by);
        apply(running, &entries, subject, object, to, by);
    }
    Ok(())
}

/// Restores what the configuration has.
///
/// # Errors
/// When there is no such change.
pub(in crate::control) fn put_back(
    running: &Running,
    id: u64,
    by: &str,
) -> Result<Override, Refusal> {
    let mut entries = running.overlay.lock();
    let change = entries.list().into_iter().find(|change| change.id == id);
    let change = change.ok_or_else(|| {
        Refusal::not_found(format!("there is no change {id}: GET /v1/changes lists them"))
    })?;
    let object = find_object(&running.traffic.snapshot, &change.subject)?;
    entries.set(&change.subject, [change.from; 2], true, by);
    apply(running, &entries, &change.subject, object, change.from, by);
    Ok(change)
}

/// Applies all changes to another snapshot, after a reload; returns those that end with it and
/// why. Where the file has another value than before, the file wins.
pub(in crate::control) fn follow(running: &Running) -> Vec<(Override, &'static str)> {
    let mut entries = running.overlay.lock();
    let mut ended = Vec::new();
    for change in entries.list() {
        let Ok(object) = find_object(&running.traffic.snapshot, &change.subject) else {
            entries.set(&change.subject, [change.from; 2], true, "");
            ended.push((change, "it is no longer in the configuration"));
            continue;
        };
        let now = configured(&running.traffic.snapshot, object, change.to);
        if now == change.from {
            apply(running, &entries, &change.subject, object, change.to, &change.by);
        } else {
            entries.set(&change.subject, [now; 2], true, "");
            apply(running, &entries, &change.subject, object, now, "the configuration");
            ended.push((change, "the configuration has another value since"));
        }
    }
    ended
}

/// Refuses what there is no object for.
///
/// # Errors
/// When there is none.
pub(super) fn exists(running: &Running, subject: &Subject) -> Result<(), Refusal> {
    find_object(&running.traffic.snapshot, subject).map(drop)
}

fn find_object(snapshot: &Snapshot, subject: &Subject) -> Result<ObjectId, Refusal> {
    match subject {
        Subject::Frontend { frontend } => {
            find::frontend(snapshot, frontend).map(ObjectId::Frontend)
        }
        Subject::Server { backend, server } => {
            find::server(snapshot, backend, server).map(ObjectId::Server)
        }
    }
}

/// Whether DNS may give an object another weight than the file.
fn is_named(running: &Running, object: ObjectId) -> bool {
    matches!(object, ObjectId::Server(id) if running.names.of(id).is_some())
}

/// The value of the same key as `like` in the configuration.
fn configured(snapshot: &Snapshot, object: ObjectId, like: Setting) -> Setting {
    match (object, like) {
        (ObjectId::Server(id), Setting::Weight(_)) => Setting::Weight(snapshot.server(id).weight),
        (ObjectId::Server(id), Setting::MaxConnections(_)) => {
            Setting::MaxConnections(snapshot.server(id).max_connections)
        }
        (ObjectId::Frontend(id), Setting::MaxConnections(_)) => {
            Setting::MaxConnections(snapshot.frontend(id).max_connections)
        }
        (ObjectId::Server(id), Setting::State(_)) => {
            Setting::State(snapshot.server(id).state.into())
        }
        (_, Setting::Paused(_)) => Setting::Paused(false),
        // Frontends have neither.
        (ObjectId::Frontend(_), Setting::State(_) | Setting::Weight(_)) => like,
    }
}

/// Has a value take effect; the entries have it already.
fn apply(
    running: &Running,
    entries: &Overrides,
    subject: &Subject,
    object: ObjectId,
    to: Setting,
    by: &str,
) {
    let (gauges, snapshot) = (&running.traffic.gauges, &running.traffic.snapshot);
    match (object, to) {
        (ObjectId::Server(id), Setting::State(admin)) => running.servers.set_admin(id, admin, by),
        (ObjectId::Server(id), Setting::Weight(weight)) => {
            // Without an order, what its name says counts again.
            let ordered = entries.value(subject, to).map(|_| weight);
            running.servers.set_weight(id, ordered, by);
        }
        (ObjectId::Server(id), Setting::MaxConnections(max)) => {
            let (gauge, backend) = (gauges.server(id), snapshot.server(id).backend);
            let before = gauge.max();
            gauge.set_max(max);
            if let Some(queue) = gauges.queue(backend).filter(|_| max > before) {
                let backend = running.traffic.gauges.backend_tag(backend);
                queue.call_next(|line, shard| {
                    // The first of a line looks by itself before long.
                    let _ = running.mailboxes[shard].post(Message::PlaceFree { backend, line });
                });
            }
            if before != max {
                report(subject, "server_limit", &limit(max, before), by);
            }
        }
        (ObjectId::Frontend(id), Setting::MaxConnections(_) | Setting::Paused(_)) => {
            let value = |like| {
                entries.value(subject, like).unwrap_or_else(|| configured(snapshot, object, like))
            };
            let is_paused = value(Setting::Paused(true)) == Setting::Paused(true);
            let max = match value(Setting::MaxConnections(0)) {
                Setting::MaxConnections(max) if !is_paused => max,
                _ => 0,
            };
            let gate = gauges.frontend(id);
            let before = gate.max();
            if gate.set_max(max) {
                open_gates(&running.mailboxes);
            }
            match (before, max) {
                (before, max) if before == max => {}
                (_, 0) => report(subject, "frontend_paused", "is paused", by),
                (0, _) => report(subject, "frontend_resumed", "accepts connections again", by),
                (before, max) => report(subject, "frontend_limit", &limit(max, before), by),
            }
        }
        // Orders of these kinds are not made.
        (ObjectId::Frontend(_), Setting::State(_) | Setting::Weight(_))
        | (ObjectId::Server(_), Setting::Paused(_)) => {}
    }
}

/// Wakes the shards that wait at a gate.
fn open_gates(mailboxes: &Arc<[Mailbox]>) {
    let is_full = |shard: &usize| mailboxes[*shard].post(Message::GateOpened).is_err();
    let full: Vec<usize> = (0..mailboxes.len()).filter(is_full).collect();
    let Some(runtime) = Handle::try_current().ok().filter(|_| !full.is_empty()) else { return };
    // A shard that misses this would not accept until the next session of the frontend ends, and
    // there may be none.
    let mailboxes = Arc::clone(mailboxes);
    runtime.spawn(async move {
        for shard in full {
            while mailboxes[shard].post(Message::GateOpened).is_err() {
                sleep(WAKE_STEP).await;
            }
        }
    });
}

fn limit(max: u32, before: u32) -> String {
    let shown = |max| if max == u32::MAX { "no limit".to_owned() } else { format!("{max}") };
    format!("has max_connections = {} (was {})", shown(max), shown(before))
}

/// Logs a change that nothing else logs.
fn report(subject: &Subject, event: &'static str, what: &str, by: &str) {
    let text = format!("{} {what}: ordered by an operator ({by})", subject.called());
    let notice = Notice::new(Level::Info, event, text);
    log::write(&match subject {
        Subject::Frontend { frontend } => notice.frontend(frontend),
        Subject::Server { backend, server } => notice.backend(backend).server(server),
    });
}

#[cfg(test)]
mod tests {
    use ringlane_health::Admin;
    use serde_json::{Value, json};

    use super::*;
    use crate::control::report::status::tests::running;

    fn server() -> Subject {
        Subject::Server { backend: "postgres".to_owned(), server: "pg1".to_owned() }
    }

    fn frontend() -> Subject {
        Subject::Frontend { frontend: "pg \"write\"".to_owned() }
    }

    #[test]
    fn an_order_takes_effect_is_listed_and_can_be_put_back() {
        let running = running();
        let order = |subject: &Subject, setting| {
            order(&running, subject, &[setting], "uid 7").unwrap();
        };
        let known = || running.servers.known(ServerId(0)).unwrap();
        order(&server(), Setting::Weight(5));
        order(&server(), Setting::State(Admin::Drain));
        order(&server(), Setting::Weight(9));
        order(&server(), Setting::MaxConnections(3));
        let listed: Vec<_> = running
            .overlay
            .lock()
            .list()
            .iter()
            .map(|c| (c.id, c.to.key(), c.from.to_json(), c.to.to_json()))
            .collect();
        assert_eq!(
            listed,
            [
                (2, "state", json!("ready"), json!("drain")),
                (3, "weight", json!(2), json!(9)),
                (4, "max_connections", Value::Null, json!(3)),
            ]
        );
        assert_eq!((known().weight, known().state.admin), (9, Admin::Drain));
        assert_eq!(running.traffic.gauges.server(ServerId(0)).max(), 3);
        assert!(
            running.overlay.has_server("postgres", "pg1")
                && !running.overlay.has_server("postgres", "pg2")
        );

        assert_eq!(put_back(&running, 4, "uid 7").unwrap().to.key(), "max_connections");
        assert_eq!(running.traffic.gauges.server(ServerId(0)).max(), u32::MAX);
        assert_eq!(put_back(&running, 4, "uid 7").unwrap_err().0.as_u16(), 404);
        // The value of the file is no change.
        order(&server(), Setting::State(Admin::Ready));
        order(&server(), Setting::Weight(2));
        assert!(
            running.overlay.lock().list().is_empty()
                && !running.overlay.has_server("postgres", "pg1")
        );
        assert_eq!((known().weight, known().state.admin), (2, Admin::Ready));
    }

    #[test]
    fn a_limit_that_is_set_during_a_pause_holds_after_it() {
        let running = running();
        let gate = running.traffic.gauges.frontend(FrontendId(0));
        let order = |settings: &[Setting]| {
            order(&running, &frontend(), settings, "uid 7").unwrap();
        };
        order(&[Setting::Paused(true)]);
        assert_eq!(gate.max(), 0);
        order(&[Setting::MaxConnections(7)]);
        assert_eq!(gate.max(), 0, "still paused");
        order(&[Setting::Paused(false)]);
        assert_eq!(gate.max(), 7);
        let changes = running.overlay.lock().list();
        let [change] = &changes[..] else { panic!("{changes:?}") };
        put_back(&running, change.id, "uid 7").unwrap();
        assert_eq!(gate.max(), 100);
        order(&[Setting::Paused(true), Setting::MaxConnections(100)]);
        assert_eq!((gate.max(), running.overlay.lock().list().len()), (0, 1));
    }

    #[test]
    fn an_order_about_nothing_changes_nothing() {
        let running = running();
        let nothing = Subject::Frontend { frontend: "x".to_owned() };
        let refusal = order(&running, &nothing, &[Setting::Paused(true)], "").unwrap_err();
        assert!(refusal.0.as_u16() == 404 && running.overlay.lock().list().is_empty());
    }
}
