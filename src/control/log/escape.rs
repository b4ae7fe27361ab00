//! Untrusted text in log lines: names, what servers answer, what clients send.
//!
//! Pure. Invariant: the result has no character that ends a line, moves a cursor or changes the
//! direction of writing, so that no line can be forged and no part of one hidden.

/// Whether a character must not stand in a line as it is.
pub(in crate::control) fn is_unsafe(c: char) -> bool {
    // Controls, separators of lines and paragraphs, marks and overrides of direction.
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends text in which unsafe characters are written like in Rust: `\n`, `\u{1b}`.
pub(crate) fn push(line: &mut String, text: &str) {
    for c in text.chars() {
        if is_unsafe(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
}

/// JSON without the unsafe characters that it allows inside of strings, each as `\u202e`.
pub(in crate::control) fn json(encoded: String) -> String {
    if !encoded.contains(is_unsafe) {
        return encoded;
    }
    let mut safe = String::with_capacity(encoded.len() + 16);
    for c in encoded.chars() {
        if is_unsafe(c) {
            // All of them are below 0x10000.
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_ends_lines_or_hides_text_is_written_out() {
        let mut line = String::new();
        push(&mut line, "a\nb\u{1b}[2K\u{85}\u{202e}\u{2028}é\"");
        assert_eq!(line, "a\\nb\\u{1b}[2K\\u{85}\\u{202e}\\u{2028}é\"");
    }

    proptest! {
        #[test]
        fn json_stays_the_same_value(text in "[\\s\\S]{0,60}|[\u{80}-\u{9f}\u{2020}-\u{2070}]{0,9}") {
            let encoded = json(serde_json::to_string(&text).unwrap());
            prop_assert!(!encoded.contains(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&encoded).unwrap(), text);
        }
    }
}
