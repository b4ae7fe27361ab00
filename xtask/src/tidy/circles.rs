//! No module of the packages that every carrier builds on imports another one that leads back to
//! it.
//!
//! Modules are those at the top of a package; what a folder does inside is its own affair, and so
//! are tests. Goes by `use crate::…` and paths that begin so.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;
use super::{Offence, offence};

/// Packages without circles.
const WITHOUT: &[&str] = &["shard/src/", "l4/src/"];

/// What each module of each package imports, with a line that does.
#[derive(Debug, Default)]
pub(super) struct Imports {
    modules: BTreeMap<String, BTreeMap<String, (String, usize)>>,
}

impl Imports {
    /// Takes note of a file's imports.
    pub(super) fn add(&mut self, source: &Source<'_>) {
        let package = WITHOUT.iter().find(|package| source.path.starts_with(**package));
        let Some(package) = package else { return };
        let module = |name: &str| format!("{package}{name}");
        let own = source.path[package.len()..].split(['/', '.']).next().unwrap_or_default();
        if own == "lib" {
            return;
        }
        let imports = self.modules.entry(module(own)).or_default();
        for (number, code) in source.code.iter().enumerate() {
            if source.is_test(number) {
                continue;
            }
            for (at, _) in code.match_indices("crate::") {
                for name in names(&code[at + "crate::".len()..]) {
                    let place = (source.path.to_owned(), number + 1);
                    imports.entry(module(&name)).or_insert(place);
                }
            }
        }
    }

    /// The circles, each once, at an import that closes it.
    pub(super) fn circles(&self) -> Vec<Offence> {
        let mut offences = Vec::new();
        let mut done = BTreeSet::new();
        for module in self.modules.keys() {
            self.walk(module, &mut Vec::new(), &mut done, &mut offences);
        }
        offences
    }

    fn walk<'a>(
        &'a self,
        module: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
        offences: &mut Vec<Offence>,
    ) {
        if done.contains(module) {
            return;
        }
        path.push(module);
        for (import, (file, line)) in self.modules.get(module).into_iter().flatten() {
            if import == module {
                continue;
            }
            if let Some(begin) = path.iter().position(|on| on == import) {
                let circle = [&path[begin..], &[import.as_str()]].concat().join(" → ");
                offences.push(offence(file, *line, format!("a circle of modules: {circle}")));
            } else {
                self.walk(import, path, done, offences);
            }
        }
        path.pop();
        done.insert(module);
    }
}

/// The modules that begin a path, or each path of a list in braces.
fn names(path: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let list = path.strip_prefix('{').map(|list| list.split('}').next().unwrap_or_default());
    let names: Vec<String> = match list {
        Some(list) => list.split(',').map(word).collect(),
        None => vec![word(path)],
    };
    // Types at the root of a package are no modules.
    names.into_iter().filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let mut imports = Imports::default();
        files.iter().for_each(|(path, text)| imports.add(&Source::new(path, text)));
        imports.circles().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_circle_is_found_and_a_chain_is_none() {
        let chain = [
            ("l4/src/a.rs", "use crate::b::B;\nuse crate::{c, lib::D};"),
            ("l4/src/b/mod.rs", "fn f() { crate::c::g() }"),
            ("l4/src/c.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}"),
        ];
        assert!(circles(&chain).is_empty(), "{:?}", circles(&chain));
        let round = [chain[0], chain[1], ("l4/src/c.rs", "use crate::a::A;")];
        let found = circles(&round);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("l4/src/c.rs:1: a circle of modules: l4/src/a → "),
            "{found:?}"
        );
        let elsewhere = round.map(|(path, text)| (path.strip_prefix("l4/").unwrap(), text));
        assert!(circles(&elsewhere).is_empty(), "of other packages");
    }
}
