//! The files of one configuration: their names and their texts, one behind another.
//!
//! A place in a configuration is a range of bytes of the joined text, so a place needs no file
//! beside it, and places of several files can be compared. Not here: reading files (`include`).
//! Invariant: a file's range covers exactly its text; a line break separates two files, so no line
//! belongs to two. Next: `report`, which shows places.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The files that a configuration was read from: the main file, then those that it includes, in
/// the order in which they were read.
#[derive(Clone, Default)]
pub struct Sources {
    /// All texts, with a line break behind each.
    text: String,
    files: Vec<SourceFile>,
}

/// One file.
#[derive(Clone, Debug)]
struct SourceFile {
    name: String,
    path: Option<PathBuf>,
    span: Range<usize>,
}

impl Sources {
    /// A single text without a file.
    pub(in crate::config) fn single(name: &str, text: &str) -> Self {
        let mut sources = Self::default();
        sources.add(name, None, text);
        sources
    }

    /// Adds a file; returns where its text begins.
    pub(in crate::config) fn add(
        &mut self,
        name: &str,
        path: Option<&Path>,
        text: &str,
    ) -> Range<usize> {
        let start = self.text.len();
        let span = start..start + text.len();
        self.text.push_str(text);
        self.text.push('\n');
        let path = path.map(Path::to_owned);
        self.files.push(SourceFile { name: name.to_owned(), path, span: span.clone() });
        span
    }

    /// The name of each file as messages show it, and its text. The text may contain secrets.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|file| (file.name.as_str(), &self.text[file.span.clone()]))
    }

    /// The path of each file that was read from disk: what to watch for changes.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter_map(|file| file.path.as_deref())
    }

    /// Number of files.
    pub(in crate::config) fn count(&self) -> usize {
        self.files.len()
    }

    /// The joined text, to which places refer.
    pub(in crate::config) fn joined(&self) -> &str {
        &self.text
    }

    /// The path of the file that contains a place, if it was read from disk.
    pub(in crate::config) fn path_at(&self, at: usize) -> Option<&Path> {
        self.file_at(at)?.path.as_deref()
    }

    /// The path of the main file, if it was read from disk.
    pub(crate) fn main_path(&self) -> Option<&Path> {
        self.files.first()?.path.as_deref()
    }

    /// The end of the main file.
    pub(in crate::config) fn main_end(&self) -> usize {
        self.files.first().map_or(0, |file| file.span.end)
    }

    /// The name and the text of the main file.
    pub(in crate::config) fn main(&self) -> (&str, &str) {
        self.texts().next().unwrap_or_default()
    }

    /// The name, and the range of the text, of the file that contains a place.
    pub(in crate::config) fn file(&self, at: usize) -> (&str, Range<usize>) {
        self.file_at(at).map_or(("", 0..0), |file| (file.name.as_str(), file.span.clone()))
    }

    /// The name of the file that contains a place, and the number of its line.
    pub(in crate::config) fn line(&self, at: usize) -> (&str, usize) {
        let (name, span) = self.file(at);
        let at = self.text.floor_char_boundary(at).clamp(span.start, span.end);
        (name, self.text[span.start..at].matches('\n').count() + 1)
    }

    fn file_at(&self, at: usize) -> Option<&SourceFile> {
        let behind = self.files.partition_point(|file| file.span.start <= at);
        self.files.get(behind.saturating_sub(1))
    }
}

impl fmt::Debug for Sources {
    /// Names only: texts may contain passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|file| &file.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_belongs_to_the_file_whose_text_contains_it() {
        let mut sources = Sources::single("a.toml", "one\ntwo");
        let second = sources.add("b.toml", Some(Path::new("/b.toml")), "three\nfour");
        sources.add("c.toml", None, "");
        assert_eq!(sources.line(0), ("a.toml", 1));
        assert_eq!(sources.line(7), ("a.toml", 2), "the end of the first file");
        assert_eq!(sources.line(second.start), ("b.toml", 1));
        assert_eq!(sources.line(second.end), ("b.toml", 2));
        assert_eq!(sources.line(second.end + 1), ("c.toml", 1));
        assert_eq!(sources.line(usize::MAX), ("c.toml", 1));
        assert_eq!(sources.path_at(second.start), Some(Path::new("/b.toml")));
        assert_eq!(sources.texts().nth(1), Some(("b.toml", "three\nfour")));
        assert!(!format!("{sources:?}").contains("three"));
    }
}
