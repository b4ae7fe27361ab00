//! The values of a file after parsing: places in the joined text, strings with their variables
//! replaced.
//!
//! Not here: which type a key needs (`table`), the syntax of variables (`variables`). Invariant:
//! keys and table names are never expanded; a string that can't be expanded is reported once, and
//! no other error about it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Diagnostic, Diagnostics, quoted};
use super::schema;
use super::variables::{self, Environment, Expanded};

/// The keys of a table with their values.
pub(in crate::config) type Entries = BTreeMap<String, KeyValue>;

/// A key's place, and its value.
#[derive(Clone, Debug)]
pub(in crate::config) struct KeyValue {
    pub(in crate::config) key: Range<usize>,
    pub(in crate::config) value: Located,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(in crate::config) struct Located {
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) content: Content,
}

/// A value.
#[derive(Clone, Debug)]
pub(in crate::config) enum Content {
    String(Text),
    /// Nothing if it does not fit in 64 bits.
    Integer(Option<i64>),
    /// Nothing if it is no number.
    Float(Option<f64>),
    Boolean(bool),
    Datetime,
    Array(Vec<Located>),
    Table(Entries),
}

/// A string.
#[derive(Clone, Debug)]
pub(in crate::config) struct Text {
    /// With its variables replaced.
    pub(in crate::config) value: String,
    /// Whether it contains a variable.
    pub(in crate::config) has_variable: bool,
    /// Whether it is exactly one variable, so that it may stand for a number or a boolean.
    pub(in crate::config) is_variable: bool,
}

/// Turns what the parser made of a file into values.
#[derive(Clone, Copy)]
pub(in crate::config) struct Builder<'a> {
    pub(in crate::config) sink: &'a Diagnostics,
    pub(in crate::config) environment: Environment<'a>,
    /// Where the text of the file begins in the joined text.
    pub(in crate::config) base: usize,
}

impl Builder<'_> {
    /// The entries of a table; `is_secret`: values in it must not be shown.
    pub(in crate::config) fn entries(self, table: DeTable<'_>, is_secret: bool) -> Entries {
        let entry = |(key, value): (Spanned<Cow<'_, str>>, Spanned<DeValue<'_>>)| {
            let place = self.shifted(key.span());
            let key = key.into_inner().into_owned();
            let is_secret = is_secret || schema::may_hold_a_secret(&key);
            (key, KeyValue { key: place, value: self.located(value, is_secret) })
        };
        table.into_iter().map(entry).collect()
    }

    fn located(self, value: Spanned<DeValue<'_>>, is_secret: bool) -> Located {
        let span = self.shifted(value.span());
        let content = match value.into_inner() {
            DeValue::String(text) => {
                Content::String(self.text(text.into_owned(), &span, is_secret))
            }
            DeValue::Integer(number) => {
                Content::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(number) => Content::Float(number.as_str().parse().ok()),
            DeValue::Boolean(boolean) => Content::Boolean(boolean),
            DeValue::Datetime(_) => Content::Datetime,
            DeValue::Array(array) => Content::Array(
                array.into_iter().map(|element| self.located(element, is_secret)).collect(),
            ),
            DeValue::Table(table) => Content::Table(self.entries(table, is_secret)),
        };
        Located { span, content }
    }

    fn text(self, written: String, span: &Range<usize>, is_secret: bool) -> Text {
        match variables::expand(&written, self.environment) {
            Ok(expanded) => {
                if expanded.has_variable && !is_secret {
                    self.sink.note_value(span.clone(), quoted(&expanded.text));
                }
                let Expanded { text: value, has_variable, is_variable } = expanded;
                Text { value, has_variable, is_variable }
            }
            Err(problem) => {
                let title = "a variable in this string can't be replaced";
                let diagnostic = Diagnostic::at(span.clone(), title).label(problem.why);
                // It may be the name that something else refers to, or a file to include.
                self.sink.add(diagnostic.hint(problem.hint).hides_the_rest());
                self.sink.hush(span.clone());
                Text { value: written, has_variable: true, is_variable: false }
            }
        }
    }

    fn shifted(self, span: Range<usize>) -> Range<usize> {
        span.start + self.base..span.end + self.base
    }
}
