//! A file fits in a head, a function on a screen; and a module says what it is.

use super::exceptions::Exceptions;
use super::source::Source;
use super::{Offence, offence};

/// Lines in a file without a reason for more.
pub(super) const FILE_LINES: usize = 400;

/// Lines in any file at most.
pub(super) const FILE_LINES_MAX: usize = 600;

/// Columns of a comment at most, as of code.
const COLUMNS: usize = 100;

/// Lines of code in a function's body at most, counted as clippy's `too_many_lines` does: neither
/// blank lines nor comments.
pub(super) const FUNCTION_LINES: usize = 70;

/// Lengths of the file and its functions, and the `//!` at its top.
pub(super) fn check(source: &Source<'_>, exceptions: &mut Exceptions) -> Vec<Offence> {
    let mut offences = Vec::new();
    let first = source.text.iter().find(|line| !line.trim().is_empty());
    if !first.is_some_and(|line| line.starts_with("//!")) {
        let message = "no `//!` at the top: say what the module is and is not, and its invariants";
        offences.push(offence(source.path, 1, message));
    }
    // rustfmt keeps code within these columns, and leaves comments alone.
    for (number, line) in source.text.iter().enumerate() {
        if line.trim_start().starts_with("//") && line.chars().count() > COLUMNS {
            let message = format!("a comment of more than {COLUMNS} columns: wrap it");
            offences.push(offence(source.path, number + 1, message));
        }
    }
    let lines = source.text.len();
    let has_reason = lines > FILE_LINES && exceptions.allows(source.path, "", lines);
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines, {FILE_LINES_MAX} at most: split the file");
        offences.push(offence(source.path, FILE_LINES_MAX, message));
    } else if lines > FILE_LINES && !has_reason {
        let message = format!(
            "{lines} lines, {FILE_LINES} without a reason: split the file, or give the reason in \
             LONG_FILES of xtask/src/tidy/exceptions.rs"
        );
        offences.push(offence(source.path, FILE_LINES, message));
    }
    for (line, name, length) in functions(source) {
        if length > FUNCTION_LINES && !exceptions.allows(source.path, name, length) {
            let message = format!("fn {name} has {length} lines, {FUNCTION_LINES} at most: cut it");
            offences.push(offence(source.path, line + 1, message));
        }
    }
    offences
}

/// Every function with a body: its line, its name, its lines of code.
fn functions<'s>(source: &'s Source<'_>) -> impl Iterator<Item = (usize, &'s str, usize)> {
    (0..source.code.len()).flat_map(move |line| {
        let words: Vec<_> = source.words(line).collect();
        let pairs: Vec<_> =
            words.windows(2).filter(|pair| pair[0].1 == "fn").map(|p| p[1]).collect();
        pairs.into_iter().filter_map(move |(column, name)| {
            let body = source.braces(line, column)?;
            let inner = source.code.get(body.start + 1..body.end - 1).unwrap_or_default();
            Some((line, name, inner.iter().filter(|code| !code.trim().is_empty()).count()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Vec<String> {
        let found = check(&Source::new("a.rs", text), &mut Exceptions::none());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_module_without_a_head_is_found() {
        assert!(check_text("//! Head.\n").is_empty());
        let found = check_text("\n// Not a head.\nfn f() {}\n");
        assert!(found[0].contains("a.rs:1: no `//!`"), "{found:?}");
    }

    #[test]
    fn a_wide_comment_is_found() {
        let comment = |columns: usize| format!("//! Head.\n    // {}\n", "ü".repeat(columns - 7));
        assert!(check_text(&comment(COLUMNS)).is_empty());
        assert!(check_text(&comment(COLUMNS + 1))[0].starts_with("a.rs:2: a comment of more"));
    }

    #[test]
    fn a_long_file_is_found_unless_it_has_a_reason() {
        let head = |lines: usize| "//! Head.\n".repeat(lines);
        assert!(check_text(&head(FILE_LINES)).is_empty());
        assert!(check_text(&head(FILE_LINES + 1))[0].contains("401 lines, 400 without a reason"));
        let with_reason = |lines: usize| {
            let mut exceptions = Exceptions::one("a.rs", "", FILE_LINES_MAX);
            check(&Source::new("a.rs", &head(lines)), &mut exceptions)
        };
        assert!(with_reason(FILE_LINES_MAX).is_empty());
        let found = with_reason(FILE_LINES_MAX + 1);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("601 lines, 600 at most"), "{found:?}");
    }

    #[test]
    fn a_long_function_is_found_and_comments_do_not_count() {
        let function = |lines: &str| format!("//! Head.\n\nasync fn f(\n) {{\n{lines}}}\n");
        assert!(check_text(&function(&"x();\n// why\n\n".repeat(FUNCTION_LINES))).is_empty());
        let found = check_text(&function(&"x();\n".repeat(FUNCTION_LINES + 1)));
        assert_eq!(found, ["a.rs:3: fn f has 71 lines, 70 at most: cut it"]);
    }
}
