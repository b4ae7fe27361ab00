//! Words of the file as they are shown in messages.
//!
//! Invariant: whatever is quoted can't write control sequences to a terminal.

/// Characters of a quoted word that are shown.
const QUOTED_MAX: usize = 60;

/// A word of the file as it is shown in a sentence: in quotes, escaped, not too long.
pub(in crate::config) fn quoted(word: &str) -> String {
    match word.char_indices().nth(QUOTED_MAX) {
        Some((cut, _)) => format!("{:?}…", &word[..cut]),
        None => format!("{word:?}"),
    }
}
