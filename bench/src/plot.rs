//! Bars with whiskers as SVG: a median each, and a line from the least to the greatest.
//!
//! Pure: rows in, text out. The picture brings its own background, so that it can be read on a dark
//! page too.

use std::fmt::Write;

use crate::samples::Spread;

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) spread: Spread,
    /// Whether it is ours.
    pub(crate) is_own: bool,
}

const WIDTH: f64 = 720.0;
const TOP: f64 = 44.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
/// Where bars begin, and how far the longest reaches; the numbers stand behind it.
const LEFT: f64 = 170.0;
const LONGEST: f64 = 400.0;

/// Draws the rows from top to bottom.
pub(crate) fn bars(title: &str, unit: &str, rows: &[Row]) -> String {
    let height = TOP + ROW * rows.len() as f64 + 12.0;
    let greatest = rows.iter().map(|row| row.spread.most).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + value / greatest * LONGEST;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}: {}</text>\n",
        escape(title),
        escape(unit)
    );
    for (nth, row) in rows.iter().enumerate() {
        let Spread { median, least, most } = row.spread;
        let top = TOP + ROW * nth as f64;
        let (middle, base) = (top + BAR / 2.0, top + BAR - 3.0);
        let color = if row.is_own { "#d9480f" } else { "#8395a7" };
        let (begin, end, length) = (x(least), x(most), x(median) - LEFT);
        let (name_at, number_at) = (LEFT - 8.0, end + 8.0);
        let _ = write!(
            svg,
            "<text x=\"{name_at}\" y=\"{base}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
             <path d=\"M{begin:.1} {middle}H{end:.1}\" stroke=\"#222222\" stroke-width=\"1.5\"/>\n\
             <text x=\"{number_at:.1}\" y=\"{base}\">{} ({} to {})</text>\n",
            escape(row.name),
            number(median),
            number(least),
            number(most)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_reaches_as_far_as_it_may() {
        let row = |name, median, is_own| {
            let spread = Spread { median, least: median, most: median };
            Row { name, spread, is_own }
        };
        let svg = bars("a < b", "µs", &[row("ours", 5.0, true), row("theirs", 10.0, false)]);
        assert!(svg.contains("width=\"400.0\"") && svg.contains("width=\"200.0\""), "{svg}");
        assert!(svg.contains("a &lt; b: µs") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn numbers_keep_three_digits() {
        let shown = [123_456.7, 123.4, 12.34, 1.234, 0.1234].map(number);
        assert_eq!(shown, ["123457", "123", "12.3", "1.23", "0.123"]);
    }
}
