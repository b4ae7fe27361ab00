//! A Rust file as the checks see it: its text, and the same text with comments and literals
//! blanked.
//!
//! Blanking keeps every line where it was, so positions in one are positions in the other. It knows
//! nested comments, raw and byte strings, and tells a lifetime from a character. Not a parser: what
//! the checks need beyond that is matching braces.

use std::ops::Range;

/// One Rust file.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// Path from the root of the workspace.
    pub(super) path: &'a str,
    /// The text as it is.
    pub(super) text: Vec<&'a str>,
    /// The same lines, comments and contents of literals blanked.
    pub(super) code: Vec<String>,
    /// Lines (from 0) of test modules.
    tests: Vec<Range<usize>>,
}

impl<'a> Source<'a> {
    /// Reads a file's text.
    pub(super) fn new(path: &'a str, text: &'a str) -> Self {
        let code: Vec<String> = blank(text).lines().map(str::to_owned).collect();
        let mut source = Self { path, text: text.lines().collect(), code, tests: Vec::new() };
        source.tests = source.test_modules();
        source
    }

    /// Whether this line (from 0) is test code.
    pub(super) fn is_test(&self, line: usize) -> bool {
        let file = self.path.ends_with("/tests.rs")
            || self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.contains("/loom_tests/");
        file || self.tests.iter().any(|range| range.contains(&line))
    }

    /// Whether a comment with one of these marks stands on the line, or above the statement that
    /// the line belongs to.
    pub(super) fn is_argued(&self, line: usize, marks: &[&str]) -> bool {
        let argues = |text: &str| marks.iter().any(|mark| text.contains(mark));
        if argues(self.text[line]) {
            return true;
        }
        for above in (0..line).rev() {
            let (text, code) = (self.text[above].trim(), self.code[above].trim());
            let is_comment = code.is_empty() && !text.is_empty();
            let ends_another = code.ends_with([';', '{', '}']);
            if !is_comment && (code.is_empty() || ends_another) {
                return false;
            }
            if argues(text) {
                return true;
            }
        }
        false
    }

    /// The words of a line of code (letters, digits and underscores) with their columns.
    pub(super) fn words(&self, line: usize) -> impl Iterator<Item = (usize, &str)> {
        let code = &self.code[line];
        let mut begin = 0;
        code.split(|c: char| !is_word(c)).filter_map(move |word| {
            let column = begin;
            begin +=
                word.len() + code[begin + word.len()..].chars().next().map_or(0, char::len_utf8);
            (!word.is_empty()).then_some((column, word))
        })
    }

    /// The lines of the braces that open at or after `(line, column)`, unless a `;` outside
    /// brackets comes first.
    pub(super) fn braces(&self, line: usize, column: usize) -> Option<Range<usize>> {
        let (mut depth, mut brackets, mut opened) = (0usize, 0usize, line);
        for (number, code) in self.code.iter().enumerate().skip(line) {
            let skip = if number == line { column } else { 0 };
            for c in code[skip..].chars() {
                match c {
                    '(' | '[' => brackets += 1,
                    ')' | ']' => brackets = brackets.saturating_sub(1),
                    ';' if depth == 0 && brackets == 0 => return None,
                    '{' => {
                        opened = if depth == 0 { number } else { opened };
                        depth += 1;
                    }
                    '}' if depth <= 1 => return Some(opened..number + 1),
                    '}' => depth -= 1,
                    _ => {}
                }
            }
        }
        None
    }

    fn test_modules(&self) -> Vec<Range<usize>> {
        let marked = self.code.iter().enumerate().filter(|(_, code)| code.contains("#[cfg(test)]"));
        let module = |(line, _): (usize, &String)| {
            let after = line + 1;
            let is_module = self.code.get(after)?.trim_start().starts_with("mod ");
            is_module.then(|| self.braces(after, 0)).flatten()
        };
        marked.filter_map(module).collect()
    }
}

/// Whether `c` can be part of an identifier.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Replaces comments and the contents of literals by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let after_word = at > 0 && is_word(chars[at - 1]);
        let end = literal_or_comment(&chars[at..], after_word).map_or(0, |length| at + length);
        if end > at {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// The length of the comment or literal that begins here, if one does.
fn literal_or_comment(rest: &[char], after_word: bool) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => Some(block_comment(rest)),
        ['"', ..] => Some(quoted(rest, '"')),
        ['r', '"' | '#', ..] if !after_word => raw_string(rest, 1),
        ['b' | 'c', 'r', ..] if !after_word => raw_string(rest, 2),
        // An escape, or one character between quotes; anything else is a lifetime.
        ['\'', '\\', ..] => Some(quoted(rest, '\'')),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal with escapes, quotes included.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of a raw string whose hashes or quote begin at `prefix`.
fn raw_string(rest: &[char], prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
    let content = prefix + hashes + 1;
    if rest.get(content - 1) != Some(&'"') {
        return None; // a raw identifier
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let closing = rest[content..].windows(end.len()).position(|window| window == end);
    Some(closing.map_or(rest.len(), |at| content + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        for (text, code) in [
            ("a // unsafe", "a          "),
            ("a /* x /* y */ z */ b", "a                   b"),
            ("f(\"{ \\\" }\");", "f(        );"),
            ("f(r#\"a\"b\"#) + br\"x\"", "f(        ) +      "),
            ("r#type", "r#type"),
            ("&'a str, 'x', '\\'', b'{'", "&'a str,    ,     , b   "),
            ("'a: loop {}", "'a: loop {}"),
            ("\"two\nlines\"", "    \n      "),
        ] {
            assert_eq!(blank(text), code, "{text}");
        }
    }

    #[test]
    fn braces_are_found_and_declarations_are_not() {
        let source = Source::new("a.rs", "fn f(a: [u8; 2]) {\n  if x { y }\n}\nfn g();\n");
        assert_eq!(source.braces(0, 0), Some(0..3));
        assert_eq!(source.braces(3, 0), None);
        assert_eq!(source.words(0).next(), Some((0, "fn")));
        assert_eq!(source.words(0).nth(3), Some((9, "u8")));
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let source =
            Source::new("a.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n  x\n}\nfn g() {}\n");
        let is_test: Vec<bool> = (0..6).map(|line| source.is_test(line)).collect();
        assert_eq!(is_test, [false, false, true, true, true, false]);
        assert!(Source::new("tests/it/main.rs", "x").is_test(0));
    }
}
