//! Tables for people: columns that line up, within a width, with colour on a terminal.
//!
//! Not here: what the columns show (`status`). Invariants: a table for a width is never wider, its
//! lines below rows included; colour never changes what is printed otherwise; control characters
//! that a server put into a text are escaped, so none reach the terminal.

use crate::control::log::escape;

/// The width of a table unless it is to be as wide as it needs.
pub(super) const WIDTH: usize = 80;

/// Blanks between two columns.
const GAP: usize = 2;

/// Blanks before a line that belongs to the row above it.
const INDENT: usize = 4;

/// What stands for the part of a text that was cut off.
const CUT: char = '…';

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// As wide as it needs to be.
    pub(super) wide: bool,
    /// With colour.
    pub(super) colour: bool,
}

/// A column and how its cells are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    fit: Fit,
}

/// What happens to cells that are wider than there is room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fit {
    /// A number: at the right, never cut.
    Number,
    /// A word: at the left, never cut.
    Word,
    /// A name or address, cut in the middle, if possible to no less than this: the ends tell most
    /// apart.
    Name(usize),
    /// A sentence, cut at its end, if possible to no less than this.
    Text(usize),
}

impl Column {
    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, fit: Fit::Number }
    }

    pub(super) const fn word(title: &'static str) -> Self {
        Self { title, fit: Fit::Word }
    }

    pub(super) const fn name(title: &'static str, least: usize) -> Self {
        Self { title, fit: Fit::Name(least) }
    }

    pub(super) const fn text(title: &'static str, least: usize) -> Self {
        Self { title, fit: Fit::Text(least) }
    }

    /// The width that it keeps as long as others can give way; nothing if it is never cut.
    const fn least(self) -> Option<usize> {
        match self.fit {
            Fit::Name(least) | Fit::Text(least) => Some(least),
            Fit::Number | Fit::Word => None,
        }
    }
}

/// What a cell tells at a glance.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    /// Its escape sequence (ECMA-48, SGR).
    const fn sequence(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("\x1b[32m"),
            Self::Warning => Some("\x1b[33m"),
            Self::Bad => Some("\x1b[31m"),
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text in a tone.
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { tone, ..Self::from(text.into()) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text: printable(&text), tone: Tone::Plain }
    }
}

/// A text without characters that end a line, control the terminal or turn the direction of
/// writing.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    escape::push(&mut shown, text);
    shown
}

/// Rows under titles.
#[derive(Debug)]
pub(super) struct TextTable {
    columns: Vec<Column>,
    rows: Vec<(Vec<Cell>, Option<String>)>,
}

