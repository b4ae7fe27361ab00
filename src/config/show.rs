//! The effective configuration: every key that is in force, defaults included, passwords masked.
//!
//! As TOML that `check` accepts again, unless a masked value is not valid where it stands; as JSON
//! for programs. Not here: the defaults (`defaults`).

use std::fmt::Write;

use toml::{Table, Value};

use super::defaults::filled;
use super::objects::{ObjectKind, Objects};
use super::text::schema::Section;

/// Keys that others make redundant once they have their defaults.
const REDUNDANT: [(Section, &str); 1] = [(Section::Timeout, "idle")];

/// The effective configuration as TOML.
pub(super) fn toml(objects: &Objects) -> String {
    let mut text = String::from("[global]\n");
    lines(&mut text, Section::Global, &filled(objects, ObjectKind::Global, ""));
    for name in objects.names(ObjectKind::Frontend) {
        text += "\n[[frontend]]\n";
        lines(&mut text, Section::Frontend, &filled(objects, ObjectKind::Frontend, name));
    }
    for name in objects.names(ObjectKind::Backend) {
        text += "\n[[backend]]\n";
        lines(&mut text, Section::Backend, &filled(objects, ObjectKind::Backend, name));
        text += "server = [\n";
        for server in objects.servers(name) {
            let table = filled(objects, ObjectKind::Server, server);
            let _ = writeln!(text, "  {},", inline(Section::Server, &Value::Table(table)));
        }
        text += "]\n";
    }
    text
}

/// The effective configuration as JSON, with the names of the keys of the file.
pub(super) fn json(objects: &Objects) -> serde_json::Value {
    let all = |kind: ObjectKind| -> Vec<serde_json::Value> {
        objects.names(kind).into_iter().map(|name| object(objects, kind, name)).collect()
    };
    let backend = |name: &str| {
        let mut backend = object(objects, ObjectKind::Backend, name);
        let servers = objects.servers(name).iter();
        backend["server"] =
            servers.map(|server| object(objects, ObjectKind::Server, server)).collect();
        backend
    };
    let backends = objects.names(ObjectKind::Backend);
    serde_json::json!({
        "global": object(objects, ObjectKind::Global, ""),
        "frontend": all(ObjectKind::Frontend),
        "backend": backends.into_iter().map(backend).collect::<Vec<_>>(),
    })
}

fn object(objects: &Objects, kind: ObjectKind, name: &str) -> serde_json::Value {
    let mut table = filled(objects, kind, name);
    simplify(kind.section(), &mut table);
    // A table of strings, numbers and booleans: it can always be JSON.
    serde_json::to_value(table).unwrap_or_default()
}

/// Removes what is redundant or empty.
fn simplify(section: Section, table: &mut Table) {
    for (key, value) in table.iter_mut() {
        if let (Some(inner), Value::Table(table)) = (section.inner(key), value) {
            simplify(inner, table);
        }
    }
    table.retain(|key, value| {
        let is_redundant =
            REDUNDANT.iter().any(|(holder, name)| (*holder, *name) == (section, key));
        !is_redundant && value.as_table().is_none_or(|table| !table.is_empty())
    });
}

fn lines(text: &mut String, section: Section, table: &Table) {
    let mut table = table.clone();
    simplify(section, &mut table);
    for key in section.keys() {
        if let Some(value) = table.get(key.name) {
            let inner = section.inner(key.name).unwrap_or(section);
            let _ = writeln!(text, "{} = {}", key.name, inline(inner, value));
        }
    }
}

/// A value on one line; the keys of a table in the order of `keys`.
pub(super) fn inline(section: Section, value: &Value) -> String {
    match value {
        Value::Table(table) => {
            let entries = section.keys().iter().filter_map(|key| {
                let inner = section.inner(key.name).unwrap_or(section);
                Some(format!("{} = {}", key.name, inline(inner, table.get(key.name)?)))
            });
            let entries: Vec<String> = entries.collect();
            if entries.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", entries.join(", "))
            }
        }
        Value::Array(array) => {
            let elements: Vec<String> = array.iter().map(|one| inline(section, one)).collect();
            format!("[{}]", elements.join(", "))
        }
        // As in a file, where `${` begins a variable.
        Value::String(text) => quoted(&text.replace("${", "$${")),
        other => other.to_string(),
    }
}

/// A string on one line, whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_string_comes_back_from_one_line(text in ".*|[\u{0}-\u{9f}]*") {
            let line = format!("a = {}", quoted(&text));
            prop_assert!(!line.contains('\n'));
            let table: Table = line.parse().unwrap();
            prop_assert_eq!(table["a"].as_str(), Some(&*text));
        }
    }
}
