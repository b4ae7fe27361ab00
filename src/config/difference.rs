//! One difference between two configurations, and how people and programs read it.
//!
//! Not here: finding differences (`diff`), what effects mean (`text::effect`).

use std::fmt::{self, Write};

use serde_json::json;

use super::objects::ObjectKind;
use super::text::effect::Effect;

/// Characters of a value that a line shows.
const SHOWN_MAX: usize = 60;

/// One difference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The kind of the object.
    pub kind: ObjectKind,
    /// Its name; empty for `[global]`, `backend/server` for a server.
    pub name: String,
    /// What differs.
    pub change: Alteration,
    /// What it does.
    pub effect: Effect,
}

/// What differs of an object. An object that comes or goes is one difference, its servers
/// included.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Alteration {
    /// The object is new; how large it is, in words.
    Added(String),
    /// The object is no longer there; how large it was, in words.
    Removed(String),
    /// A key has another value.
    Changed {
        /// Its path in the object, such as `timeout.client`.
        key: String,
        /// The old value, or nothing if it has none.
        from: Option<String>,
        /// The new value.
        to: Option<String>,
    },
}

impl Difference {
    /// The object for people: `server pg/pg1`.
    fn object(&self) -> String {
        format!("{} {}", self.kind.word(), self.name).trim_end().to_owned()
    }

    /// What differs, for people.
    fn what(&self) -> String {
        match &self.change {
            Alteration::Added(summary) => summary.clone(),
            Alteration::Removed(summary) => match self.kind {
                ObjectKind::Frontend => {
                    let verb = if summary == "1 listener" { "closes" } else { "close" };
                    format!("{summary} {verb}")
                }
                _ => summary.clone(),
            },
            Alteration::Changed { key, from, to } => {
                let text = |value: &Option<String>| match value {
                    Some(value) => cut(value),
                    None => "none".to_owned(),
                };
                format!("{key} {} → {}", text(from), text(to))
            }
        }
    }

    const fn sign(&self) -> char {
        match self.change {
            Alteration::Added(_) => '+',
            Alteration::Removed(_) => '-',
            Alteration::Changed { .. } => '~',
        }
    }

    /// The effect in a few words.
    fn effect_text(&self) -> &'static str {
        match (self.kind, &self.change) {
            (ObjectKind::Frontend, Alteration::Added(_)) => "begins to listen",
            (ObjectKind::Frontend, Alteration::Removed(_)) => "live sessions go on",
            _ => self.effect.phrase(),
        }
    }

    /// Whether a running process refuses it.
    pub const fn is_refused(&self) -> bool {
        matches!(self.effect, Effect::Refused(_))
    }

    /// As JSON has it.
    pub fn json(&self) -> serde_json::Value {
        let (change, key, from, to) = match &self.change {
            Alteration::Added(_) => ("added", None, None, None),
            Alteration::Removed(_) => ("removed", None, None, None),
            Alteration::Changed { key, from, to } => {
                ("changed", Some(key), from.as_ref(), to.as_ref())
            }
        };
        let mut json = json!({
            "kind": self.kind.word(),
            "name": self.name,
            "change": change,
            "effect": self.effect.word(),
            "text": self.effect_text(),
        });
        if let Alteration::Added(summary) | Alteration::Removed(summary) = &self.change {
            json["detail"] = json!(summary);
        }
        if let Some(key) = key {
            json["key"] = json!(key);
            json["from"] = json!(from);
            json["to"] = json!(to);
        }
        json
    }
}

impl fmt::Display for Difference {
    /// As in `global shards 2 → 4: why not`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.object(), self.what(), self.effect_text())
    }
}

/// Differences as lines for people, one for each. `note` gives what stands behind the effect of a
/// difference, such as the number of live sessions that it touches.
pub fn describe(
    differences: &[Difference],
    note: impl Fn(&Difference) -> Option<String>,
) -> String {
    let heads: Vec<String> = differences.iter().map(Difference::object).collect();
    let whats: Vec<String> = differences.iter().map(Difference::what).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max();
    let (head, what) = (widest(&heads).unwrap_or(0), widest(&whats).unwrap_or(0));
    let mut text = String::new();
    let mut last = "";
    for ((difference, own), changed) in differences.iter().zip(&heads).zip(&whats) {
        // An object is named at its first line.
        let (sign, own) = if own == last { (' ', "") } else { (difference.sign(), own.as_str()) };
        let effect = difference.effect_text();
        let note = note(difference).map(|note| format!("; {note}")).unwrap_or_default();
        let _ = writeln!(text, "{sign} {own:head$}  {changed:what$}  {effect}{note}");
        if sign != ' ' {
            last = own;
        }
    }
    text
}

/// A value that is not too long for a line.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
