//! `unsafe` lives in one room, and each use argues its case.

use super::source::Source;
use super::{Offence, offence};

/// The only folder where `unsafe` may be written.
const ROOM: &str = "core/src/machine/sys/";

/// Finds `unsafe` outside the room, uses without an argument, and crates that don't forbid it.
pub(super) fn check(source: &Source<'_>) -> Vec<Offence> {
    let mut offences = Vec::new();
    let uses =
        (0..source.code.len()).filter(|&line| source.words(line).any(|(_, w)| w == "unsafe"));
    for line in uses {
        if !source.path.starts_with(ROOM) {
            let message = format!("`unsafe` outside {ROOM}: wrap it there and give it a safe face");
            offences.push(offence(source.path, line + 1, message));
        } else if !source.is_argued(line, &["// SAFETY:", "/// # Safety"]) {
            let message = "`unsafe` without a `// SAFETY:` comment above it: say why it holds";
            offences.push(offence(source.path, line + 1, message));
        }
    }
    if is_crate_root(source.path) && !source.code.iter().any(|c| c.contains("(unsafe_code)]")) {
        let message = "no `#![forbid(unsafe_code)]` in the root of a crate";
        offences.push(offence(source.path, 1, message));
    }
    offences
}

fn is_crate_root(path: &str) -> bool {
    let name = path.strip_suffix("src/lib.rs").or_else(|| path.strip_suffix("src/main.rs"));
    name.is_some_and(|folder| folder.matches('/').count() <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn unsafe_outside_its_room_is_found() {
        assert_eq!(lines("l4/src/splice.rs", "fn f() {\n    unsafe { g() }\n}\n"), [2]);
        assert!(lines("l4/src/splice.rs", "// unsafe\n#![deny(unsafe_code)]\n").is_empty());
    }

    #[test]
    fn each_use_needs_its_own_argument() {
        let text = "// SAFETY: g takes no pointer.\nlet a =\n    unsafe { g() };\n\
                    unsafe { h() };\n/// # Safety\n/// As g.\n#[inline]\nunsafe fn i() {}\n\
                    x(); // SAFETY: not for the next\n\nunsafe { j() };\n";
        assert_eq!(lines("core/src/machine/sys/ring.rs", text), [4, 11]);
    }

    #[test]
    fn a_crate_that_does_not_forbid_unsafe_is_found() {
        assert_eq!(lines("l4/src/lib.rs", "//! Head.\n"), [1]);
        assert_eq!(lines("src/main.rs", "//! Head.\n"), [1]);
        assert!(lines("l4/src/lib.rs", "#![forbid(unsafe_code)]\n").is_empty());
        assert!(lines("l4/src/relay/lib.rs", "//! Head.\n").is_empty());
    }
}
