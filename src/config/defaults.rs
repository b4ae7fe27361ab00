//! The values that keys have when they are not written.
//!
//! Only for people: what a reload changes (`diff`) and what is in force (`show`). The readers have
//! defaults of their own, and a test compares the two. Keys that have no default, or would be
//! refused or without effect beside the others, stay absent. Next: `show`.

use toml::{Table, Value};

use super::model::LogField;
use super::objects::{ObjectKind, Objects, WrittenObject};
use super::text::table::NAME_MAX;
use super::value::address::{self, ServerAddress};
use super::value::duration;
use super::value::lookup::{Name, SLOTS_SRV};

/// Kinds of check that log in to a database, and see its role.
const LOGIN_KINDS: [&str; 3] = ["postgres", "mysql", "redis"];

/// The longest default of a check's `timeout`.
const CHECK_TIMEOUT_MAX: &str = "5s";

/// The keys of an object with all defaults; tables of which an empty one is the same as none are
/// always there.
pub(super) fn filled(objects: &Objects, kind: ObjectKind, name: &str) -> Table {
    let Some(object) = objects.get(kind, name) else { return Table::new() };
    let mut table = object.table.clone();
    match kind {
        ObjectKind::Global => global(&mut table),
        ObjectKind::Frontend => frontend(&mut table),
        ObjectKind::Backend => backend(&mut table, has_limits(objects, object)),
        ObjectKind::Server => server(&mut table),
    }
    table
}

/// Whether a server of a backend has a limit, so that sessions wait.
fn has_limits(objects: &Objects, backend: &WrittenObject) -> bool {
    let tables = backend.servers.iter().filter_map(|name| objects.get(ObjectKind::Server, name));
    tables.into_iter().any(|server| server.table.contains_key("max_connections"))
}

fn set(table: &mut Table, key: &str, default: impl Into<Value>) {
    if !table.contains_key(key) {
        table.insert(key.to_owned(), default.into());
    }
}

fn set_all(table: &mut Table, defaults: &[(&str, &str)]) {
    defaults.iter().for_each(|(key, default)| set(table, key, *default));
}

/// The table under a key, if there is one.
fn inner<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Table> {
    table.get_mut(key).and_then(Value::as_table_mut)
}

/// The table under a key, which is made if it is missing.
fn always<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Table> {
    set(table, key, Table::new());
    inner(table, key)
}

/// Does something with each table of the array under a key.
fn each(table: &mut Table, key: &str, fill: impl FnMut(&mut Table)) {
    let array = table.get_mut(key).and_then(Value::as_array_mut);
    array.into_iter().flatten().filter_map(Value::as_table_mut).for_each(fill);
}

fn is(table: &Table, key: &str, words: &[&str]) -> bool {
    table.get(key).and_then(Value::as_str).is_some_and(|word| words.contains(&word))
}

fn global(table: &mut Table) {
    set_all(table, &[("shards", "auto"), ("driver", "auto")]);
    set(table, "pin", true);
    set_all(table, &[("shutdown_delay", "0s"), ("drain_timeout", "30s")]);
    if let Some(admin) = always(table, "admin") {
        each(admin, "tokens", |token| set(token, "role", "read"));
    }
    if let Some(log) = always(table, "log") {
        set_all(log, &[("level", "info"), ("format", "text"), ("to", "stderr")]);
    }
    if let Some(resolver) = always(table, "resolver") {
        set_all(resolver, &[("timeout", "2s"), ("hold", "30s")]);
    }
    if let Some(log) = inner(table, "access_log") {
        set_all(log, &[("format", "text"), ("to", "stderr")]);
        set(log, "log_empty", true);
        set(log, "fields", LogField::ALL.map(LogField::name).to_vec());
    }
}

