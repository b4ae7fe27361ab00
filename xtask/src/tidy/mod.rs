//! Enforces the rules that CONTRIBUTING.md lists under "What is checked", on the text of sources.
//!
//! Each check is a function from the files to [`Offence`]s and has a test with a planted offender;
//! `subjects` alone asks git. Not here: what rustc, rustfmt and clippy check already. What is
//! allowed to differ, and why, is in `exceptions`; an exception that nothing needs any more is an
//! offence itself. Invariant: a check is a file here and a line of that list. Read `source` first:
//! it blanks comments and literals, so that the checks see code only.

mod circles;
mod exceptions;
mod manifests;
mod markdown;
mod marks;
mod names;
mod size;
mod source;
mod subjects;
mod types;
mod unsafe_room;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use exceptions::Exceptions;
use source::Source;

/// One broken promise.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Offence {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// An offence in `file`, whose lines count from 1.
fn offence(file: &str, line: usize, message: impl Into<String>) -> Offence {
    Offence { file: file.to_owned(), line, message: message.into() }
}

/// Runs all checks on the workspace in `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Offence>, String> {
    let files = read_all(root)?;
    let mut exceptions = Exceptions::listed();
    let mut offences = check_files(&files, &mut exceptions);
    offences.extend(exceptions.unused());
    offences.extend(subjects::check(root));
    offences.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(offences)
}

/// Runs all checks on files given as (path from the root, text).
fn check_files(files: &[(String, String)], exceptions: &mut Exceptions) -> Vec<Offence> {
    let mut offences = manifests::check(files);
    offences.extend(markdown::check(files));
    let mut imports = circles::Imports::default();
    let mut types = types::Types::default();
    for (path, text) in files {
        offences.extend(marks::check_text(path, text));
        if path.ends_with(".rs") {
            let source = Source::new(path, text);
            offences.extend(size::check(&source, exceptions));
            offences.extend(names::check(&source, exceptions));
            offences.extend(unsafe_room::check(&source));
            offences.extend(marks::check_source(&source));
            imports.add(&source);
            types.add(&source);
        }
    }
    offences.extend(imports.circles());
    offences.extend(types.check(exceptions));
    offences
}

/// All text files that belong to the repository, sorted by path.
fn read_all(root: &Path) -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if !is_ours(root, &path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                // What is not UTF-8 is no source of ours.
                let relative = path.strip_prefix(root).unwrap_or(&path);
                files.push((relative.to_string_lossy().into_owned(), text));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error| format!("cannot list {}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(cannot)?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(cannot)).collect()
}

/// Leaves out what git and cargo keep for themselves.
fn is_ours(root: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_lock = name == "Cargo.lock";
    let is_build = name == "target" && path.parent() == Some(root);
    let is_hidden = name.starts_with('.') && ![".ci", ".cargo", ".github"].contains(&name.as_ref());
    !(is_lock || is_build || is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offence_reads_like_a_compilers() {
        assert_eq!(
            offence("l4/src/lib.rs", 7, "too long").to_string(),
            "l4/src/lib.rs:7: too long"
        );
    }

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn this_tree_passes() {
        assert_eq!(check(root()).unwrap(), []);
    }

    #[test]
    fn the_list_of_rules_is_the_list_of_checks() {
        let page = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
        let cells = page.lines().filter_map(|line| line.strip_suffix(".rs` |")?.rsplit('`').next());
        let mut listed: Vec<String> = cells.map(str::to_owned).collect();
        let files = entries(&root().join("xtask/src/tidy")).unwrap();
        let names = files.iter().filter_map(|path| path.file_stem()?.to_str());
        let mut checks: Vec<String> = names
            .filter(|name| !["mod", "source", "exceptions"].contains(name))
            .map(str::to_owned)
            .collect();
        listed.sort();
        checks.sort();
        assert_eq!(listed, checks);
    }

    #[test]
    fn every_check_runs_on_the_files_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        for hidden in [".git", "target"] {
            fs::create_dir(folder.path().join(hidden)).unwrap();
            fs::write(folder.path().join(hidden).join("a.rs"), "no head").unwrap();
        }
        fs::write(folder.path().join("a.rs"), "pub fn handler() {}\n").unwrap();
        let found: Vec<_> = check_files(&read_all(folder.path()).unwrap(), &mut Exceptions::none())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|line| line.starts_with("a.rs:1: ")), "{found:?}");
    }
}
