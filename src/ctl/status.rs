//! `ringlane ctl status`: the page of `/status` as tables for people.
//!
//! Not here: how tables are laid out (`table`). The narrow form has the columns that are looked at
//! first and fits 80 columns; what is wrong with a server stands below its row. The wide form has
//! all columns, whole names and exact numbers. Invariant: a field that an older or newer balancer
//! does not have is shown as `-`.

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page() -> Value {
        json!({
            "version": "1", "state": "serving", "uptime_seconds": 7200.5,
            "sessions_live": 3, "sessions_max": 10,
            "frontends": [
                { "name": "pg", "backend": "db", "bind": ["127.0.0.1:5432", "[::1]:5432"],
                  "sessions_live": 3, "sessions_max": 10, "sessions": 1_234_567,
                  "sessions_failed": 2, "refused_too_many": 1, "refused_too_fast": 4,
                  "bytes_in": 1, "bytes_out": 123_456_789 },
            ],
            "backends": [
                { "name": "db", "servers": [
                    { "name": "pg1", "address": "10.0.0.1:5432", "state": "up", "admin": "drain",
                      "role": "primary", "lag_seconds": null, "weight": 1, "sessions_live": 3,
                      "sessions": 30, "sessions_failed": 0, "bytes_per_second": 12_345_678,
                      "changes": [{ "at": "2026-01-01T00:00:00Z",
                                    "reason": "ordered by an operator" }] },
                    { "name": "pg2", "address": "10.0.0.2:5432", "state": "down", "admin": "ready",
                      "role": "replica", "lag_seconds": 1.25, "stale": true, "ejected": true,
                      "weight": 1, "sessions_live": 0, "sessions": 0, "bytes_per_second": 0,
                      "changes": [], "check": { "ok": false, "said": "connection refused" } },
                ] },
                { "name": "idle", "queue": { "sessions_live": 0, "size": 1024, "waited": 0,
                                             "expired": 0, "refused": 0 }, "servers": [] },
                { "name": "busy", "queue": { "sessions_live": 7, "size": 1024, "waited": 90,
                                             "expired": 0, "refused": 0 }, "servers": [] },
            ],
        })
    }

    fn shown(page: &Value, style: Style) -> String {
        text(page, style, "2026-01-03T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn what_is_looked_at_first_fits_80_columns() {
        let expected = "\
ringlane 1: serving for 2h, 3 of 10 sessions

FRONTEND  BIND               LIVE  LIMIT  TOTAL  REFUSED  FAILED
pg        127.0.0.1:5432 +1     3     10   1.2M        5       2

QUEUE  WAITING  LIMIT  WAITED  EXPIRED  REFUSED
busy         7   1024      90        0        0

SERVER  STATE               ROLE      LAG  WEIGHT  LIVE  TOTAL  BYTES/S  AGE
db/pg1  up, drain           primary     -       1     3     30      12M   2d
    ordered by an operator
db/pg2  down stale ejected  replica  1.2s       1     0      0        0   2h
    connection refused
";
        assert_eq!(shown(&page(), Style::default()), expected);
    }

    #[test]
    fn the_wide_form_has_all_columns_and_exact_numbers() {
        let table = shown(&page(), Style { wide: true, colour: false });
        for part in
            ["127.0.0.1:5432 [::1]:5432", "1234567", "123456789", "12345678", "10.0.0.2:5432"]
        {
            assert!(table.contains(part), "{part}: {table}");
        }
        let line = table.lines().find(|line| line.starts_with("db/pg1")).unwrap();
        assert!(line.ends_with("2d  ordered by an operator"), "{table}");
        assert!(table.lines().any(|line| line.starts_with("idle ")), "{table}");
    }

    #[test]
    fn states_and_errors_have_a_colour() {
        let table = shown(&page(), Style { wide: false, colour: true });
        for part in
            ["\x1b[33mup, drain\x1b[0m", "\x1b[31mdown stale ejected\x1b[0m", "\x1b[31m2\x1b[0m"]
        {
            assert!(table.contains(part), "{part:?}: {table:?}");
        }
        assert!(!shown(&page(), Style::default()).contains('\x1b'));
    }

    #[test]
    fn a_change_of_weight_is_no_change_of_state() {
        let weight = json!({ "at": "2026-01-02T23:59:00Z", "to": "weight 3", "reason": "x" });
        let up = json!({ "at": "2026-01-02T23:00:00Z", "to": "up", "reason": "3 checks passed" });
        let now = "2026-01-03T00:00:00Z".parse().unwrap();
        let clock = Clock { now, uptime: 7200 };
        for (changes, age, reason) in [
            (vec![], "2h", "-"),
            (vec![&weight], "2h", "-"),
            (vec![&weight, &up], "1h", "3 checks passed"),
            (vec![&weight; CHANGES_KEPT], "-", "-"),
        ] {
            let server = json!({ "changes": changes });
            assert_eq!((clock.age(&server).as_str(), why(&server).as_str()), (age, reason));
        }
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let mut page = page();
        for server in page["backends"][0]["servers"].as_array_mut().unwrap() {
            server["role"] = "unknown".into();
            server["lag_seconds"] = Value::Null;
        }
        let table = shown(&page, Style::default());
        assert!(!table.contains("ROLE") && !table.contains("LAG"), "{table}");
    }

    #[test]
    fn every_line_fits_whatever_the_page_has() {
        let mut page = page();
        let long = "x".repeat(200);
        let huge = json!(u64::MAX);
        page["frontends"][0]["name"] = long.as_str().into();
        page["frontends"][0]["bind"] = json!([long, long]);
        for key in
            ["sessions", "sessions_live", "sessions_max", "sessions_failed", "refused_too_many"]
        {
            page["frontends"][0][key] = huge.clone();
        }
        let server = &mut page["backends"][0]["servers"][1];
        server["name"] = long.as_str().into();
        server["admin"] = "maint".into();
        server["check"]["said"] = long.as_str().into();
        server["in_conflict"] = true.into();
        server["lag_seconds"] = json!(1e12);
        for key in ["sessions", "sessions_live", "bytes_per_second"] {
            server[key] = huge.clone();
        }
        let table = shown(&page, Style::default());
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert!(table.contains('…'));
        assert_eq!(shown(&json!({}), Style::default()), "ringlane -: - for 0s, - of - sessions\n");
    }
}
