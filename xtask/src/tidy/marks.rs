//! Marks of unfinished work, of one machine, and of tests that guess at time.

use super::source::Source;
use super::{Offence, offence};

/// Calls and attributes that never leave a workbench.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Functions that let time pass.
const PAUSES: &[&str] = &["pause", "sleep", "sleep_until", "sleep_ms", "park_timeout"];

/// The comment with which a test may call one of them.
const REASON: &str = "// PAUSE: ";

/// Marks in any text. In pieces, or this file would find itself.
const TEXT: &[(&str, &str)] = &[
    (concat!("FIX", "ME"), "unfinished: do it, or write it down where work is planned"),
    (concat!("TO", "DO"), "unfinished: do it, or write it down where work is planned"),
    (concat!("XX", "X"), "unfinished: do it, or write it down where work is planned"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/tmp/tar", "get"), "a path of one machine"),
];

/// Finds marks in the text of any file.
pub(super) fn check_text(path: &str, text: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (mark, why) in TEXT.iter().filter(|(mark, _)| has_mark(line, mark)) {
            offences.push(offence(path, number + 1, format!("`{mark}`: {why}")));
        }
    }
    offences
}

/// A mark in letters stands alone; a path may begin and end anywhere.
fn has_mark(line: &str, mark: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    line.match_indices(mark).any(|(at, _)| {
        mark.contains('/')
            || !(is_letter(line[..at].chars().next_back())
                || is_letter(line[at + mark.len()..].chars().next()))
    })
}

/// Finds marks in code.
pub(super) fn check_source(source: &Source<'_>) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (number, code) in source.code.iter().enumerate() {
        for mark in UNFINISHED.iter().filter(|mark| code.contains(**mark)) {
            offences.push(offence(source.path, number + 1, format!("`{mark}` is unfinished work")));
        }
        if source.is_test(number) && pauses(source, number) && !source.is_argued(number, &[REASON])
        {
            let message = "a test that lets time pass: wait for a condition with a deadline, or \
                           say in a comment `// PAUSE: …` why time is its subject";
            offences.push(offence(source.path, number + 1, message));
        }
    }
    offences
}

/// Whether a function that lets time pass is called on this line. Methods are left out: they are
/// timers of a reactor, which are under test themselves, or move a simulated clock.
fn pauses(source: &Source<'_>, line: usize) -> bool {
    let code = &source.code[line];
    source.words(line).any(|(column, word)| {
        let before = code[..column].trim_end();
        PAUSES.contains(&word)
            && code[column + word.len()..].starts_with('(')
            && !before.ends_with('.')
            && before.split_whitespace().next_back() != Some("fn")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found_in_code_and_not_in_strings() {
        for mark in UNFINISHED {
            let text = format!("fn f() {{ {mark} }}\n// {mark}\n");
            let found = check_source(&Source::new("a.rs", &text));
            assert_eq!(found.len(), 1, "{found:?}");
        }
        assert!(check_source(&Source::new("a.rs", "let a = \"dbg!\";")).is_empty());
    }

    #[test]
    fn marks_and_machine_paths_are_found_in_any_file() {
        for (mark, _) in TEXT {
            assert_eq!(check_text("a.md", &format!("one\n{mark} two")).len(), 1, "{mark}");
        }
        assert!(check_text("a.md", "work/ TODOS").is_empty());
    }

    #[test]
    fn a_pause_in_a_test_needs_a_reason() {
        let lines = |call: &str| -> Vec<usize> {
            let text = format!("fn f() {{ {call} }}\n#[cfg(test)]\nmod tests {{\n{call}\n}}\n");
            check_source(&Source::new("a.rs", &text)).iter().map(|found| found.line).collect()
        };
        for call in ["thread::sleep(x);", "sleep_until(x).await;", "thread::park_timeout(x);"] {
            assert_eq!(lines(call), [4], "{call}");
        }
        for call in ["a.pause(x);", "reactor.sleep(x).await;", "fn pause(x: X) {}", "asleep(x);"] {
            assert!(lines(call).is_empty(), "{call}");
        }
        let story = |text: &str| check_source(&Source::new("tests/it/a.rs", text)).len();
        assert_eq!(story("pause(A);\n"), 1);
        assert_eq!(story("// PAUSE: time is the subject.\npause(A);\n"), 0);
        assert_eq!(story("// PAUSE: not of the second.\npause(A);\npause(B);\n"), 1);
        assert_eq!(story("// Waits.\npause(A);\n"), 1, "a comment of another kind");
    }
}
