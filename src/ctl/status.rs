//! `ringlane ctl status`: the page of `/status` as tables for people.
//!
//! Not here: how tables are laid out (`table`). The narrow form has the columns that are looked at
//! first and fits 80 columns; what is wrong with a server stands below its row. The wide form has
//! all columns, whole names and exact numbers. Invariant: a field that an older or newer balancer
//! does not have is shown as `-`.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::Value;

use super::table::{Cell, Column, Style, TextTable, Tone};
use super::units;

/// Changes that the status has of each server; older ones are forgotten.
const CHANGES_KEPT: usize = 16;

/// The page as text.
pub(super) fn text(page: &Value, style: Style, now: Timestamp) -> String {
    let uptime = page["uptime_seconds"].as_f64().unwrap_or(0.0) as u64;
    let head = format!(
        "ringlane {}: {} for {}, {} of {} sessions\n",
        word(&page["version"]),
        word(&page["state"]),
        units::age(uptime),
        word(&page["sessions_live"]),
        word(&page["sessions_max"]),
    );
    let clock = Clock { now, uptime };
    let tables = [frontends(page, style), queues(page, style), servers(page, style, &clock)];
    tables.iter().map(|table| table.print(style)).filter(|table| !table.is_empty()).fold(
        head,
        |mut text, table| {
            text += "\n";
            text + &table
        },
    )
}

/// What ages are counted from.
struct Clock {
    now: Timestamp,
    /// Seconds since the balancer started.
    uptime: u64,
}

fn frontends(page: &Value, style: Style) -> TextTable {
    let mut columns = vec![Column::name("FRONTEND", 14), Column::name("BIND", 12)];
    if style.wide {
        columns.push(Column::name("BACKEND", 14));
    }
    columns.extend(["LIVE", "LIMIT", "TOTAL", "REFUSED", "FAILED"].map(Column::number));
    if style.wide {
        columns.extend(["BYTES-IN", "BYTES-OUT"].map(Column::number));
    }
    let mut table = TextTable::new(columns);
    for frontend in list(&page["frontends"]) {
        let bind: Vec<String> = list(&frontend["bind"]).iter().map(word).collect();
        let bind = match bind.as_slice() {
            [first, rest @ ..] if !rest.is_empty() && !style.wide => {
                format!("{first} +{}", rest.len())
            }
            bind => bind.join(" "),
        };
        let refused = sum(frontend, &["refused_too_many", "refused_too_fast"]);
        let mut cells = vec![word(&frontend["name"]).into(), bind.into()];
        if style.wide {
            cells.push(word(&frontend["backend"]).into());
        }
        cells.extend([
            number(&frontend["sessions_live"], style),
            limit(&frontend["sessions_max"], style),
            number(&frontend["sessions"], style),
            alarming(refused, Tone::Warning, style),
            alarming(frontend["sessions_failed"].as_u64(), Tone::Bad, style),
        ]);
        if style.wide {
            cells.extend(["bytes_in", "bytes_out"].map(|key| number(&frontend[key], style)));
        }
        table.row(cells);
    }
    table
}

/// The queues of backends: in the narrow form those that had to be used.
fn queues(page: &Value, style: Style) -> TextTable {
    let mut columns = vec![Column::name("QUEUE", 14)];
    columns.extend(["WAITING", "LIMIT", "WAITED", "EXPIRED", "REFUSED"].map(Column::number));
    let mut table = TextTable::new(columns);
    for backend in list(&page["backends"]) {
        let queue = &backend["queue"];
        let used = sum(queue, &["sessions_live", "waited", "expired", "refused"]).unwrap_or(0) > 0;
        if queue.is_null() || !(used || style.wide) {
            continue;
        }
        let waiting = queue["sessions_live"].as_u64();
        table.row(vec![
            word(&backend["name"]).into(),
            alarming(waiting, Tone::Warning, style),
            limit(&queue["size"], style),
            number(&queue["waited"], style),
            alarming(queue["expired"].as_u64(), Tone::Bad, style),
            alarming(queue["refused"].as_u64(), Tone::Bad, style),
        ]);
    }
    table
}

