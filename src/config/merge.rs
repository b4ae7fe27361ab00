//! Joins the root tables of several files to one.
//!
//! Lists of objects are joined in the order of the files; each key of `[global]` may be set in one
//! file. Not here: two objects of one name (`lower`), which is an error in one file as in two.

use super::text::report::{Diagnostic, Diagnostics, quoted};
use super::text::tree::{Content, Entries, KeyValue};

/// One root table with the objects of all files.
pub(super) fn roots(sink: &Diagnostics, roots: Vec<Entries>) -> Entries {
    let mut merged = Entries::new();
    for root in roots {
        for (key, entry) in root {
            match merged.get_mut(&key) {
                Some(first) => join(sink, &key, first, entry),
                None => {
                    merged.insert(key, entry);
                }
            }
        }
    }
    merged
}

/// Adds what a further file has under a key of the root table. Where one of the two is of the
/// wrong type, that one stays, to be reported.
fn join(sink: &Diagnostics, key: &str, first: &mut KeyValue, more: KeyValue) {
    let is_of_type = |content: &Content| match key {
        "global" => matches!(content, Content::Table(_)),
        _ => matches!(content, Content::Array(_)),
    };
    if !is_of_type(&first.value.content) {
        return;
    }
    if !is_of_type(&more.value.content) {
        *first = more;
        return;
    }
    match (&mut first.value.content, more.value.content) {
        (Content::Array(objects), Content::Array(more)) => objects.extend(more),
        (Content::Table(keys), Content::Table(more)) => {
            for (key, entry) in more {
                match keys.get(&key) {
                    Some(first) => sink.add(twice(&key, first, &entry)),
                    None => {
                        keys.insert(key, entry);
                    }
                }
            }
        }
        _ => {}
    }
}

fn twice(key: &str, first: &KeyValue, again: &KeyValue) -> Diagnostic {
    Diagnostic::at(again.key.clone(), format!("{} in [global] is set in two files", quoted(key)))
        .label("again here")
        .also(first.key.clone(), "first here")
        .hint("each key of [global] may be set in one file: keep one")
}
