//! Errors of the TOML parser, reworded for operators.
//!
//! The parser recovers and continues, so there can be several. Not here: errors in keys and values
//! that were parsed.

use std::ops::Range;

use super::report::{Diagnostic, Diagnostics, quoted};

/// Lines that are searched for the first of two equal keys.
const LINES_SEARCHED: usize = 1000;

/// Records every error of the parser; the text begins at `base` of the joined text.
pub(in crate::config) fn read(
    sink: &Diagnostics,
    base: usize,
    text: &str,
    errors: &[toml::de::Error],
) {
    for error in errors {
        let span = error.span().unwrap_or_default();
        sink.add(explain(text, span, error.message()).shifted(base).syntax());
    }
}

fn explain(text: &str, span: Range<usize>, message: &str) -> Diagnostic {
    let word = text.get(span.clone()).unwrap_or_default();
    let is_scalar = ["invalid float", "invalid boolean", "invalid integer", "string values must"]
        .iter()
        .any(|start| message.starts_with(start));
    let is_string = message.starts_with("string values must")
        || message.starts_with("invalid literal string")
        || message.starts_with("invalid basic string");
    if message == "duplicate key" {
        let diagnostic = Diagnostic::at(span.clone(), format!("{} is defined twice", quoted(word)))
            .label("defined again here")
            .hint("keep one; another frontend or backend starts with [[frontend]] or [[backend]]");
        return match earlier(text, &span, word) {
            Some(first) => diagnostic.also(first, "first defined here"),
            None => diagnostic,
        };
    }
    if word.is_empty() && is_string && preceded_by_equals(text, span.start) {
        return Diagnostic::at(span, "the value is missing")
            .label("expected a value after =")
            .hint("write text in double quotes; numbers, true and false without");
    }
    if word.is_empty() && message.starts_with("invalid basic string") {
        return Diagnostic::at(span, "this string has no closing quote").label("expected \" here");
    }
    let message = message.strip_suffix(", expected nothing").unwrap_or(message);
    let diagnostic = Diagnostic::at(span, format!("invalid TOML: {message}"));
    if is_scalar {
        return diagnostic.hint("write text in double quotes: bind = \"0.0.0.0:5432\"");
    }
    if message.starts_with("key with no value") {
        return diagnostic.hint("each line must be [table], [[table]] or key = value");
    }
    diagnostic
}

/// Whether the last character before `at`, except blanks, is an equals sign.
fn preceded_by_equals(text: &str, at: usize) -> bool {
    text.get(..at).is_some_and(|before| before.trim_end_matches([' ', '\t']).ends_with('='))
}

/// The earlier key or header that the word at `span` repeats, if it starts a line.
fn earlier(text: &str, span: &Range<usize>, word: &str) -> Option<Range<usize>> {
    let before = text.get(..span.start)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next()?.trim();
    let is_header = line.starts_with('[');
    let mut end = line_start;
    for _ in 0..LINES_SEARCHED {
        if end == 0 {
            break;
        }
        let start = text[..end - 1].rfind('\n').map_or(0, |at| at + 1);
        let candidate = &text[start..end];
        let content = candidate.trim();
        let indent = candidate.len() - candidate.trim_start().len();
        if is_header && content == line {
            return Some(start + indent..start + indent + content.len());
        }
        if !is_header {
            if content.starts_with('[') {
                return None;
            }
            let repeats = content
                .strip_prefix(word)
                .is_some_and(|rest| rest.trim_start().starts_with(['=', '.']));
            if repeats {
                return Some(start + indent..start + indent + word.len());
            }
        }
        end = start;
    }
    None
}