fn servers(page: &Value, style: Style, clock: &Clock) -> TextTable {
    let all = || list(&page["backends"]).iter().flat_map(|backend| list(&backend["servers"]));
    // Without a check that reports them, no server has a role, a lag or both.
    let has_roles = style.wide || all().any(|server| role(server) != "-");
    let has_lag = style.wide || all().any(|server| lag(server) != "-");
    let mut columns = vec![Column::name("SERVER", 14)];
    if style.wide {
        columns.push(Column::name("ADDRESS", 14));
    }
    columns.push(Column::text("STATE", 12));
    if has_roles {
        columns.push(Column::word("ROLE"));
    }
    if has_lag {
        columns.push(Column::number("LAG"));
    }
    columns.extend(["WEIGHT", "LIVE", "TOTAL"].map(Column::number));
    if style.wide {
        columns.push(Column::number("FAILED"));
    }
    columns.extend(["BYTES/S", "AGE"].map(Column::number));
    if style.wide {
        columns.push(Column::text("WHY", 14));
    }
    let mut table = TextTable::new(columns);
    for backend in list(&page["backends"]) {
        for server in list(&backend["servers"]) {
            let name = format!("{}/{}", word(&backend["name"]), word(&server["name"]));
            let (state, why) = (State::of(server), why(server));
            let mut cells = vec![Cell::from(name)];
            if style.wide {
                cells.push(word(&server["address"]).into());
            }
            cells.push(Cell::toned(state.text.clone(), state.tone));
            if has_roles {
                cells.push(role(server).into());
            }
            if has_lag {
                cells.push(lag(server).into());
            }
            cells.extend(
                ["weight", "sessions_live", "sessions"].map(|key| number(&server[key], style)),
            );
            if style.wide {
                cells.push(alarming(server["sessions_failed"].as_u64(), Tone::Bad, style));
            }
            cells.push(rate(&server["bytes_per_second"], style));
            cells.push(clock.age(server).into());
            if style.wide {
                cells.push(why.clone().into());
            }
            table.row(cells);
            if !style.wide && state.tone != Tone::Good && why != "-" {
                table.below(&why);
            }
        }
    }
    table
}

impl Clock {
    /// How long a server has been in its state: since the start, if that has not changed.
    fn age(&self, server: &Value) -> String {
        let changed = &last_change(server)["at"];
        let has_forgotten = list(&server["changes"]).len() >= CHANGES_KEPT;
        let seconds = match changed.as_str() {
            Some(at) => units::seconds_since(at, self.now),
            None if has_forgotten => None,
            None => Some(self.uptime),
        };
        seconds.map_or_else(|| "-".to_owned(), units::age)
    }
}

/// The last change of a server's state; null if only its weight was changed.
fn last_change(server: &Value) -> &Value {
    let is_of_state =
        |change: &&Value| !change["to"].as_str().is_some_and(|to| to.starts_with("weight "));
    list(&server["changes"]).iter().find(is_of_state).unwrap_or(&Value::Null)
}

/// A server's state in words, as in the log but for its role, and what it tells at a glance.
struct State {
    text: String,
    tone: Tone,
}

impl State {
    fn of(server: &Value) -> Self {
        let state = word(&server["state"]);
        let mut tone = match state.as_str() {
            "up" => Tone::Good,
            "down" | "absent" => Tone::Bad,
            _ => Tone::Warning,
        };
        let mut text = state;
        let in_conflict = server["in_conflict"] == true;
        for (condition, holds) in [
            ("stale", server["stale"] == true),
            ("diverged", server["diverged"] == true),
            ("in conflict", in_conflict),
            ("taking the writes", in_conflict && server["takes_writes"] == true),
            ("ejected", server["ejected"] == true),
        ] {
            if holds {
                text = format!("{text} {condition}");
                tone = if tone == Tone::Good { Tone::Warning } else { tone };
            }
        }
        if server["backup"] == true {
            text += " backup";
        }
        if server["admin"].as_str().is_some_and(|admin| admin != "ready") {
            text = format!("{text}, {}", word(&server["admin"]));
            tone = if tone == Tone::Good { Tone::Warning } else { tone };
        }
        Self { text, tone }
    }
}

/// Why a server is as it is: what the last check found, if that failed, or the last change.
fn why(server: &Value) -> String {
    let check = &server["check"];
    if check["ok"] == false { word(&check["said"]) } else { word(&last_change(server)["reason"]) }
}

fn role(server: &Value) -> String {
    let role = word(&server["role"]);
    if role == "unknown" { "-".to_owned() } else { role }
}

fn lag(server: &Value) -> String {
    units::lag(server["lag_seconds"].as_f64(), server["lag_bytes"].as_u64())
}

/// A count.
fn number(value: &Value, style: Style) -> Cell {
    let text = match value.as_u64() {
        Some(number) if !style.wide => units::count(number),
        _ => word(value),
    };
    text.into()
}

/// Bytes per second.
fn rate(value: &Value, style: Style) -> Cell {
    let text = match value.as_u64() {
        Some(number) if !style.wide => units::short(number),
        _ => word(value),
    };
    text.into()
}

/// A limit; `-` for none.
fn limit(value: &Value, style: Style) -> Cell {
    match value.as_u64() {
        Some(limit) if limit == u64::from(u32::MAX) => "-".to_owned().into(),
        _ => number(value, style),
    }
}

/// A count that should be zero.
fn alarming(count: Option<u64>, tone: Tone, style: Style) -> Cell {
    let tone = if count.unwrap_or(0) > 0 { tone } else { Tone::Plain };
    let shown = count.map(|count| if style.wide { count.to_string() } else { units::count(count) });
    Cell::toned(shown.unwrap_or_else(|| "-".to_owned()), tone)
}

/// The sum of the fields that there are; nothing if there is none of them.
fn sum(value: &Value, keys: &[&str]) -> Option<u64> {
    let fields = keys.iter().filter_map(|key| value[*key].as_u64());
    fields.reduce(u64::saturating_add)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value as a word; `-` for nothing.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
