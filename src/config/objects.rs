//! The objects of a configuration as they are written: names, keys and values, defaults left out.
//!
//! Passwords are masked; what they are is kept apart, for comparisons only. Not here: defaults
//! (`defaults`), comparing (`diff`), printing (`show`). Invariant: made only of a configuration
//! without errors, so that names are unique and values have their types.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::model::Secret;
use super::text::schema::{self, Section};
use super::text::tree::{Content, Entries, KeyValue, Located, Text};

/// Shown instead of a password.
pub(super) const MASK: &str = "***";

/// The kind of an object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ObjectKind {
    /// `[global]`; its name is empty.
    Global,
    /// A frontend.
    Frontend,
    /// A backend.
    Backend,
    /// An entry of `server`, named `backend/server`. With several slots it stands for as many
    /// servers of the snapshot.
    Server,
}

impl ObjectKind {
    /// Its name in sentences and in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Server => "server",
        }
    }

    pub(super) const fn section(self) -> Section {
        match self {
            Self::Global => Section::Global,
            Self::Frontend => Section::Frontend,
            Self::Backend => Section::Backend,
            Self::Server => Section::Server,
        }
    }
}

/// All objects of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    objects: BTreeMap<(ObjectKind, String), WrittenObject>,
    /// Names of frontends and of backends, in the order of the files.
    frontends: Vec<String>,
    backends: Vec<String>,
}

/// One object.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenObject {
    /// Its keys as they are written; of a backend without `server`.
    pub(super) table: Table,
    /// Passwords by their path in the table, such as `check.password`.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// Of a backend: the full names of its servers, in their order.
    pub(super) servers: Vec<String>,
}

impl Objects {
    /// The objects in a root table without errors.
    pub(super) fn of(root: &Entries) -> Self {
        let mut objects = Self::default();
        let global = match root.get("global").map(|global| &global.value.content) {
            Some(Content::Table(entries)) => WrittenObject::of(Section::Global, entries),
            _ => WrittenObject::default(),
        };
        objects.objects.insert((ObjectKind::Global, String::new()), global);
        for entries in tables(root, "frontend") {
            let object = WrittenObject::of(Section::Frontend, entries);
            let name = object.text("name").to_owned();
            objects.frontends.push(name.clone());
            objects.objects.insert((ObjectKind::Frontend, name), object);
        }
        for entries in tables(root, "backend") {
            let mut object = WrittenObject::of(Section::Backend, entries);
            object.table.remove("server");
            let name = object.text("name").to_owned();
            for entries in tables(entries, "server") {
                let server = WrittenObject::of(Section::Server, entries);
                let full_name = format!("{name}/{}", server.own_name());
                object.servers.push(full_name.clone());
                objects.objects.insert((ObjectKind::Server, full_name), server);
            }
            objects.backends.push(name.clone());
            objects.objects.insert((ObjectKind::Backend, name), object);
        }
        objects
    }

    /// The keys of an object as they are written, passwords masked; of a backend without `server`.
    pub fn table(&self, kind: ObjectKind, name: &str) -> Option<&Table> {
        self.get(kind, name).map(|object| &object.table)
    }

    /// The keys of an object that are in force: as they are written, and all defaults.
    pub fn effective(&self, kind: ObjectKind, name: &str) -> Option<Table> {
        self.get(kind, name).map(|_| super::defaults::filled(self, kind, name))
    }

    /// The names of all objects of a kind, in the order of the files.
    pub fn names(&self, kind: ObjectKind) -> Vec<&str> {
        match kind {
            ObjectKind::Global => vec![""],
            ObjectKind::Frontend => self.frontends.iter().map(String::as_str).collect(),
            ObjectKind::Backend => self.backends.iter().map(String::as_str).collect(),
            ObjectKind::Server => {
                let servers = self.backends.iter().flat_map(|backend| self.servers(backend));
                servers.map(String::as_str).collect()
            }
        }
    }