fn frontend(table: &mut Table) {
    let words = [("mode", "tcp"), ("congestion", "auto"), ("path", "auto"), ("role", "any")];
    set_all(table, &words);
    set_all(table, &[("protocol", "any"), ("priority", "normal")]);
    set(table, "transparent", false);
    set(table, "accept_proxy", false);
    always(table, "tcp");
    let reads_first = !is(table, "protocol", &["any"]);
    if is(table, "protocol", &["tls", "postgres"]) {
        set(table, "no_sni", "backend");
        if table.contains_key("route") {
            set(table, "unmatched", "backend");
        }
    }
    if let Some(timeout) = always(table, "timeout") {
        set_all(timeout, &[("connect", "5s"), ("idle", "1h")]);
        let idle = timeout.get("idle").cloned().unwrap_or_else(|| "1h".into());
        set(timeout, "client", idle.clone());
        set(timeout, "server", idle);
        if reads_first {
            set(timeout, "greeting", "5s");
        }
    }
    if let Some(accept) = inner(table, "accept_proxy") {
        set(accept, "timeout", "5s");
    }
    each(table, "route", |route| set(route, "role", "any"));
    if let Some(limits) = inner(table, "per_client") {
        set(limits, "refuse", "reset");
        set(limits, "size", 100_000);
        let rate = limits.get("rate").and_then(number);
        if let Some(rate) = rate {
            set(limits, "burst", rate.ceil().max(1.0) as i64);
        }
    }
}

/// The value of a number of either type.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}

fn backend(table: &mut Table, has_limits: bool) {
    set_all(table, &[("balance", "round_robin"), ("congestion", "auto"), ("on_drain", "keep")]);
    set(table, "transparent", false);
    always(table, "tcp");
    always(table, "bandwidth");
    if is(table, "balance", &["maglev", "ring_hash", "source"]) {
        set(table, "hash", "client_ip");
    }
    if let Some(affinity) = inner(table, "affinity") {
        set_all(affinity, &[("key", "client_ip"), ("ttl", "30m")]);
        set(affinity, "size", 100_000);
    }
    let queue = if has_limits { always(table, "queue") } else { inner(table, "queue") };
    if let Some(queue) = queue {
        set(queue, "size", 1024);
    }
    if let Some(mirror) = inner(table, "mirror") {
        set(mirror, "share", 1.0);
    }
    if let Some(outlier) = inner(table, "outlier") {
        set_all(outlier, &[("interval", "10s"), ("base", "30s"), ("max", "5m")]);
        set(outlier, "failures", 5);
        set(outlier, "share", 50);
    }
    if table.contains_key("check") || table.contains_key("outlier") {
        set(table, "on_down", "keep");
        set(table, "fail_open", 0);
    }
    let sees_roles = inner(table, "check").is_some_and(|check| is(check, "kind", &LOGIN_KINDS));
    if sees_roles {
        set_all(table, &[("on_role_change", "keep"), ("on_conflict", "stop")]);
        if table.contains_key("max_lag") {
            set(table, "on_lag", "keep");
        }
    }
    let on_all = ["on_down", "on_role_change", "on_lag", "on_drain"];
    if on_all.iter().any(|key| is(table, key, &["drain"])) {
        set(table, "drain_idle", "1s");
    }
    if let Some(found) = inner(table, "check") {
        check(found);
    }
}

fn check(table: &mut Table) {
    set(table, "interval", "2s");
    let interval = table.get("interval").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_short = duration::parse(&interval).ok() <= duration::parse(CHECK_TIMEOUT_MAX).ok();
    set(table, "timeout", if is_short { interval } else { CHECK_TIMEOUT_MAX.to_owned() });
    set(table, "rise", 2);
    set(table, "fall", 3);
    set(table, "source", true);
    set(table, "tcp", true);
    if is(table, "kind", &["http"]) {
        let words = [("method", "GET"), ("path", "/"), ("version", "1.1"), ("status", "200-399")];
        set_all(table, &words);
        set(table, "tls", false);
    }
    if is(table, "kind", &LOGIN_KINDS) {
        set_all(table, &[("login", "each"), ("tls", "off")]);
    }
    let has_tls = is(table, "kind", &["tls"])
        || (is(table, "kind", &["http"]) && table.get("tls") == Some(&Value::Boolean(true)));
    if has_tls {
        set(table, "verify", true);
    }
    if is(table, "kind", &["agent"]) {
        set(table, "send", "");
    }
}

fn server(table: &mut Table) {
    let address = table.get("address").and_then(Value::as_str).unwrap_or_default().to_owned();
    // A longer one is no valid name where it is written out.
    if address.len() <= NAME_MAX {
        set(table, "name", address.as_str());
    }
    set(table, "backup", false);
    set(table, "state", "ready");
    let (weight, slots) = match address::server(&address) {
        Ok(ServerAddress::Named(Name::Srv(_))) => (1000, Some(SLOTS_SRV)),
        Ok(ServerAddress::Named(_)) => (1, Some(1)),
        _ => (1, None),
    };
    set(table, "weight", weight);
    if let Some(slots) = slots {
        set(table, "slots", i64::from(slots));
    }
}
