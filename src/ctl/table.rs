//! The status for people: columns that line up.

use serde_json::Value;

/// Frontends, then servers, as the page of `/status` has them.
pub(super) fn status(page: &Value) -> String {
    let mut frontends = vec![row(["FRONTEND", "BIND", "SESSIONS", "TOTAL", "FAILED"])];
    for frontend in list(&page["frontends"]) {
        let bind: Vec<String> = list(&frontend["bind"]).iter().map(text).collect();
        frontends.push(row([
            &text(&frontend["name"]),
            &bind.join(" "),
            &text(&frontend["sessions_live"]),
            &text(&frontend["sessions"]),
            &text(&frontend["sessions_failed"]),
        ]));
    }
    let titles = [
        "SERVER", "ADDRESS", "STATE", "ROLE", "LAG", "WEIGHT", "SESSIONS", "TOTAL", "SINCE", "WHY",
    ];
    let mut servers = vec![row(titles)];
    for backend in list(&page["backends"]) {
        for server in list(&backend["servers"]) {
            servers.push(server_row(backend, server));
        }
    }
    let state = format!(
        "ringlane {}: {}, {} of {} sessions\n",
        text(&page["version"]),
        text(&page["state"]),
        text(&page["sessions_live"]),
        text(&page["sessions_max"]),
    );
    format!("{state}\n{}\n{}", aligned(&frontends), aligned(&servers))
}

fn server_row(backend: &Value, server: &Value) -> Vec<String> {
    let mut state = text(&server["state"]);
    for (word, holds) in [
        ("stale", server["stale"] == true),
        ("diverged", server["diverged"] == true),
        ("in conflict", server["in_conflict"] == true),
        ("taking the writes", server["in_conflict"] == true && server["takes_writes"] == true),
        ("ejected", server["ejected"] == true),
        ("backup", server["backup"] == true),
    ] {
        if holds {
            state = format!("{state} {word}");
        }
    }
    if server["admin"] != "ready" {
        state = format!("{state}, {}", text(&server["admin"]));
    }
    let role = text(&server["role"]);
    let lag = match (server["lag_seconds"].as_f64(), server["lag_bytes"].as_u64()) {
        (Some(seconds), _) => format!("{seconds:.1} s"),
        (None, Some(bytes)) => format!("{bytes} B"),
        (None, None) => "-".to_owned(),
    };
    let last = &server["changes"][0];
    let check = &server["check"];
    let why = if check["ok"] == false { text(&check["said"]) } else { text(&last["reason"]) };
    row([
        &format!("{}/{}", text(&backend["name"]), text(&server["name"])),
        &text(&server["address"]),
        &state,
        if role == "unknown" { "-" } else { &role },
        &lag,
        &text(&server["weight"]),
        &text(&server["sessions_live"]),
        &text(&server["sessions"]),
        &text(&last["at"]),
        &why,
    ])
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value as a word; `-` for nothing.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Rows of one width per column, two blanks apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_lines_up_and_says_why() {
        let page = json!({
            "version": "1", "state": "serving", "sessions_live": 3, "sessions_max": 10,
            "frontends": [{ "name": "pg", "bind": ["127.0.0.1:5432"], "sessions_live": 3,
                            "sessions": 30, "sessions_failed": 0 }],
            "backends": [{ "name": "db", "servers": [
                { "name": "pg1", "address": "10.0.0.1:5432", "state": "up", "admin": "drain",
                  "role": "primary", "lag_seconds": null, "weight": 1, "sessions_live": 3,
                  "sessions": 30, "changes": [{ "at": "2026-01-01T00:00:00Z", "reason": "ordered" }] },
                { "name": "pg2", "address": "10.0.0.2:5432", "state": "down", "admin": "ready",
                  "role": "replica", "lag_seconds": 1.25, "stale": true, "ejected": true,
                  "weight": 1,
                  "sessions_live": 0, "sessions": 0, "changes": [],
                  "check": { "ok": false, "said": "connection refused" } },
            ]}],
        });
        let table = status(&page);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "ringlane 1: serving, 3 of 10 sessions");
        assert!(lines[6].contains("db/pg1") && lines[6].contains("up, drain"), "{table}");
        assert!(
            lines[7].contains("down stale ejected") && lines[7].ends_with("connection refused")
        );
        assert_eq!(lines[6].find("primary"), lines[7].find("replica"), "{table}");
    }
}