    /// The full names of the servers of a backend, in their order.
    pub(super) fn servers(&self, backend: &str) -> &[String] {
        self.get(ObjectKind::Backend, backend).map_or(&[], |object| &object.servers)
    }

    pub(super) fn get(&self, kind: ObjectKind, name: &str) -> Option<&WrittenObject> {
        self.objects.get(&(kind, name.to_owned()))
    }
}

impl WrittenObject {
    fn of(section: Section, entries: &Entries) -> Self {
        let mut collector = Collector::default();
        let table = collector.table(section, entries, "", false);
        Self { table, secrets: collector.secrets, servers: Vec::new() }
    }

    fn text(&self, key: &str) -> &str {
        self.table.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The name of a server within its backend: by default its address.
    fn own_name(&self) -> &str {
        let key = if self.table.contains_key("name") { "name" } else { "address" };
        self.text(key)
    }
}

fn tables<'a>(entries: &'a Entries, key: &str) -> impl Iterator<Item = &'a Entries> {
    let array = match entries.get(key).map(|array| &array.value.content) {
        Some(Content::Array(array)) => array.as_slice(),
        _ => &[],
    };
    array.iter().filter_map(|element| match &element.content {
        Content::Table(entries) => Some(entries),
        _ => None,
    })
}

/// Turns values of a file into TOML, and takes passwords out.
#[derive(Default)]
struct Collector {
    secrets: BTreeMap<String, Secret>,
}

impl Collector {
    fn table(&mut self, section: Section, entries: &Entries, path: &str, hides: bool) -> Table {
        let value = |(key, entry): (&String, &KeyValue)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let hides = hides || schema::may_hold_a_secret(key);
            (key.clone(), self.value(section, key, &entry.value, &path, hides))
        };
        entries.iter().map(value).collect()
    }

    /// `hides`: a value that a variable gives is masked.
    fn value(
        &mut self,
        section: Section,
        key: &str,
        value: &Located,
        path: &str,
        hides: bool,
    ) -> Value {
        match &value.content {
            Content::String(text) => {
                let is_password = matches!(
                    (section, key),
                    (Section::Check, "password")
                        | (Section::Token, "secret")
                        | (Section::Secret, "text")
                );
                if is_password || (hides && text.has_variable && section != Section::Secret) {
                    self.secrets.insert(path.to_owned(), Secret::Text(text.value.clone()));
                    return Value::String(MASK.to_owned());
                }
                let number = text.is_variable.then(|| as_in_the_example(section, key, text));
                number.flatten().unwrap_or_else(|| Value::String(text.value.clone()))
            }
            Content::Integer(number) => Value::Integer(number.unwrap_or(i64::MAX)),
            Content::Float(number) => Value::Float(number.unwrap_or(f64::NAN)),
            Content::Boolean(boolean) => Value::Boolean(*boolean),
            // No key takes one, so none is in a configuration without errors.
            Content::Datetime => Value::String(String::new()),
            Content::Array(array) => {
                let element = |(index, element)| {
                    self.value(section, key, element, &format!("{path}.{index}"), hides)
                };
                Value::Array(array.iter().enumerate().map(element).collect())
            }
            Content::Table(entries) => {
                let inner = section.inner(key).unwrap_or(section);
                Value::Table(self.table(inner, entries, path, hides))
            }
        }
    }
}

/// The value of a variable as a number or a boolean, if the example of its key is one.
fn as_in_the_example(section: Section, key: &str, text: &Text) -> Option<Value> {
    let value = &text.value;
    match example(section, key)? {
        Value::Integer(_) => value.parse().ok().map(Value::Integer),
        Value::Float(_) => value.parse().ok().map(Value::Float),
        Value::Boolean(_) => value.parse().ok().map(Value::Boolean),
        _ => None,
    }
}

/// The value in the example of a key.
pub(super) fn example(section: Section, key: &str) -> Option<Value> {
    section.example(key).parse::<Table>().ok()?.remove(key)
}
