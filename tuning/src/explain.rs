//! A plan in words for people: what was found, each change with reason, cost and way.

use std::fmt::Write;

use crate::facts::Facts;
use crate::plan::{Change, How};

/// Columns of the text.
const WIDTH: usize = 100;

/// The text of `ringlane tune`.
pub fn explain(facts: &Facts, changes: &[Change]) -> String {
    let mut out = String::new();
    out.push_str(&heading(facts));
    if changes.is_empty() {
        out.push_str("\nNothing to change: this host suits a layer-4 relay as it is.\n");
        return out;
    }
    out.push_str(&summary(changes.len()));
    for change in changes {
        out.push_str(&paragraph(change));
    }
    out.push_str(&sysctl_lines(changes));
    out
}

fn heading(facts: &Facts) -> String {
    let unknown = "unknown";
    format!(
        "This host: Linux {}, {} CPU{} ({}), congestion control {}.\n",
        facts.kernel.as_deref().unwrap_or(unknown),
        facts.cpus,
        if facts.cpus == 1 { "" } else { "s" },
        facts.processor.as_deref().unwrap_or(unknown),
        facts.congestion.as_deref().unwrap_or(unknown),
    )
}

fn summary(changes: usize) -> String {
    let things = if changes == 1 { "One thing".to_owned() } else { format!("{changes} things") };
    format!("{things} to change for a layer-4 relay. Nothing has been changed.\n")
}

fn paragraph(change: &Change) -> String {
    let Change { key, now, wanted, why, cost, how } = change;
    let mut out = format!("\n{key}\n  now     {now}\n  wanted  {wanted}\n");
    out.push_str(&wrapped("why", why));
    out.push_str(&wrapped("cost", cost));
    if let How::ByHand(sentence) = how {
        out.push_str(&wrapped("how", sentence));
    }
    out
}

/// A labelled sentence, broken into lines under its label.
fn wrapped(label: &str, sentence: &str) -> String {
    let mut out = String::new();
    let mut line = format!("  {label:<8}");
    let indent = line.len();
    for word in sentence.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

/// The lines for sysctl.d, ready to be copied.
fn sysctl_lines(changes: &[Change]) -> String {
    let mut lines = String::new();
    for change in changes.iter().filter(|change| change.how == How::Sysctl) {
        // Writing to a String can't fail.
        let _ = writeln!(lines, "  {} = {}", change.key, change.wanted);
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "\nThe sysctls as lines for /etc/sysctl.d/90-ringlane.conf (then: sysctl --system). The \
         whole\nfile, with a reason on every line, is tuning/files/90-ringlane.conf in Ringlane's \
         sources:\n\n{lines}"
    )
}
