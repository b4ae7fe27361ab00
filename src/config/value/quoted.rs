//! Words from the file, quoted for messages.
//!
//! Invariant: a quoted word contains no control characters.

/// Characters of a word that are shown; the rest is cut off.
const QUOTED_MAX: usize = 60;

/// A word from the file for use in a sentence: in quotes, escaped, shortened.
pub(in crate::config) fn quoted(word: &str) -> String {
    match word.char_indices().nth(QUOTED_MAX) {
        Some((cut, _)) => format!("{:?}…", &word[..cut]),
        None => format!("{word:?}"),
    }
}
