//! A table of the file: getters by type, which record an error for a value that can't be used.
//!
//! Every getter returns `None` for a missing key and for one that was reported, so readers treat
//! both alike. Not here: what values mean. Invariant: getters are only called with keys that
//! `schema` lists for the section, because `refuse_unknown_keys` relies on it.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::report::{Diagnostic, Diagnostics, quoted};
use super::schema::Section;
use super::synonyms;
use super::tree::{Content, Entries};
pub(in crate::config) use super::value::{At, TomlValue};
use crate::config::text::requirement::Requirement;
use crate::config::value::address::AddressError;
use crate::config::value::duration;

/// Longest name of an object, in bytes.
pub(in crate::config) const NAME_MAX: usize = 128;

/// One table of the file.
#[derive(Clone, Debug)]
pub(in crate::config) struct Table<'a> {
    sink: &'a Diagnostics,
    section: Section,
    /// The object that it belongs to, as named in messages: `frontend "pg-write"`.
    owner: String,
    /// Its path within the object: `tcp.keepalive.`, or nothing for the object itself.
    path: String,
    span: Range<usize>,
    entries: &'a Entries,
}

impl<'a> Table<'a> {
    /// The file itself.
    pub(in crate::config) fn root(sink: &'a Diagnostics, entries: &'a Entries) -> Self {
        let owner = Section::Root.called().to_owned();
        Self { sink, section: Section::Root, owner, path: String::new(), span: 0..0, entries }
    }

    /// Its name in messages: `frontend "web"`, `timeout of frontend "web"`.
    pub(in crate::config) fn called(&self) -> String {
        match self.path.strip_suffix('.') {
            Some(path) => format!("{path} {}", self.of_owner()),
            None => self.owner.clone(),
        }
    }

    /// Sets the name of the object in messages.
    pub(in crate::config) fn call(&mut self, owner: String) {
        self.owner = owner;
    }

    /// The name of a key in messages: `timeout.connect of frontend "web"`.
    pub(in crate::config) fn key_called(&self, key: &str) -> String {
        match self.section {
            Section::Root => key.to_owned(),
            _ => format!("{}{key} {}", self.path, self.of_owner()),
        }
    }

    fn of_owner(&self) -> String {
        let preposition = if self.owner == Section::Global.called() { "in" } else { "of" };
        format!("{preposition} {}", self.owner)
    }

    /// Records what must exist on the host for this table.
    pub(in crate::config) fn want(&self, span: Range<usize>, wanted: Requirement) {
        self.sink.want(span, &self.called(), wanted);
    }

    /// Records a diagnostic.
    pub(in crate::config) fn report(&self, diagnostic: Diagnostic) {
        self.sink.add(diagnostic);
    }

    /// The value of a key, of any type.
    pub(in crate::config) fn value(&self, key: &'static str) -> Option<TomlValue<'a>> {
        debug_assert!(self.section.has(key), "{key} is listed");
        let entry = self.entries.get(key)?;
        Some(TomlValue::of(&entry.value))
    }

    /// Records that a value has the wrong type.
    pub(in crate::config) fn wrong_type(
        &self,
        key: &'static str,
        value: &TomlValue<'_>,
        expected: &str,
    ) {
        let title = format!("{} must be {expected}", self.key_called(key));
        let example = self.section.example(key);
        self.report(
            Diagnostic::at(value.span.clone(), title)
                .label(format!("this is {}", value.type_name()))
                .hint(format!("for example: {example}")),
        );
    }

    /// The error for a value of the right type that can't be used, with the reason.
    pub(in crate::config) fn unusable(
        &self,
        key: &str,
        span: Range<usize>,
        why: &str,
    ) -> Diagnostic {
        Diagnostic::at(span, format!("{} can't be used", self.key_called(key))).label(why)
    }

    /// Reports an address that can't be used.
    pub(in crate::config) fn refuse(&self, key: &str, span: Range<usize>, problem: AddressError) {
        let diagnostic = self.unusable(key, span, &problem.why);
        self.report(match problem.hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        });
    }

