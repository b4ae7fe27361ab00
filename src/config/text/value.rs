//! A value of the file, of any type, with its place.
//!
//! Not here: which type a key needs (`table`).

use std::ops::Range;

use super::tree::{Content, Located, Text};

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub(in crate::config) struct At<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) span: Range<usize>,
}

/// A value of the file. A string that is exactly one variable counts as a number or a boolean, too,
/// if it is written like one.
#[derive(Clone, Debug)]
pub(in crate::config) struct TomlValue<'a> {
    pub(super) inner: &'a Content,
    /// Its place in the file.
    pub(in crate::config) span: Range<usize>,
}

impl<'a> TomlValue<'a> {
    pub(super) fn of(located: &'a Located) -> Self {
        Self { inner: &located.content, span: located.span.clone() }
    }

    /// The string, if it is one.
    pub(in crate::config) fn as_str(&self) -> Option<At<&'a str>> {
        match self.inner {
            Content::String(text) => Some(At { value: &text.value, span: self.span.clone() }),
            _ => None,
        }
    }

    /// The integer, if it is one; `Some(None)` if it does not fit in 64 bits.
    pub(in crate::config) fn as_integer(&self) -> Option<Option<i64>> {
        match self.inner {
            Content::Integer(number) => Some(*number),
            _ => self.variable()?.parse().ok().map(Some),
        }
    }

    /// The boolean, if it is one.
    pub(in crate::config) fn as_boolean(&self) -> Option<bool> {
        match self.inner {
            Content::Boolean(boolean) => Some(*boolean),
            _ => self.variable()?.parse().ok(),
        }
    }

    /// The number, integer or float, if it is one.
    pub(in crate::config) fn as_number(&self) -> Option<f64> {
        match self.inner {
            Content::Float(number) => *number,
            // Compared with small bounds only, so the loss of precision does not matter.
            Content::Integer(number) => Some(number.map_or(f64::MAX, |n| n as f64)),
            _ => self.variable()?.parse().ok(),
        }
    }

    /// The elements, if it is an array.
    pub(in crate::config) fn as_array(&self) -> Option<Vec<Self>> {
        let Content::Array(array) = self.inner else { return None };
        Some(array.iter().map(Self::of).collect())
    }

    /// Whether it is a table.
    pub(in crate::config) fn is_table(&self) -> bool {
        matches!(self.inner, Content::Table(_))
    }

    /// The name of its type, with an article.
    pub(in crate::config) fn type_name(&self) -> &'static str {
        match self.inner {
            Content::String(_) => "a string",
            Content::Integer(_) => "an integer",
            Content::Float(_) => "a float",
            Content::Boolean(_) => "a boolean",
            Content::Datetime => "a date or time",
            Content::Array(_) => "an array",
            Content::Table(_) => "a table",
        }
    }

    /// Whether it is a string with a variable, so that its value is not in the file.
    pub(in crate::config) fn has_variable(&self) -> bool {
        matches!(self.inner, Content::String(Text { has_variable: true, .. }))
    }

    /// The text of a string that is exactly one variable.
    fn variable(&self) -> Option<&'a str> {
        match self.inner {
            Content::String(Text { value, is_variable: true, .. }) => Some(value),
            _ => None,
        }
    }
}
