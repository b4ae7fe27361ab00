//! Errors and warnings of a configuration, and how they are shown.
//!
//! Readers record each [`Diagnostic`] in [`Diagnostics`], which become one [`Report`] at the end.
//! Not here: what is an error (the readers) and where it is printed (the command line).
//!
//! Invariants: spans are clamped to the text and to character boundaries before they are rendered,
//! and words from the file go through [`quoted`], so no file can make the renderer panic or write
//! control sequences to a terminal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::requirement::{Need, Requirement};
use super::sources::Sources;
pub(in crate::config) use crate::config::value::quoted::quoted;

/// Diagnostics that a report shows; the rest are only counted.
const SHOWN_MAX: usize = 100;

/// Width at which a source line is cut around the part that matters.
const COLUMNS: usize = 140;

/// All errors and warnings of a configuration, in the order of the file.
#[derive(Debug, Default)]
pub struct Report {
    sources: Arc<Sources>,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report of one diagnostic.
    pub(in crate::config) fn single(name: &str, text: &str, diagnostic: Diagnostic) -> Self {
        let sources = Arc::new(Sources::single(name, text));
        Self { sources, diagnostics: vec![diagnostic] }
    }

    /// Number of errors; at least one if the report was returned as an error.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| !diagnostic.is_warning).count()
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// The same report with every warning as an error, except those that this user can't verify.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.diagnostics.iter_mut().for_each(|diagnostic| {
            diagnostic.is_warning &= diagnostic.is_unverified;
        });
        self
    }

    /// Each diagnostic as one line: file, line, title, label and hints.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.diagnostics.iter().map(|diagnostic| {
            let level = if diagnostic.is_warning { "warning" } else { "error" };
            let mut line = match &diagnostic.primary {
                Some((span, _)) => format!("{level}: {}", self.place(span)),
                None => format!("{level}: {}", self.sources.main().0),
            };
            line += &format!(": {}", diagnostic.title);
            if let Some((_, label)) = diagnostic.primary.as_ref().filter(|(_, l)| !l.is_empty()) {
                line += &format!(": {label}");
            }
            if let Some((span, label)) = diagnostic.elsewhere(&self.sources) {
                line += &format!(" ({label}: {})", self.place(span));
            }
            for hint in &diagnostic.hints {
                line += &format!("; {hint}");
            }
            line
        })
    }

    /// File and line of a place.
    fn place(&self, span: &Range<usize>) -> String {
        let (name, line) = self.sources.line(span.start);
        format!("{name}:{line}")
    }

    /// The whole report as text, each diagnostic with file, line, column, caret and hints.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(COLUMNS);
        let mut shown: Vec<String> = self
            .diagnostics
            .iter()
            .take(SHOWN_MAX)
            .map(|diagnostic| renderer.render(&[diagnostic.group(&self.sources)]))
            .collect();
        if let Some(more) = self.diagnostics.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            let noun = if self.warnings() == 0 { "errors" } else { "errors and warnings" };
            shown.push(format!("and {more} more {noun} in {}", self.sources.main().0));
        }
        shown.join("\n\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// One error or warning.
#[derive(Debug)]
pub(in crate::config) struct Diagnostic {
    title: String,
    /// The place, and the label there.
    primary: Option<(Range<usize>, String)>,
    /// A second, related place, and its label.
    also: Option<(Range<usize>, String)>,
    hints: Vec<String>,
    certainty: Certainty,
    /// Whether the configuration can still be used.
    is_warning: bool,
    /// A warning about what this user may not look at.
    is_unverified: bool,
}

/// What a diagnostic is worth if the file has syntax errors, after which the parser guesses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Certainty {
    /// A syntax error.
    Syntax,
    /// About a file or a string that could not be read: what it has is unknown.
    Hiding,
    /// About something present: valid unless its own line could not be parsed.
    Presence,
    /// About something missing: a syntax error may have hidden it.
    Absence,
}

impl Diagnostic {
    /// An error at a place in the file.
    pub(in crate::config) fn at(span: Range<usize>, title: impl Into<String>) -> Self {
        Self { primary: Some((span, String::new())), ..Self::whole(title) }
    }