    /// Records an error for each of these keys that is missing.
    pub(in crate::config) fn require(&self, keys: &[&'static str]) {
        for key in keys.iter().filter(|key| self.lacks(key)) {
            let span = self.value(key).map_or_else(|| self.span.clone(), |value| value.span);
            self.report(
                Diagnostic::at(span, format!("{} has no {key}", self.called()))
                    .label(format!("{key} is required here"))
                    .hint(format!("for example: {}", self.section.example(key)))
                    .absence(),
            );
        }
    }

    /// Whether a key is missing or an empty array. An unknown key that most likely stands for it
    /// counts as present, because it is reported anyway.
    pub(in crate::config) fn lacks(&self, key: &'static str) -> bool {
        let stands_for_it = |word: &str| synonyms::meant(self.section, word) == Some(key);
        match self.value(key) {
            Some(value) => value.as_array().is_some_and(|array| array.is_empty()),
            None => !self.unknown_keys().any(|(word, _)| stands_for_it(word)),
        }
    }

    /// A string.
    pub(in crate::config) fn string(&self, key: &'static str) -> Option<At<&'a str>> {
        let value = self.value(key)?;
        let string = value.as_str();
        if string.is_none() {
            self.wrong_type(key, &value, "a string");
        }
        string
    }

    /// A string, owned, without its place.
    pub(in crate::config) fn text(&self, key: &'static str) -> Option<String> {
        self.string(key).map(|text| text.value.to_owned())
    }

    /// A string or an array of strings.
    pub(in crate::config) fn strings(&self, key: &'static str) -> Vec<At<&'a str>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let wrong =
            |value: &TomlValue<'_>| self.wrong_type(key, value, "a string or an array of strings");
        if let Some(string) = value.as_str() {
            return vec![string];
        }
        let Some(array) = value.as_array() else {
            wrong(&value);
            return Vec::new();
        };
        let string = |element: TomlValue<'a>| {
            element.as_str().or_else(|| {
                wrong(&element);
                None
            })
        };
        array.into_iter().filter_map(string).collect()
    }

    /// A name: a string that is not empty and fits on one line.
    pub(in crate::config) fn name(&self, key: &'static str) -> Option<At<&'a str>> {
        let At { value: name, span } = self.string(key)?;
        let why = if name.trim().is_empty() {
            "must not be empty"
        } else if name.len() > NAME_MAX {
            "must be at most 128 bytes long"
        } else if name.chars().any(char::is_control) {
            "must not contain control characters"
        } else {
            return Some(At { value: name, span });
        };
        self.report(self.unusable(key, span, why));
        None
    }

    /// `true` or `false`.
    pub(in crate::config) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let boolean = value.as_boolean();
        if boolean.is_none() {
            self.wrong_type(key, &value, "true or false");
        }
        boolean
    }

    /// A whole number within `range`.
    pub(in crate::config) fn integer(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = self.value(key)?;
        let Some(number) = value.as_integer() else {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            self.wrong_type(key, &value, &expected);
            return None;
        };
        let fitting = number.and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
        if fitting.is_none() {
            let why = format!("must be from {} to {}", range.start(), range.end());
            self.report(self.unusable(key, value.span, &why));
        }
        fitting
    }

    /// A number within a range, both in hundredths: `1.25` is 125.
    pub(in crate::config) fn hundredths(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = self.value(key)?;
        let [least, most] = [range.start(), range.end()].map(|bound| f64::from(*bound) / 100.0);
        let Some(number) = value.as_number() else {
            self.wrong_type(key, &value, &format!("a number from {least} to {most}"));
            return None;
        };
        if !(least..=most).contains(&number) {
            let why = format!("must be from {least} to {most}");
            self.report(self.unusable(key, value.span, &why));
            return None;
        }
        // In range, so it fits in 32 bits.
        Some((number * 100.0).round() as u32)
    }

    /// A duration greater than zero.
    pub(in crate::config) fn duration(&self, key: &'static str) -> Option<Duration> {
        self.time(key, duration::parse)
    }

    /// A duration that may be zero.
    pub(in crate::config) fn delay(&self, key: &'static str) -> Option<Duration> {
        self.time(key, duration::parse_or_none)
    }

    fn time(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<Duration, String>,
    ) -> Option<Duration> {
        let value = self.value(key)?;
        let Some(At { value: text, span }) = value.as_str() else {
            self.wrong_type(key, &value, "a duration with a unit, in quotes");
            return None;
        };
        match parse(text) {
            Ok(duration) => Some(duration),
            Err(why) => {
                self.report(self.unusable(key, span, &why));
                None
            }
        }
    }

    /// One of several words; `foreign` has words of other balancers with ours, for hints.
    pub(in crate::config) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        foreign: &[(&str, &str)],
    ) -> Option<T> {
        let At { value: word, span } = self.string(key)?;
        let find = |word: &str| choices.iter().find(|(name, _)| *name == word);
        if let Some((_, choice)) = find(word) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let why = format!("must be {}", synonyms::listed(&names));
        let plain = synonyms::plain(word);
        let ours = foreign.iter().find(|(theirs, _)| *theirs == plain).map(|(_, ours)| *ours);
        let near = || synonyms::nearest(&plain, names.iter().copied());
        let mut diagnostic = self.unusable(key, span, &why);
        if let Some(ours) = ours {
            diagnostic = diagnostic.hint(format!("here this is called {}", quoted(ours)));
        } else if let Some(near) = near() {
            diagnostic = diagnostic.hint(format!("did you mean {}?", quoted(near)));
        }
        self.report(diagnostic);
        None
    }

    /// A table under a key.
    pub(in crate::config) fn table(&self, key: &'static str, section: Section) -> Option<Self> {
        let value = self.value(key)?;
        if let Content::Table(entries) = value.inner {
            let (owner, path) = match self.section {
                Section::Root => (section.called().to_owned(), String::new()),
                _ => (self.owner.clone(), format!("{}{key}.", self.path)),
            };
            return Some(Self { sink: self.sink, section, owner, path, span: value.span, entries });
        }
        self.wrong_type(key, &value, "a table");
        None
    }

    /// The tables of an array under a key.
    pub(in crate::config) fn tables(&self, key: &'static str, section: Section) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            self.wrong_type(key, &value, "an array of tables");
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, entry) in array.into_iter().enumerate() {
            if let Content::Table(entries) = entry.inner {
                let owner = match self.section {
                    Section::Root => format!("{key} #{}", index + 1),
                    _ => format!("{}{key} #{} {}", self.path, index + 1, self.of_owner()),
                };
                let (sink, path) = (self.sink, String::new());
                tables.push(Self { sink, section, owner, path, span: entry.span, entries });
            } else {
                self.wrong_type(key, &entry, "an array of tables");
            }
        }
        tables
    }

    /// Records an error for every unknown key.
    pub(in crate::config) fn refuse_unknown_keys(&self) {
        for (word, place) in self.unknown_keys() {
            let title = match self.section {
                Section::Root => format!("unknown key {}", quoted(word)),
                _ => format!("unknown key {} in {}", quoted(word), self.called()),
            };
            let hint = synonyms::hint_for_key(self.section, word);
            self.report(Diagnostic::at(place, title).hint(hint));
        }
    }

    fn unknown_keys(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        let section = self.section;
        let unknown = self.entries.iter().filter(move |(word, _)| !section.has(word));
        unknown.map(|(word, entry)| (word.as_str(), entry.key.clone()))
    }
}