impl TextTable {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, with one cell per column.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "one cell per column");
        self.rows.push((cells, None));
    }

    /// Adds a line below the last row, which belongs to it.
    pub(super) fn below(&mut self, text: &str) {
        if let Some((_, below)) = self.rows.last_mut() {
            *below = Some(printable(text));
        }
    }

    /// The table as text; nothing if it has no rows.
    pub(super) fn print(&self, style: Style) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths = self.widths(style);
        let titles = self.columns.iter().map(|column| Cell::from(column.title.to_owned()));
        let mut text = self.line(&titles.collect::<Vec<_>>(), &widths, Style::default());
        for (cells, below) in &self.rows {
            text += &self.line(cells, &widths, style);
            if let Some(below) = below {
                let room = if style.wide { usize::MAX } else { WIDTH - INDENT };
                text += &format!("{:INDENT$}{}\n", "", cut_end(below, room));
            }
        }
        text
    }

    /// The width of each column. Where there is not enough room, the widest of those that may be
    /// cut gives way first; below what a column should have only when nothing else is left.
    fn widths(&self, style: Style) -> Vec<usize> {
        let widest = |index: usize| {
            let cells = self.rows.iter().map(|(cells, _)| cells[index].text.chars().count());
            cells.max().unwrap_or(0).max(self.columns[index].title.chars().count())
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        let gaps = GAP * self.columns.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(WIDTH);
        while excess > 0 && !style.wide {
            let widest = |may_go_below: bool| {
                let may_shrink = |(index, column): &(usize, &Column)| {
                    let least =
                        if may_go_below { column.least().min(Some(1)) } else { column.least() };
                    least.is_some_and(|least| widths[*index] > least)
                };
                let columns = self.columns.iter().enumerate().filter(may_shrink);
                columns.map(|(index, _)| index).max_by_key(|index| widths[*index])
            };
            let Some(widest) = widest(false).or_else(|| widest(true)) else { break };
            widths[widest] -= 1;
            excess -= 1;
        }
        widths
    }

    fn line(&self, cells: &[Cell], widths: &[usize], style: Style) -> String {
        let mut line = String::new();
        let last = cells.len() - 1;
        for (index, (cell, column)) in cells.iter().zip(&self.columns).enumerate() {
            let width = widths[index];
            let shown = match column.fit {
                Fit::Name(_) => cut_middle(&cell.text, width),
                _ => cut_end(&cell.text, width),
            };
            let blanks = " ".repeat(width - shown.chars().count());
            let shown = match cell.tone.sequence().filter(|_| style.colour) {
                Some(sequence) => format!("{sequence}{shown}\x1b[0m"),
                None => shown,
            };
            line += &match column.fit {
                Fit::Number => blanks + &shown,
                _ if index == last => shown,
                _ => shown + &blanks,
            };
            if index < last {
                line += &" ".repeat(GAP);
            }
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

/// A text with its beginning only, if it is too wide.
fn cut_end(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain([CUT]).collect()
}

/// A text with its beginning and end only, if it is too wide.
fn cut_middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let tail = kept / 2;
    let head = text.chars().take(kept - tail);
    head.chain([CUT]).chain(text.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TextTable {
        let mut table = TextTable::new(vec![
            Column::name("SERVER", 12),
            Column::text("STATE", 8),
            Column::number("TOTAL"),
        ]);
        let cell = |text: &str| Cell::from(text.to_owned());
        table.row(vec![cell("db/pg1"), Cell::toned("up", Tone::Good), cell("12345")]);
        table.row(vec![cell("db/pg2"), Cell::toned("down", Tone::Bad), cell("7")]);
        table
    }

    #[test]
    fn numbers_are_at_the_right_and_words_at_the_left() {
        let expected = "SERVER  STATE  TOTAL\ndb/pg1  up     12345\ndb/pg2  down       7\n";
        assert_eq!(table().print(Style::default()), expected);
    }

    #[test]
    fn colour_changes_nothing_else() {
        let coloured = table().print(Style { colour: true, ..Style::default() });
        assert!(coloured.contains("\x1b[32mup\x1b[0m     12345"), "{coloured:?}");
        let mut plain = coloured;
        for sequence in ["\x1b[31m", "\x1b[32m", "\x1b[0m"] {
            plain = plain.replace(sequence, "");
        }
        assert_eq!(plain, table().print(Style::default()));
    }

    #[test]
    fn a_table_is_no_wider_than_80_columns_unless_it_may_be() {
        let mut table = table();
        let (name, state) = (format!("db/{}.example.org", "ä".repeat(90)), "x".repeat(90));
        table.row(vec![Cell::from(name.clone()), Cell::from(state.clone()), "1".to_owned().into()]);
        table.below(&"why ".repeat(30));
        let narrow = table.print(Style::default());
        assert!(narrow.lines().all(|line| line.chars().count() <= WIDTH), "{narrow}");
        let cut = narrow.lines().find(|line| line.starts_with("db/ä")).unwrap();
        assert_eq!(cut.chars().count(), WIDTH, "{narrow}");
        assert!(cut.contains("….") || cut.contains(".example.org  x"), "{narrow}");
        let wide = table.print(Style { wide: true, ..Style::default() });
        assert!(wide.contains(&name) && wide.contains(&state) && !wide.contains(CUT), "{wide}");
        assert!(wide.contains(&"why ".repeat(30)), "{wide}");
    }

    #[test]
    fn names_are_cut_in_the_middle_and_sentences_at_the_end() {
        assert_eq!(cut_middle("web-frontend-01", 9), "web-…d-01");
        assert_eq!(cut_middle("web", 3), "web");
        assert_eq!(cut_middle("web1", 3), "w…1");
        assert_eq!(cut_middle("web1", 1), "…");
        assert_eq!(cut_end("no answer", 5), "no a…");
        assert_eq!(cut_end("no answer", 9), "no answer");
    }

    #[test]
    fn what_a_server_answered_can_t_control_the_terminal() {
        let mut table = TextTable::new(vec![Column::text("WHY", 8)]);
        table.row(vec![Cell::from("bad \x1b[2J\r\nanswer\u{202e}".to_owned())]);
        table.below("\x07");
        let text = table.print(Style { wide: true, colour: false });
        assert_eq!(text, "WHY\nbad \\u{1b}[2J\\r\\nanswer\\u{202e}\n    \\u{7}\n");
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(TextTable::new(vec![Column::word("A")]).print(Style::default()), "");
    }
}
