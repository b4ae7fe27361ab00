//! The files of a configuration: reads the main file and what it includes, and parses each.
//!
//! Not here: joining their tables (`merge`), what tables mean (`read`). A pattern may have `*` and
//! `?` in its last component; files of one pattern are read in the order of their names, and a file
//! that several patterns match is read once. Invariants: a text that is not from disk includes
//! nothing, so it can't make the process read files; nothing but regular files is opened for an
//! `include`, so none can block for ever. At a bound, the file is refused with an error.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::text::report::{Diagnostic, Diagnostics, quoted};
use super::text::sources::Sources;
use super::text::table::Table;
use super::text::tree::{Builder, Entries};
use super::text::variables::Environment;
use super::text::{foreign, syntax};
use super::{FILE_MAX, Report};

/// Files of one configuration.
pub(super) const FILES_MAX: usize = 1000;

/// Bytes of all files together.
const BYTES_ALL_MAX: usize = 64 * 1024 * 1024;

/// How deep includes may be nested: the main file includes at depth 1.
pub(super) const DEPTH_MAX: usize = 4;

/// Names in a directory that are compared with a pattern.
const NAMES_MAX: usize = 100_000;

/// What a configuration is read from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    /// A file on disk, and what it includes.
    File(&'a Path),
    /// This text as if it were the content of that file.
    InPlaceOf(&'a Path, &'a str),
    /// A text alone; `include` is an error in it.
    Text(&'a str, &'a str),
    /// The texts of a configuration that was read before; the disk is not looked at.
    Again(&'a Sources),
}

/// The files that were read, and the root table of each, in the same order.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) sources: Sources,
    pub(super) roots: Vec<Entries>,
}

/// Reads and parses all files; errors inside them go to `sink`.
///
/// # Errors
/// The report for a file that can't be read as a configuration at all.
pub(super) fn gather(
    sink: &Diagnostics,
    input: Input<'_>,
    environment: Environment<'_>,
) -> Result<Gathered, Report> {
    let mut reader = Reader {
        sink,
        environment,
        gathered: Gathered::default(),
        seen: HashSet::new(),
        ancestors: Vec::new(),
    };
    match input {
        Input::File(path) => {
            let name = path.display().to_string();
            let text = read(path).map_err(|error| unreadable(&name, &error))?;
            reader.main(path, &text_of(&name, text)?)?;
        }
        Input::InPlaceOf(path, text) => reader.main(path, text)?,
        Input::Text(name, text) => {
            let index = reader.add(name, None, text)?;
            reader.refuse_includes(index);
        }
        Input::Again(sources) => {
            let mut paths = sources.paths();
            for (name, text) in sources.texts() {
                // All files are from disk, or the only one is not.
                reader.add(name, paths.next(), text)?;
            }
        }
    }
    Ok(reader.gathered)
}

/// The text of a file.
///
/// # Errors
/// The report for a file that is not UTF-8, with the first bad byte shown.
pub(super) fn text_of(name: &str, bytes: Vec<u8>) -> Result<String, Report> {
    String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes());
        let at = error.utf8_error().valid_up_to();
        let bad = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
        let diagnostic = Diagnostic::at(bad, "the configuration file is not UTF-8 text")
            .label("the first invalid byte")
            .hint("save the file as UTF-8, the only encoding of TOML");
        Report::single(name, &text, diagnostic)
    })
}

fn unreadable(name: &str, error: &io::Error) -> Report {
    let title = format!("can't read the configuration file {name}: {error}");
    let hint = "give the path of a TOML file that this user may read";
    Report::single(name, "", Diagnostic::whole(title).hint(hint))
}

/// The bytes of a file, up to the limit.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("the file is larger than {} MiB", FILE_MAX >> 20)));
    }
    Ok(bytes)
}

/// The state of reading.
struct Reader<'a> {
    sink: &'a Diagnostics,
    environment: Environment<'a>,
    gathered: Gathered,
    /// The real paths of all files that were read.
    seen: HashSet<PathBuf>,
    /// The real paths of the files that are being read, the main file first, with their names.
    ancestors: Vec<(PathBuf, String)>,
}

