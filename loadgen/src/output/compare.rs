//! Two results side by side.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Figures in a result, whether more of it is better, and where it is.
const FIGURES: &[(&str, Option<bool>, &str)] = &[
    ("requests", Some(true), "/requests"),
    ("requests/s", Some(true), ""),
    ("failed", Some(false), "/failed"),
    ("not kept", Some(false), "/schedule/not_kept"),
    ("p50 µs", Some(false), "/p50"),
    ("p90 µs", Some(false), "/p90"),
    ("p99 µs", Some(false), "/p99"),
    ("p99.9 µs", Some(false), "/p99.9"),
    ("max µs", Some(false), "/max"),
    ("p99 µs as measured", Some(false), "/latency/measured/p99"),
    ("datagrams lost, way up", Some(false), "/flow_up/lost"),
    ("datagrams lost, way back", Some(false), "/flow_down/lost"),
    ("own CPU", None, "/own_cpu"),
];

/// Conditions that must be the same for a comparison to mean something.
const CONDITIONS: &[&str] = &["kind", "setting", "loop", "rate", "arrivals", "threads", "machine"];

/// Compares two files.
pub(crate) fn files(a: &Path, b: &Path) -> Result<String, String> {
    Ok(table(&read(a)?, &read(b)?))
}

fn read(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{} is not one JSON object: {error}", path.display()))?;
    if value["requests"].is_u64() && value["seconds"].is_number() {
        return Ok(value);
    }
    Err(format!("{} is not a result of --json", path.display()))
}

/// The table, with warnings about what makes it doubtful.
pub(super) fn table(a: &Value, b: &Value) -> String {
    let mut text = String::new();
    for (name, result) in [("a", a), ("b", b)] {
        if result["valid"] == false {
            let why = result["invalid_because"].to_string();
            let _ = writeln!(text, "INVALID    {name}: the load generator was the limit: {why}");
        }
    }
    for condition in CONDITIONS.iter().filter(|key| a[**key] != b[**key]) {
        let (a, b) = (&a[*condition], &b[*condition]);
        let _ = writeln!(text, "DIFFERENT  {condition}: {a} and {b}");
    }
    let _ = writeln!(text, "{:<26} {:>14} {:>14} {:>10}", "", "a", "b", "change");
    for (name, more_is_better, place) in FIGURES {
        let (Some(a), Some(b)) = (figure(a, place), figure(b, place)) else { continue };
        let change = if a == b {
            "same".to_owned()
        } else if a == 0.0 {
            "new".to_owned()
        } else {
            format!("{:+.1} %", (b / a - 1.0) * 100.0)
        };
        let word = match more_is_better {
            Some(more) if a != b => [" worse", " better"][usize::from((b > a) == *more)],
            _ => "",
        };
        let _ = writeln!(text, "{name:<26} {:>14} {:>14} {change:>10}{word}", round(a), round(b));
    }
    text.trim_end().to_owned()
}

fn figure(result: &Value, place: &str) -> Option<f64> {
    if place.is_empty() {
        let seconds = result["seconds"].as_f64().filter(|seconds| *seconds > 0.0)?;
        return Some(result["requests"].as_f64()? / seconds);
    }
    result.pointer(place)?.as_f64()
}

fn round(figure: f64) -> String {
    if figure.abs() >= 100.0 || figure.fract() == 0.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure:.3}")
    }
}
