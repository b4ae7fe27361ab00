//! The tables of a page with known numbers, narrow and wide.

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
    for part in ["127.0.0.1:5432 [::1]:5432", "1234567", "123456789", "12345678", "10.0.0.2:5432"] {
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
    for key in ["sessions", "sessions_live", "sessions_max", "sessions_failed", "refused_too_many"]
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