    /// An error of the file as a whole.
    pub(in crate::config) fn whole(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            primary: None,
            also: None,
            hints: Vec::new(),
            certainty: Certainty::Presence,
            is_warning: false,
            is_unverified: false,
        }
    }

    /// Makes it a warning.
    pub(in crate::config) fn warning(mut self) -> Self {
        self.is_warning = true;
        self
    }

    /// Makes it a warning that stays one under `--strict`: this user could not look.
    pub(in crate::config) fn unverified(mut self) -> Self {
        self.is_unverified = true;
        self.warning()
    }

    /// Moves its places by this much.
    pub(in crate::config) fn shifted(mut self, base: usize) -> Self {
        for (span, _) in self.primary.iter_mut().chain(&mut self.also) {
            *span = span.start + base..span.end + base;
        }
        self
    }

    /// Sets the label at the caret.
    pub(in crate::config) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(primary) = &mut self.primary {
            primary.1 = label.into();
        }
        self
    }

    /// Adds a second place to show.
    pub(in crate::config) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }

    /// Adds what to do about it.
    pub(in crate::config) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Marks it as a syntax error.
    pub(in crate::config) fn syntax(mut self) -> Self {
        self.certainty = Certainty::Syntax;
        self
    }

    /// Marks it as hiding parts of the configuration, so that nothing is reported as missing.
    pub(in crate::config) fn hides_the_rest(mut self) -> Self {
        self.certainty = Certainty::Hiding;
        self
    }

    /// Marks it as about something missing.
    pub(in crate::config) fn absence(mut self) -> Self {
        self.certainty = Certainty::Absence;
        self
    }

    fn start(&self) -> usize {
        self.primary.as_ref().map_or(0, |(span, _)| span.start)
    }

    /// The second place, if it is in another file than the first one.
    fn elsewhere(&self, sources: &Sources) -> Option<&(Range<usize>, String)> {
        let first = &self.primary.as_ref()?.0;
        let is_elsewhere = |span: &Range<usize>| {
            sources.file(first.start).1.start != sources.file(span.start).1.start
        };
        self.also.as_ref().filter(|(span, _)| is_elsewhere(span))
    }

    fn group<'a>(&'a self, sources: &'a Sources) -> Group<'a> {
        let level = if self.is_warning { Level::WARNING } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(self.title.as_str()));
        if let Some((span, label)) = &self.primary {
            let primary = (AnnotationKind::Primary, span, label.as_str());
            let also = self.also.as_ref();
            let also = also.map(|(span, label)| (AnnotationKind::Context, span, label.as_str()));
            if self.elsewhere(sources).is_some() {
                group = group.element(snippet(sources, &[primary]));
                group = group.elements(also.map(|also| snippet(sources, &[also])));
            } else {
                let all: Vec<Annotated<'_>> = [Some(primary), also].into_iter().flatten().collect();
                group = group.element(snippet(sources, &all));
            }
        }
        group.elements(self.hints.iter().map(|hint| Level::HELP.message(hint.as_str())))
    }
}

/// A place that is shown, and its label.
type Annotated<'a> = (AnnotationKind, &'a Range<usize>, &'a str);

/// The lines of one file that show these places.
fn snippet<'a>(sources: &'a Sources, places: &[Annotated<'a>]) -> Snippet<'a, Annotation<'a>> {
    let (name, file) = sources.file(places.first().map_or(0, |(_, span, _)| span.start));
    let text = &sources.joined()[file.clone()];
    let local = |span: &Range<usize>| {
        within(text, &(span.start.saturating_sub(file.start)..span.end.saturating_sub(file.start)))
    };
    let spans = || places.iter().map(|(_, span, _)| local(span));
    let first = spans().map(|span| span.start).min().unwrap_or(0);
    let last = spans().map(|span| span.end).max().unwrap_or(0);
    // The renderer scans its whole input, so it gets only the lines that are shown.
    let start = text[..first].rfind('\n').map_or(0, |at| at + 1);
    let end = text[last..].find('\n').map_or(text.len(), |length| last + length);
    let mut snippet = Snippet::source(&text[start..end])
        .path(name)
        .line_start(text[..start].matches('\n').count() + 1);
    for (kind, span, label) in places {
        let span = local(span);
        let label = Some(*label).filter(|label| !label.is_empty());
        let annotation = kind.span(span.start - start..span.end - start);
        snippet = snippet.annotation(annotation.label(label));
    }
    snippet
}

/// `span` clamped to `text` and to character boundaries, and cut to its first line.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.floor_char_boundary(span.end).max(start);
    let line = text[start..end].find('\n').map_or(end, |length| start + length);
    start..line
}

