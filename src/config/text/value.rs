//! A value of the file, of any type, with its place.
//!
//! Not here: which type a key needs (`table`).

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub(in crate::config) struct At<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) span: Range<usize>,
}

/// A value of the file.
#[derive(Clone, Debug)]
pub(in crate::config) struct TomlValue<'a> {
    pub(super) inner: &'a DeValue<'a>,
    /// Its place in the file.
    pub(in crate::config) span: Range<usize>,
}

impl<'a> TomlValue<'a> {
    pub(super) fn of(value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { inner: value.get_ref(), span: value.span() }
    }

    /// The string, if it is one.
    pub(in crate::config) fn as_str(&self) -> Option<At<&'a str>> {
        match self.inner {
            DeValue::String(string) => Some(At { value: string, span: self.span.clone() }),
            _ => None,
        }
    }

    /// The integer, if it is one; `Some(None)` if it does not fit in 64 bits.
    pub(in crate::config) fn as_integer(&self) -> Option<Option<i64>> {
        match self.inner {
            DeValue::Integer(number) => {
                Some(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub(in crate::config) fn as_boolean(&self) -> Option<bool> {
        match self.inner {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// The number, integer or float, if it is one.
    pub(in crate::config) fn as_number(&self) -> Option<f64> {
        match self.inner {
            DeValue::Float(number) => number.as_str().parse().ok(),
            // Compared with small bounds only, so the loss of precision does not matter.
            DeValue::Integer(_) => Some(self.as_integer()?.map_or(f64::MAX, |n| n as f64)),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub(in crate::config) fn as_array(&self) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.inner else { return None };
        Some(array.iter().map(Self::of).collect())
    }

    /// Whether it is a table.
    pub(in crate::config) fn is_table(&self) -> bool {
        matches!(self.inner, DeValue::Table(_))
    }

    /// The name of its type, with an article.
    pub(in crate::config) fn type_name(&self) -> &'static str {
        match self.inner {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        }
    }
}
