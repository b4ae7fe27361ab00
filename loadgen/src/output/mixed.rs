//! A mixed run: what was lost, what failed, and the longest gaps.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{json, time};
use crate::failure::Failure;
use crate::gaps::{Gaps, Span};
use crate::load::Mixture;
use crate::load::mixed::{Connections, Found, Held};

/// Kinds of failure that have a figure of their own even if it is 0.
const ALWAYS: [Failure; 5] =
    [Failure::Refused, Failure::Reset, Failure::ClosedEarly, Failure::Timeout, Failure::Corrupt];

/// What was asked for, in words.
pub(super) fn conditions(mixture: &Mixture) -> String {
    let Mixture { sessions, every, size, streams, stream_rate, rate, .. } = mixture;
    format!(
        "open loop: {sessions} sessions with {size} bytes every {every:?}, {streams} streams of \
         {stream_rate} bytes a second, {rate} new connections a second"
    )
}

/// The lines of the table for people.
pub(super) fn lines(found: &Found, line: &mut impl FnMut(&str, String)) {
    for (name, held) in [("sessions", &found.sessions), ("streams", &found.streams)] {
        if held.opened > 0 {
            line(name, held_in_words(held));
        }
    }
    let Connections { due, answered, failed, held_back, .. } = &found.connections;
    if *due > 0 {
        let failed = in_words(failed);
        let words = format!("{due} due, {answered} answered, {failed}, {held_back} held back");
        line("connects", words);
    }
    let counts = found.labels.iter().enumerate().map(|(index, label)| {
        let those = found.events.iter().filter(|(label, _)| *label == index);
        format!("{} {label}", those.count())
    });
    if !found.events.is_empty() {
        line("events", counts.collect::<Vec<_>>().join(", "));
    }
}

fn held_in_words(held: &Held) -> String {
    let Held { opened, lost, unanswered, messages, held_back, .. } = held;
    let total: u64 = lost.values().sum();
    format!(
        "{opened} opened, {total} lost ({}), {unanswered} unanswered at the end, \
         {messages} messages answered, {held_back} held back",
        in_words(lost)
    )
}

fn in_words(failures: &BTreeMap<Failure, u64>) -> String {
    let words: Vec<_> = with_zeros(failures).map(|(f, n)| format!("{n} {}", f.name())).collect();
    words.join(", ")
}

/// All failures that there were, and the usual ones that there were not.
fn with_zeros(failures: &BTreeMap<Failure, u64>) -> impl Iterator<Item = (Failure, u64)> {
    let mut all = failures.clone();
    ALWAYS.into_iter().for_each(|failure| {
        all.entry(failure).or_default();
    });
    all.into_iter()
}

/// The longest gaps, as a table.
pub(super) fn gaps(found: &Found, text: &mut String) {
    let _ = writeln!(
        text,
        "\n{:<34} {:>9} {:>10} {:>10} {:>10}",
        "longest gap of each", "number", "p50", "p99", "max"
    );
    for (what, gaps) in [
        ("session", &found.sessions.gaps),
        ("stream", &found.streams.gaps),
        ("new connection", &found.connections.waits),
    ] {
        for (span, latencies) in gaps.columns() {
            let name = format!("{what}, {}", span_in_words(span, found));
            let count = latencies.count();
            let _ = write!(text, "{name:<34} {count:>9}");
            for quantile in [0.5, 0.99, 1.0] {
                let _ = write!(text, " {:>10}", time(latencies.at(quantile)));
            }
            text.push('\n');
        }
    }
}

fn span_in_words(span: Span, found: &Found) -> String {
    match span {
        Span::All => "whole run".to_owned(),
        Span::Outside => "outside of windows".to_owned(),
        Span::Windows => "in windows".to_owned(),
        Span::Label(label) => format!("in windows of {}", label_of(label, found)),
    }
}

fn label_of(label: usize, found: &Found) -> &str {
    found.labels.get(label).map_or("", String::as_str)
}

/// The part of the JSON object.
pub(super) fn object(mixture: &Mixture, found: &Found) -> Value {
    let Connections { due, answered, failed, held_back, waits } = &found.connections;
    let events = found.events.iter().zip(&found.around).map(|((label, after), around)| {
        json!({
            "label": label_of(*label, found),
            "after": after.as_secs_f64(),
            "gap_max": around.gap as f64 / 1000.0,
            "wait_max": around.wait as f64 / 1000.0,
            "lost": around.lost,
            "failed": around.failed,
        })
    });
    json!({
        "window": mixture.window.as_secs_f64(),
        "sessions": held(&found.sessions, found),
        "streams": held(&found.streams, found),
        "connections": {
            "due": due,
            "answered": answered,
            "failed": by_kind(failed),
            "held_back": held_back,
            "wait": spans(waits, found),
        },
        "events": events.collect::<Vec<_>>(),
    })
}

fn held(held: &Held, found: &Found) -> Value {
    json!({
        "opened": held.opened,
        "lost": held.lost.values().sum::<u64>(),
        "lost_by": by_kind(&held.lost),
        "unanswered": held.unanswered,
        "messages": held.messages,
        "held_back": held.held_back,
        "gap": spans(&held.gaps, found),
    })
}

fn by_kind(failures: &BTreeMap<Failure, u64>) -> Map<String, Value> {
    with_zeros(failures).map(|(failure, n)| (failure.name().to_owned(), json!(n))).collect()
}

fn spans(gaps: &Gaps, found: &Found) -> Value {
    let mut object = json!({ "labels": {} });
    for (span, latencies) in gaps.columns() {
        let figures = json::latencies(latencies);
        match span {
            Span::All => object["all"] = figures,
            Span::Outside => object["outside"] = figures,
            Span::Windows => object["windows"] = figures,
            Span::Label(label) => object["labels"][label_of(label, found)] = figures,
        }
    }
    object
}