impl Reader<'_> {
    fn main(&mut self, path: &Path, text: &str) -> Result<(), Report> {
        let name = path.display().to_string();
        let index = self.add(&name, Some(path), text)?;
        self.follow(index, path)
    }

    /// Adds and parses a file; returns its index.
    fn add(&mut self, name: &str, path: Option<&Path>, text: &str) -> Result<usize, Report> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        if let Some(mistaken) = foreign::recognise(name, text, errors.is_empty()) {
            return Err(Report::single(name, text, mistaken));
        }
        let base = self.gathered.sources.add(name, path, text).start;
        syntax::read(self.sink, base, text, &errors);
        let builder = Builder { sink: self.sink, environment: self.environment, base };
        self.gathered.roots.push(builder.entries(document.into_inner(), false));
        Ok(self.gathered.roots.len() - 1)
    }

    /// Reads what a file includes.
    fn follow(&mut self, index: usize, path: &Path) -> Result<(), Report> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.seen.insert(real.clone());
        self.ancestors.push((real, path.display().to_string()));
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for (pattern, span) in self.includes(index) {
            for file in self.matching(folder, &pattern, &span) {
                self.include(&file, &span)?;
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    /// The patterns of a file's `include`, with their places.
    fn includes(&self, index: usize) -> Vec<(String, Range<usize>)> {
        let root = Table::root(self.sink, &self.gathered.roots[index]);
        let patterns = root.strings("include").into_iter();
        patterns.map(|pattern| (pattern.value.to_owned(), pattern.span)).collect()
    }

    fn refuse_includes(&self, index: usize) {
        for (_, span) in self.includes(index) {
            let title = "include works only in a file on disk";
            let hint = "write the configuration to a file, or put everything into one text";
            self.sink.add(Diagnostic::at(span, title).hint(hint).hides_the_rest());
        }
    }

    /// The files that a pattern stands for.
    fn matching(&self, folder: &Path, pattern: &str, span: &Range<usize>) -> Vec<PathBuf> {
        let path = folder.join(pattern);
        let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let above = path.parent().unwrap_or_else(|| Path::new(""));
        let has_wildcard = |text: &str| text.contains(['*', '?']);
        let refuse = |why: &str| {
            let title = format!("include of {} can't be used", quoted(pattern));
            let hint = "for example: include = [\"conf.d/*.toml\"]";
            self.sink
                .add(Diagnostic::at(span.clone(), title).label(why).hint(hint).hides_the_rest());
            Vec::new()
        };
        if last.is_empty() || pattern.ends_with('/') {
            return refuse("must name a file, or a pattern such as \"conf.d/*.toml\"");
        }
        if Path::new(pattern).parent().is_some_and(|above| has_wildcard(&above.to_string_lossy())) {
            return refuse("* and ? are only valid in the last component of a path");
        }
        if !has_wildcard(last) {
            return vec![path];
        }
        let shown = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        let files = match names(shown) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return refuse(&format!("can't read the directory {}: {error}", shown.display()));
            }
        };
        let mut files: Vec<String> =
            files.into_iter().filter(|name| matches(last.as_bytes(), name.as_bytes())).collect();
        if files.is_empty() {
            let title = format!("include of {} matches no file", quoted(pattern));
            let label = match shown.is_dir() {
                true => format!("there is no such file in {}", shown.display()),
                false => format!("there is no directory {}", shown.display()),
            };
            let hint = "add a file, or remove the pattern";
            self.sink.add(Diagnostic::at(span.clone(), title).label(label).hint(hint).warning());
        }
        files.sort_unstable();
        files.into_iter().map(|name| above.join(name)).collect()
    }

    /// Reads one included file and what it includes in turn.
    fn include(&mut self, path: &Path, span: &Range<usize>) -> Result<(), Report> {
        let name = path.display().to_string();
        let refuse = |why: &str, hint: &str| {
            let title = format!("can't include {name}");
            let diagnostic = Diagnostic::at(span.clone(), title).label(why).hint(hint);
            self.sink.add(diagnostic.hides_the_rest());
            Ok(())
        };
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => {
                let hint = "paths are relative to the directory of the file that includes them";
                return refuse(&error.to_string(), hint);
            }
        };
        if let Some(at) = self.ancestors.iter().position(|(ancestor, _)| *ancestor == real) {
            let mut chain: Vec<&str> =
                self.ancestors[at..].iter().map(|(_, name)| name.as_str()).collect();
            chain.push(&name);
            let why = format!("a loop: {}", chain.join(" includes "));
            return refuse(&why, "remove one of these includes");
        }
        if self.seen.contains(&real) {
            return Ok(());
        }
        if self.ancestors.len() > DEPTH_MAX {
            let why = format!("includes are nested more than {DEPTH_MAX} deep");
            return refuse(&why, "include the file from one further up");
        }
        if self.gathered.sources.count() >= FILES_MAX {
            let why = format!("a configuration may have at most {FILES_MAX} files");
            return refuse(&why, "join some of them");
        }
        if !fs::metadata(&real).is_ok_and(|metadata| metadata.is_file()) {
            return refuse("it is not a regular file", "use a pattern that matches files only");
        }
        let bytes = match read(&real) {
            Ok(bytes) => bytes,
            Err(error) => return refuse(&error.to_string(), "this user must be able to read it"),
        };
        if self.gathered.sources.joined().len() + bytes.len() > BYTES_ALL_MAX {
            let why = format!("all files together may have {} MiB", BYTES_ALL_MAX >> 20);
            return refuse(&why, "remove what is not needed");
        }
        let index = self.add(&name, Some(path), &text_of(&name, bytes)?)?;
        self.follow(index, path)
    }
}

/// The names of the entries of a directory; those that are not UTF-8 are left out.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for (index, entry) in fs::read_dir(folder)?.enumerate() {
        if index >= NAMES_MAX {
            return Err(io::Error::other(format!("it has more than {NAMES_MAX} entries")));
        }
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Whether a name fits a pattern with `*` and `?`. As in a shell, a leading dot must be written.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Where to go on after a mismatch: behind the last `*`, one byte of the name further.
    let mut again: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p + 1, n + 1));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((behind, next)) = again else { return false };
                (p, n) = (behind, next);
                again = Some((behind, next + 1));
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            ("*.toml", "a.toml~", false),
            ("*.toml", ".a.toml", false),
            (".*", ".a", true),
            ("*", "anything", true),
            ("1?-*.toml", "10-pg.toml", true),
            ("1?-*.toml", "1-pg.toml", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*a", "aaab", false),
            ("a", "ab", false),
            ("ab", "a", false),
        ] {
            let found = matches(pattern.as_bytes(), name.as_bytes());
            assert_eq!(found, expected, "{pattern} {name}");
        }
    }
}
