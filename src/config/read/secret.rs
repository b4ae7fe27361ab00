//! The reader of secrets: a text in the file, or where to find it.
//!
//! Not here: reading what it names, which happens when the secret is used.

use crate::config::model::Secret;
use crate::config::text::requirement::Requirement;
use crate::config::text::schema::Section;
use crate::config::text::table::{At, Table};

pub(in crate::config) use crate::config::text::requirement::Purpose;

/// Reads a secret; one in the file itself, or `{ file }`, `{ env }`, `{ text }`.
pub(in crate::config) fn read(
    table: &Table<'_>,
    key: &'static str,
    purpose: Purpose,
) -> Option<Secret> {
    let value = table.value(key)?;
    if let Some(text) = value.as_str() {
        if !value.has_variable() {
            table.want(text.span, Requirement::OwnSecret(purpose));
        }
        return Some(Secret::Text(text.value.to_owned()));
    }
    let inner = table.table(key, Section::Secret)?;
    inner.refuse_unknown_keys();
    let credential = inner.string("credential");
    match (inner.text("file"), inner.text("env"), credential, inner.text("text")) {
        (Some(file), None, None, None) => {
            table.want(value.span, Requirement::Secret(purpose, file.clone().into()));
            Some(Secret::File(file.into()))
        }
        (None, Some(name), None, None) => {
            table.want(value.span, Requirement::Variable(purpose, name.clone()));
            Some(Secret::Variable(name))
        }
        (None, None, Some(At { value: name, span }), None) => {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                let why = "must be the name of a credential, which is no path";
                inner.report(inner.unusable("credential", span, why));
                return None;
            }
            table.want(value.span, Requirement::Credential(purpose, name.to_owned()));
            Some(Secret::Credential(name.to_owned()))
        }
        (None, None, None, Some(text)) => {
            if !inner.value("text").is_some_and(|value| value.has_variable()) {
                table.want(value.span, Requirement::OwnSecret(purpose));
            }
            Some(Secret::Text(text))
        }
        _ => {
            let why = "must have one of file, env, credential and text";
            table.report(table.unusable(key, value.span, why));
            None
        }
    }
}
