//! What differs between two configurations, in the words of the file, and what each difference does
//! when it is taken over.
//!
//! Compared are values in force: a key that is written with its default is no difference, nor is
//! `"60s"` instead of `"1m"`. A key counts only where one of the two files has it, so that one edit
//! is one difference, although other keys may get other defaults by it. Not here: live counts, and
//! what this process can't do (`control`). Next: `difference`.

use std::collections::{BTreeMap, HashSet};

use ringlane_health::OnChange;
use toml::{Table, Value};

use super::defaults::{filled, number};
use super::difference::{Alteration, Difference};
use super::model::Secret;
use super::objects::{ObjectKind, Objects, example};
use super::show::inline;
use super::text::effect::Effect;
use super::text::keys::OnReload;
use super::text::schema::Section;
use super::value::{bitrate, duration};

/// All differences, object by object in the order of the new files.
pub fn diff(old: &Objects, new: &Objects) -> Vec<Difference> {
    let mut comparison = Comparison { old, new, found: Vec::new() };
    comparison.object(ObjectKind::Global, "", "");
    for name in both(&old.names(ObjectKind::Frontend), &new.names(ObjectKind::Frontend)) {
        comparison.object(ObjectKind::Frontend, name, "");
    }
    for name in both(&old.names(ObjectKind::Backend), &new.names(ObjectKind::Backend)) {
        comparison.object(ObjectKind::Backend, name, name);
        let is_in_both = [old, new].iter().all(|all| all.get(ObjectKind::Backend, name).is_some());
        if is_in_both {
            for server in both(&names(old.servers(name)), &names(new.servers(name))) {
                comparison.object(ObjectKind::Server, server, name);
            }
            comparison.order(name);
        }
    }
    comparison.found
}

fn names(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The names of the new list, then those that only the old one has.
fn both<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<&'a str> {
    let kept: HashSet<&str> = new.iter().copied().collect();
    let gone = old.iter().filter(|name| !kept.contains(*name));
    new.iter().chain(gone).copied().collect()
}

struct Comparison<'a> {
    old: &'a Objects,
    new: &'a Objects,
    found: Vec<Difference>,
}

/// The same table of both sides: as it is written, and with defaults.
#[derive(Clone, Copy)]
struct Sides<'a> {
    written: [&'a Table; 2],
    filled: [&'a Table; 2],
}

/// Where a table is, and what its holder does at a reload.
#[derive(Clone, Copy)]
struct Place<'a> {
    kind: ObjectKind,
    name: &'a str,
    section: Section,
    path: &'a str,
    holder: Effect,
}