/// Collects what the readers find: errors, warnings, and requirements of the host.
#[derive(Debug, Default)]
pub(in crate::config) struct Diagnostics {
    diagnostics: RefCell<Vec<Diagnostic>>,
    /// Warnings that may only be a consequence of errors.
    suspicions: RefCell<Vec<Diagnostic>>,
    wanted: RefCell<Vec<Need>>,
    /// Strings with variables, by their first byte: the end, and the value for messages.
    values: RefCell<BTreeMap<usize, (usize, String)>>,
    /// Strings about which everything was reported.
    hushed: RefCell<BTreeMap<usize, usize>>,
}

impl Diagnostics {
    /// Records a diagnostic.
    pub(in crate::config) fn add(&self, mut diagnostic: Diagnostic) {
        if let Some((span, _)) = &diagnostic.primary {
            if self.hushed.borrow().get(&span.start) == Some(&span.end) {
                return;
            }
            if let Some((end, value)) = self.values.borrow().get(&span.start)
                && *end == span.end
            {
                let hint = format!("with its variables replaced, this string is {value}");
                diagnostic.hints.push(hint);
            }
        }
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    /// Records what must exist on the host for the object that `owner` names.
    pub(in crate::config) fn want(
        &self,
        span: Range<usize>,
        owner: &str,
        requirement: Requirement,
    ) {
        let owner = owner.to_owned();
        self.wanted.borrow_mut().push(Need { span, owner, requirement });
    }

    /// Notes the value that a string has once its variables are replaced, for messages about it.
    pub(in crate::config) fn note_value(&self, span: Range<usize>, value: String) {
        self.values.borrow_mut().insert(span.start, (span.end, value));
    }

    /// Drops all further errors about this string: they would be consequences of the last one.
    pub(in crate::config) fn hush(&self, span: Range<usize>) {
        self.hushed.borrow_mut().insert(span.start, span.end);
    }

    /// Takes the requirements of the host.
    pub(in crate::config) fn take_wanted(&self) -> Vec<Need> {
        self.wanted.take()
    }

    /// Runs `look`; what it records is kept only if there are no errors in the end.
    pub(in crate::config) fn suspect(&self, look: impl FnOnce()) {
        let before = self.diagnostics.borrow().len();
        look();
        self.suspicions.borrow_mut().extend(self.diagnostics.borrow_mut().drain(before..));
    }

    /// The report of everything that was recorded: warnings, or errors and warnings.
    ///
    /// # Errors
    /// The report, if it contains an error.
    pub(in crate::config) fn finish(self, sources: Arc<Sources>) -> Result<Report, Report> {
        let mut diagnostics = self.diagnostics.into_inner();
        if diagnostics.iter().all(|diagnostic| diagnostic.is_warning) {
            diagnostics.extend(self.suspicions.into_inner());
        }
        drop_consequences(sources.joined(), &mut diagnostics);
        diagnostics.sort_by_key(Diagnostic::start);
        let report = Report { sources, diagnostics };
        if report.errors() == 0 { Ok(report) } else { Err(report) }
    }
}

/// Drops what may only be a consequence of a syntax error: everything about missing things, and
/// every other diagnostic on a line that has a syntax error.
fn drop_consequences(text: &str, diagnostics: &mut Vec<Diagnostic>) {
    let breaks: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line = |diagnostic: &Diagnostic| breaks.partition_point(|at| *at < diagnostic.start());
    let is_syntax = |diagnostic: &Diagnostic| diagnostic.certainty == Certainty::Syntax;
    diagnostics.sort_by_key(|diagnostic| (!is_syntax(diagnostic), diagnostic.start()));
    let is_hiding = |diagnostic: &Diagnostic| diagnostic.certainty == Certainty::Hiding;
    let is_hidden = diagnostics.iter().any(is_hiding);
    let mut broken = Vec::new();
    diagnostics.retain(|diagnostic| {
        let line = line(diagnostic);
        match diagnostic.certainty {
            Certainty::Syntax if broken.last() == Some(&line) => false,
            Certainty::Syntax => {
                broken.push(line);
                true
            }
            Certainty::Presence | Certainty::Hiding => broken.binary_search(&line).is_err(),
            Certainty::Absence => broken.is_empty() && !is_hidden,
        }
    });
}
