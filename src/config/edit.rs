//! Changes to objects that are in no file: orders of operators that a reload has to keep.
//!
//! They are applied to the tables of the files before these are checked, so that an order passes
//! the same checks as a line of a file. Not here: which orders there are, and which are kept
//! (`control`). Invariants: an edit has no variables, so it can't read the environment; an error
//! about an edited value shows the object that it belongs to.

use std::ops::Range;

use toml::{Table, Value};

use super::objects::ObjectKind;
use super::text::report::{Diagnostic, Diagnostics, quoted};
use super::text::tree::{Content, Entries, KeyValue, Located, Text};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Sets a key of an object, or with `None` removes it.
    Set {
        /// The kind of the object.
        kind: ObjectKind,
        /// Its name, as in [`Objects`](super::Objects).
        name: String,
        /// The path of the key, such as `weight` or `timeout.client`.
        key: String,
        /// The new value.
        value: Option<Value>,
    },
    /// Adds a server to the end of a backend.
    AddServer {
        /// The name of the backend.
        backend: String,
        /// Its keys.
        server: Table,
    },
    /// Removes a server.
    RemoveServer {
        /// Its full name, `backend/server`.
        name: String,
    },
}

/// Applies changes in their order; one whose object does not exist is an error.
pub(super) fn apply(sink: &Diagnostics, root: &mut Entries, edits: &[Edit]) {
    for edit in edits {
        if apply_one(root, edit).is_none() {
            let object = match edit {
                Edit::Set { kind, name, .. } => format!("{} {}", kind.word(), quoted(name)),
                Edit::AddServer { backend, .. } => format!("backend {}", quoted(backend)),
                Edit::RemoveServer { name } => format!("server {}", quoted(name)),
            };
            let title = format!("{object} was changed at run time, but the configuration lacks it");
            sink.add(Diagnostic::whole(title).hint("drop the change, or put the object back"));
        }
    }
}

/// Nothing if the object does not exist.
fn apply_one(root: &mut Entries, edit: &Edit) -> Option<()> {
    match edit {
        Edit::Set { kind, name, key, value } => {
            let object = match kind {
                ObjectKind::Global => {
                    let global = || KeyValue { key: 0..0, value: located(&empty(), &(0..0)) };
                    &mut root.entry("global".to_owned()).or_insert_with(global).value
                }
                ObjectKind::Frontend => find(root, "frontend", |own| named(own) == Some(name))?,
                ObjectKind::Backend => find(root, "backend", |own| named(own) == Some(name))?,
                ObjectKind::Server => {
                    let (servers, index) = server(root, name)?;
                    servers.get_mut(index)?
                }
            };
            set(object, key, value.as_ref());
        }
        Edit::AddServer { backend, server } => {
            let backend = find(root, "backend", |own| named(own) == Some(backend))?;
            let span = backend.span.clone();
            let added = located(&Value::Table(server.clone()), &span);
            array(table(backend)?, "server")?.push(added);
        }
        Edit::RemoveServer { name } => {
            let (servers, index) = server(root, name)?;
            servers.remove(index);
        }
    }
    Some(())
}

fn empty() -> Value {
    Value::Table(Table::new())
}

/// A value of an edit, with the place of the object that it belongs to.
fn located(value: &Value, span: &Range<usize>) -> Located {
    let content = match value {
        Value::String(text) => {
            let value = text.clone();
            Content::String(Text { value, has_variable: false, is_variable: false })
        }
        Value::Integer(number) => Content::Integer(Some(*number)),
        Value::Float(number) => Content::Float(Some(*number)),
        Value::Boolean(boolean) => Content::Boolean(*boolean),
        Value::Datetime(_) => Content::Datetime,
        Value::Array(array) => Content::Array(array.iter().map(|one| located(one, span)).collect()),
        Value::Table(table) => Content::Table(
            table
                .iter()
                .map(|(key, value)| {
                    let value = located(value, span);
                    (key.clone(), KeyValue { key: span.clone(), value })
                })
                .collect(),
        ),
    };
    Located { span: span.clone(), content }
}

/// Sets or removes the key at a path. What is no table on the way is replaced by one.
fn set(object: &mut Located, path: &str, value: Option<&Value>) {
    let span = object.span.clone();
    let mut holder = object;
    let mut rest = path;
    while let Some((first, more)) = rest.split_once('.') {
        if table(holder).is_none() {
            *holder = located(&empty(), &span);
        }
        let Some(entries) = table(holder) else { return };
        let inner = || KeyValue { key: span.clone(), value: located(&empty(), &span) };
        holder = &mut entries.entry(first.to_owned()).or_insert_with(inner).value;
        rest = more;
    }
    if table(holder).is_none() {
        *holder = located(&empty(), &span);
    }
    let Some(entries) = table(holder) else { return };
    match value {
        Some(value) => {
            let value = located(value, &span);
            entries.insert(rest.to_owned(), KeyValue { key: span, value });
        }
        None => {
            entries.remove(rest);
        }
    }
}

fn table(value: &mut Located) -> Option<&mut Entries> {
    match &mut value.content {
        Content::Table(entries) => Some(entries),
        _ => None,
    }
}

fn array<'a>(entries: &'a mut Entries, key: &str) -> Option<&'a mut Vec<Located>> {
    match &mut entries.get_mut(key)?.value.content {
        Content::Array(array) => Some(array),
        _ => None,
    }
}

fn text<'a>(object: &'a Located, key: &str) -> Option<&'a String> {
    let Content::Table(entries) = &object.content else { return None };
    match &entries.get(key)?.value.content {
        Content::String(text) => Some(&text.value),
        _ => None,
    }
}

fn named(object: &Located) -> Option<&String> {
    text(object, "name")
}

/// The first object of a list for which this is true.
fn find<'a>(
    root: &'a mut Entries,
    key: &str,
    is_it: impl Fn(&Located) -> bool,
) -> Option<&'a mut Located> {
    array(root, key)?.iter_mut().find(|object| is_it(object))
}

/// The list of servers that has the one of this full name, and its index.
fn server<'a>(root: &'a mut Entries, full_name: &str) -> Option<(&'a mut Vec<Located>, usize)> {
    for backend in array(root, "backend")? {
        let name = named(backend).cloned().unwrap_or_default();
        let own = full_name.strip_prefix(&name).and_then(|rest| rest.strip_prefix('/'));
        let (Some(own), Some(entries)) = (own, table(backend)) else { continue };
        let Some(servers) = array(entries, "server") else { continue };
        let own_name = |server: &Located| {
            named(server).or_else(|| text(server, "address")).is_some_and(|name| name == own)
        };
        if let Some(index) = servers.iter().position(own_name) {
            return Some((servers, index));
        }
    }
    None
}