impl Comparison<'_> {
    /// `backend`: the object itself, or that of a server.
    fn object(&mut self, kind: ObjectKind, name: &str, backend: &str) {
        let (old, new) = (self.old.get(kind, name), self.new.get(kind, name));
        let (Some(old), Some(new)) = (old, new) else {
            if old.is_some() || new.is_some() {
                self.found.push(self.come_or_gone(kind, name, backend));
            }
            return;
        };
        let (full_old, full_new) = (filled(self.old, kind, name), filled(self.new, kind, name));
        let sides = Sides { written: [&old.table, &new.table], filled: [&full_old, &full_new] };
        let place = Place { kind, name, section: kind.section(), path: "", holder: Effect::New };
        let secrets = [&old.secrets, &new.secrets];
        self.table(place, sides, secrets);
    }

    /// Another order of the servers that stay: `balance = "first"` and lines of logs go by it.
    fn order(&mut self, backend: &str) {
        let [old, new] = [self.old, self.new].map(|all| names(all.servers(backend)));
        let stays = |from: &[&str], other: &[&str]| -> Vec<String> {
            let own = |name: &str| name.strip_prefix(&format!("{backend}/")).map(str::to_owned);
            let other: HashSet<&str> = other.iter().copied().collect();
            from.iter().filter(|name| other.contains(*name)).filter_map(|name| own(name)).collect()
        };
        let (before, after) = (stays(&old, &new), stays(&new, &old));
        if before != after {
            self.found.push(Difference {
                kind: ObjectKind::Backend,
                name: backend.to_owned(),
                change: Alteration::Changed {
                    key: "server".to_owned(),
                    from: Some(before.join(", ")),
                    to: Some(after.join(", ")),
                },
                effect: Effect::New,
            });
        }
    }

    fn come_or_gone(&self, kind: ObjectKind, name: &str, backend: &str) -> Difference {
        let is_new = self.new.get(kind, name).is_some();
        let objects = if is_new { self.new } else { self.old };
        let table = objects.table(kind, name);
        let summary = match kind {
            ObjectKind::Global => String::new(),
            ObjectKind::Frontend => {
                let bind = table.and_then(|table| table.get("bind"));
                counted(bind.map_or(0, |bind| bind.as_array().map_or(1, Vec::len)), "listener")
            }
            ObjectKind::Backend => counted(objects.servers(name).len(), "server"),
            ObjectKind::Server => {
                let address = table.and_then(|table| table.get("address"));
                address.and_then(Value::as_str).unwrap_or_default().to_owned()
            }
        };
        let effect = match (kind, is_new) {
            (ObjectKind::Frontend, _) => Effect::Listener,
            (_, true) => Effect::New,
            _ => Effect::Leaves(self.on_drain(backend)),
        };
        let change = if is_new { Alteration::Added(summary) } else { Alteration::Removed(summary) };
        Difference { kind, name: name.to_owned(), change, effect }
    }

    /// What a backend does with the sessions of a server that leaves, by its new rules if it
    /// stays.
    fn on_drain(&self, backend: &str) -> OnChange {
        let old = self.old.table(ObjectKind::Backend, backend);
        let table = self.new.table(ObjectKind::Backend, backend).or(old);
        match table.and_then(|table| table.get("on_drain")).and_then(Value::as_str) {
            Some("drain") => OnChange::Drain,
            Some("fence") => OnChange::Fence,
            _ => OnChange::Keep,
        }
    }

    fn table(
        &mut self,
        place: Place<'_>,
        sides: Sides<'_>,
        secrets: [&BTreeMap<String, Secret>; 2],
    ) {
        for key in place.section.keys() {
            let path = format!("{}{}", place.path, key.name);
            let effect = match key.on_reload {
                OnReload::Has(effect) => effect,
                OnReload::AsHolder | OnReload::Container => place.holder,
                OnReload::Identity => continue,
            };
            if !sides.written.iter().any(|table| table.contains_key(key.name)) {
                continue;
            }
            let [old, new] = sides.filled.map(|table| table.get(key.name));
            let tables = [old, new].map(|value| value.and_then(Value::as_table));
            if let ([Some(old), Some(new)], Some(section)) = (tables, place.section.inner(key.name))
            {
                let empty = Table::new();
                let written = sides
                    .written
                    .map(|table| table.get(key.name).and_then(Value::as_table).unwrap_or(&empty));
                let path = format!("{path}.");
                let place = Place { section, path: &path, holder: effect, ..place };
                self.table(place, Sides { written, filled: [old, new] }, secrets);
                continue;
            }
            // It stands for two others, and only what these are counts.
            let is_idle = (place.section, key.name) == (Section::Timeout, "idle");
            let stays = |key| sides.filled[0].get(key) == sides.filled[1].get(key);
            if is_idle && stays("client") && stays("server") {
                continue;
            }
            let [before, after] = secrets.map(|all| under(all, &path));
            if before == after && is_same(place.section, key.name, old, new) {
                continue;
            }
            // Where nothing was remembered, nothing is forgotten.
            let effect = match effect {
                Effect::Forgets if old.is_none() => Effect::New,
                effect => effect,
            };
            let inner = place.section.inner(key.name).unwrap_or(place.section);
            let text = |value: Option<&Value>| value.map(|value| shown(inner, value));
            self.found.push(Difference {
                kind: place.kind,
                name: place.name.to_owned(),
                change: Alteration::Changed { key: path, from: text(old), to: text(new) },
                effect,
            });
        }
    }
}

/// The secrets at a path, or inside it.
fn under<'a>(all: &'a BTreeMap<String, Secret>, path: &str) -> Vec<(&'a str, &'a Secret)> {
    let is_inside = |key: &str| {
        key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    all.iter()
        .filter(|(key, _)| is_inside(key))
        .map(|(key, secret)| (key.as_str(), secret))
        .collect()
}

/// Whether two values of a key mean the same.
fn is_same(section: Section, key: &str, old: Option<&Value>, new: Option<&Value>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old == new };
    if old == new || is_single(old, new) || is_single(new, old) {
        return true;
    }
    if let (Some(old), Some(new)) = (number(old), number(new)) {
        return old == new;
    }
    let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else { return false };
    let Some(Value::String(example)) = example(section, key) else { return false };
    let times = [old, new].map(|text| duration::parse_or_none(text).ok());
    let rates = [old, new].map(|text| bitrate::parse(text).ok());
    let is_equal = |[old, new]: [Option<u128>; 2]| old.is_some() && old == new;
    (duration::parse(&example).is_ok() && is_equal(times.map(|time| Some(time?.as_nanos()))))
        || (bitrate::parse(&example).is_ok() && is_equal(rates.map(|rate| rate.map(u128::from))))
}

/// Whether one value is an array of the other one alone.
fn is_single(array: &Value, value: &Value) -> bool {
    array.as_array().is_some_and(|array| array.as_slice() == std::slice::from_ref(value))
}

/// A value for people: strings without quotes.
fn shown(section: Section, value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
            text.clone()
        }
        Value::Array(array) if !array.is_empty() && array.iter().all(Value::is_str) => {
            let texts: Vec<String> = array.iter().map(|one| shown(section, one)).collect();
            texts.join(", ")
        }
        other => inline(section, other),
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
