//! Marks of unfinished work, of one machine, and of tests that guess at time.

use super::source::Source;
use super::{Offence, offence};

/// Calls and attributes that never leave a workbench.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

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
        let sleeps = ["thread::sleep", "time::sleep"].iter().any(|call| code.contains(call));
        if sleeps && source.is_test(number) {
            let message = "a test that sleeps: wait for a condition, with a deadline";
            offences.push(offence(source.path, number + 1, message));
        }
    }
    offences
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
    fn a_sleeping_test_is_found() {
        let text = "fn f() { thread::sleep(x) }\n#[cfg(test)]\nmod tests {\nthread::sleep(x)\n}\n";
        let found = check_source(&Source::new("a.rs", text));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 4);
    }
}
