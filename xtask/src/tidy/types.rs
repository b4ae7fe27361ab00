//! One type name, one meaning: a struct, enum, union, trait or type alias is defined once per
//! package.
//!
//! Test code is left out, and so are types inside `impl` and `trait` blocks, whose names are given
//! by what they implement. Not here: names that two packages share, which a path tells apart.

use std::collections::BTreeMap;

use super::exceptions::Exceptions;
use super::manifests::package_of;
use super::source::Source;
use super::{Offence, offence};

/// What defines a type.
const KINDS: &[&str] = &["struct", "enum", "union", "trait", "type"];

/// Where each type of each package is defined.
#[derive(Debug, Default)]
pub(super) struct Types {
    defined: BTreeMap<(&'static str, String), Vec<(String, usize)>>,
}

impl Types {
    /// Takes note of the types that a file defines.
    pub(super) fn add(&mut self, source: &Source<'_>) {
        let package = package_of(source.path);
        for line in (0..source.code.len()).filter(|&line| !source.is_test(line)) {
            let Some(name) = defined_type(&source.code[line]) else { continue };
            let places = self.defined.entry((package, name.to_owned())).or_default();
            places.push((source.path.to_owned(), line + 1));
        }
    }

    /// Every definition of a name but the first one of its package.
    pub(super) fn check(&self, exceptions: &mut Exceptions) -> Vec<Offence> {
        let mut offences = Vec::new();
        for ((package, name), places) in &self.defined {
            let [(first, _), others @ ..] = places.as_slice() else { continue };
            if others.is_empty() || exceptions.allows_type(package, name) {
                continue;
            }
            offences.extend(others.iter().map(|(file, line)| {
                let message = format!(
                    "a second type `{name}` in this package, beside that of {first}: rename one"
                );
                offence(file, *line, message)
            }));
        }
        offences
    }
}

/// The name of the type that a line of code defines.
fn defined_type(code: &str) -> Option<&str> {
    let mut rest = code.trim_start();
    let is_inner = rest.len() < code.len();
    if let Some(public) = rest.strip_prefix("pub") {
        let scoped = public.strip_prefix('(').and_then(|scope| scope.split_once(')'));
        rest = scoped.map_or(public, |(_, after)| after).trim_start();
    }
    rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
    let (kind, rest) = rest.split_once(' ')?;
    let is_associated = kind == "type" && is_inner;
    if is_associated || !KINDS.contains(&kind) {
        return None;
    }
    rest.split(|c: char| !super::source::is_word(c)).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], exceptions: &mut Exceptions) -> Vec<String> {
        let mut types = Types::default();
        files.iter().for_each(|(path, text)| types.add(&Source::new(path, text)));
        types.check(exceptions).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn definitions_are_recognised() {
        for (code, name) in [
            ("pub struct Slab<T> {", Some("Slab")),
            ("    pub(in crate::control) enum End {", Some("End")),
            ("pub unsafe trait Lent {", Some("Lent")),
            ("type Each<'a> = X;", Some("Each")),
            ("    type Output = ();", None),
            ("impl Slab {", None),
            ("structure Slab", None),
        ] {
            assert_eq!(defined_type(code), name, "{code}");
        }
    }

    #[test]
    fn a_second_type_of_a_name_is_found_in_the_same_package_only() {
        let files = [
            ("core/src/a.rs", "pub struct Queue;\n// enum Queue\n"),
            (
                "core/src/b.rs",
                "\npub(crate) enum Queue {}\n#[cfg(test)]\nmod t {\nstruct Queue;\n}",
            ),
            ("core/src/b/tests.rs", "struct Queue;\n"),
            ("l4/src/a.rs", "trait Queue {}\n"),
            ("src/a.rs", "type Queue = ();\n"),
            ("tests/it/a.rs", "struct Queue;\n"),
        ];
        let second = "core/src/b.rs:2: a second type `Queue` in this package, beside that of \
                      core/src/a.rs: rename one";
        assert_eq!(found(&files, &mut Exceptions::none()), [second]);
        assert!(found(&files, &mut Exceptions::one("ringlane-core", "Queue", 0)).is_empty());
        assert_eq!(found(&files, &mut Exceptions::one("ringlane-l4", "Queue", 0)).len(), 1);
    }
}
