//! What is wrong with a configuration, and how it is shown.
//!
//! Readers record [`Diagnostic`]s in the [`Sink`]; at the end they become one [`Report`]. Not here:
//! what is an error (the readers decide) and where it is printed (the command line decides).
//!
//! Invariants: spans are brought into the text and onto character boundaries before they are
//! rendered, and whatever is quoted from the file has gone through [`quoted`], so no file can
//! upset the renderer or write control sequences to a terminal.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Diagnostics that a report shows; more are only counted.
const SHOWN_MAX: usize = 100;

/// Characters of a quoted word that are shown.
const QUOTED_MAX: usize = 60;

/// Columns before a source line is cut around what it is shown for.
const COLUMNS: usize = 140;

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Debug)]
pub struct Report {
    name: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report of one diagnostic.
    pub(super) fn single(name: &str, text: &str, diagnostic: Diagnostic) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), diagnostics: vec![diagnostic] }
    }

    /// How many errors there are.
    pub fn len(&self) -> usize {
        self.diagnostics.len()
    }

    /// Whether there is no error; a report that was returned has at least one.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// All errors as text, each with file, line, column, caret and hints.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(COLUMNS);
        let mut shown: Vec<String> = self
            .diagnostics
            .iter()
            .take(SHOWN_MAX)
            .map(|diagnostic| renderer.render(&[diagnostic.group(&self.name, &self.text)]))
            .collect();
        if let Some(more) = self.diagnostics.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            shown.push(format!("and {more} more errors in {}", self.name));
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

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Diagnostic {
    title: String,
    /// Where, and what to say there.
    primary: Option<(Range<usize>, String)>,
    /// A second place that has to do with it.
    also: Option<(Range<usize>, String)>,
    hints: Vec<String>,
    certainty: Certainty,
}

/// How a diagnostic gets on with syntax errors, after which the parser can only guess.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Certainty {
    /// It is a syntax error.
    Syntax,
    /// About something that is there: true unless its own line could not be parsed.
    Presence,
    /// About something that is missing: a syntax error may have swallowed it.
    Absence,
}

impl Diagnostic {
    /// Something wrong at a place of the file.
    pub(super) fn at(span: Range<usize>, title: impl Into<String>) -> Self {
        Self { primary: Some((span, String::new())), ..Self::whole(title) }
    }

    /// Something wrong with the file as a whole.
    pub(super) fn whole(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            primary: None,
            also: None,
            hints: Vec::new(),
            certainty: Certainty::Presence,
        }
    }

    /// What to say at the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(primary) = &mut self.primary {
            primary.1 = label.into();
        }
        self
    }

    /// A second place to show.
    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }

    /// What to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// It is a syntax error.
    pub(super) fn syntax(mut self) -> Self {
        self.certainty = Certainty::Syntax;
        self
    }

    /// It is about something missing.
    pub(super) fn absence(mut self) -> Self {
        self.certainty = Certainty::Absence;
        self
    }

    fn start(&self) -> usize {
        self.primary.as_ref().map_or(0, |(span, _)| span.start)
    }

    fn group<'a>(&'a self, name: &'a str, text: &'a str) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(self.title.as_str()));
        if let Some((span, label)) = &self.primary {
            let also = self.also.as_ref().map(|(span, label)| (within(text, span), label));
            let span = within(text, span);
            let first = also.as_ref().map_or(span.start, |(also, _)| also.start.min(span.start));
            let last = also.as_ref().map_or(span.end, |(also, _)| also.end.max(span.end));
            // The renderer looks at all that it is given, so it is given the lines in question.
            let start = text[..first].rfind('\n').map_or(0, |at| at + 1);
            let end = text[last..].find('\n').map_or(text.len(), |length| last + length);
            let shifted = |span: Range<usize>| span.start - start..span.end - start;
            let label = Some(label.as_str()).filter(|label| !label.is_empty());
            let mut snippet = Snippet::source(&text[start..end])
                .path(name)
                .line_start(text[..start].matches('\n').count() + 1)
                .annotation(AnnotationKind::Primary.span(shifted(span)).label(label));
            if let Some((span, label)) = also {
                let context = AnnotationKind::Context.span(shifted(span));
                snippet = snippet.annotation(context.label(label));
            }
            group = group.element(snippet);
        }
        group.elements(self.hints.iter().map(|hint| Level::HELP.message(hint.as_str())))
    }
}

/// `span` brought into `text`, onto character boundaries, and cut to its first line.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.floor_char_boundary(span.end).max(start);
    let line = text[start..end].find('\n').map_or(end, |length| start + length);
    start..line
}

/// A word of the file as it is shown in a sentence: in quotes, escaped, not too long.
pub(super) fn quoted(word: &str) -> String {
    match word.char_indices().nth(QUOTED_MAX) {
        Some((cut, _)) => format!("{:?}…", &word[..cut]),
        None => format!("{word:?}"),
    }
}

/// Where readers record what is wrong.
#[derive(Debug, Default)]
pub(super) struct Sink(RefCell<Vec<Diagnostic>>);

impl Sink {
    /// Records a diagnostic.
    pub(super) fn add(&self, diagnostic: Diagnostic) {
        self.0.borrow_mut().push(diagnostic);
    }

    /// The report of all that was recorded, if anything was.
    pub(super) fn finish(self, name: &str, text: &str) -> Result<(), Report> {
        let mut diagnostics = self.0.into_inner();
        drop_consequences(text, &mut diagnostics);
        diagnostics.sort_by_key(Diagnostic::start);
        if diagnostics.is_empty() {
            return Ok(());
        }
        Err(Report { name: name.to_owned(), text: text.to_owned(), diagnostics })
    }
}

/// Drops what may only be the consequence of a syntax error: all absences, whatever else is said
/// about a line that has one, and further syntax errors on such a line.
fn drop_consequences(text: &str, diagnostics: &mut Vec<Diagnostic>) {
    let breaks: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line = |diagnostic: &Diagnostic| breaks.partition_point(|at| *at < diagnostic.start());
    let is_syntax = |diagnostic: &Diagnostic| diagnostic.certainty == Certainty::Syntax;
    diagnostics.sort_by_key(|diagnostic| (!is_syntax(diagnostic), diagnostic.start()));
    let mut broken = Vec::new();
    diagnostics.retain(|diagnostic| {
        let line = line(diagnostic);
        match diagnostic.certainty {
            Certainty::Syntax if broken.last() == Some(&line) => false,
            Certainty::Syntax => {
                broken.push(line);
                true
            }
            Certainty::Presence => broken.binary_search(&line).is_err(),
            Certainty::Absence => broken.is_empty(),
        }
    });
}
