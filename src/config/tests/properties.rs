//! No text makes the reader or the renderer panic, and every refusal has a report.

use proptest::prelude::*;

use super::super::Report;
use super::super::text::report::Diagnostic;
use super::super::text::schema::Section;
use super::{frontend, parse};

/// A file with every key, to be damaged.
const WHOLE: &str = r#"[global]
shards = "auto"
pin = true
admin = { socket = "/run/admin.sock", http = "127.0.0.1:9000" }
user = "a"
group = "b"
max_connections = 1000
drain_timeout = "30s"
access_log = { format = "json", to = "stderr" }
resolver = { servers = ["127.0.0.1"], timeout = "2s", hold = "30s" }
[[frontend]]
name = "ä"
bind = ["0.0.0.0:5432", "[::]:5432"]
mode = "tcp"
backend = "pg"
max_connections = 0x10
timeout = { connect = "2s", client = "1m", server = "1m", idle = "1h" }
congestion = "auto"
path = "auto"
[[backend]]
name = "pg"
balance = "maglev"
hash = "client_ip"
bounded_load = 1.25
affinity = { key = "client_ip", ttl = "30m", size = 100000 }
congestion = "host"
[[backend.server]]
name = "pg1"
address = "10.0.0.11:5432"
weight = 10
backup = false
max_connections = 500
[[backend.server]]
address = "db.example:5432"
slots = 3
"#;

/// Reads, renders with and without colour, and checks that a refusal has an error.
fn survive(text: &str) {
    if let Err(report) = parse(text) {
        assert!(report.errors() > 0);
        assert!(report.render(false).starts_with("error: "), "{text:?}");
        assert!(!report.render(true).is_empty());
    }
}

/// What lines may be made of: TOML's own characters, control characters, wide ones.
const STRANGE_LINE: &str = "[\\[\\]{}=\"'\\\\a-c\u{0}-\u{20}ä\u{202e}\u{feff}., #0-9\r\n\t]*";

fn any_line() -> impl Strategy<Value = String> {
    let keys: Vec<&str> =
        Section::ALL.iter().flat_map(|section| section.keys()).map(|key| key.name).collect();
    let values = prop::sample::select(vec![
        "1",
        "-1",
        "0.5",
        "true",
        "\"\"",
        "\"x\"",
        "[]",
        "{}",
        "[{}]",
        "[1, \"a\"]",
        "1979-05-27",
        "'''\na\n'''",
        "{ a.b = 1 }",
        "99999999999999999999999999999999999999999999",
        "\"\\u0000\\u001b[31m\"",
        "",
    ]);
    prop_oneof![
        prop::sample::select(vec![
            "[global]",
            "[[frontend]]",
            "[[backend]]",
            "[[backend.server]]",
            "[backend]",
            "[frontend.timeout]",
            "[[global]]",
        ])
        .prop_map(str::to_owned),
        (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #[test]
    fn arbitrary_text(text in ".*") {
        survive(&text);
    }

    #[test]
    fn arbitrary_lines(lines in prop::collection::vec(STRANGE_LINE, 0..8)) {
        survive(&lines.join("\n"));
    }

    #[test]
    fn keys_with_values_of_any_type(lines in prop::collection::vec(any_line(), 0..20)) {
        survive(&lines.join("\n"));
    }

    #[test]
    fn any_place_of_any_text_can_be_shown(
        text in "[a-z \t\r\nä\u{202e}\u{0}漢\u{301}\u{feff}]{0,400}",
        places in prop::array::uniform4(0..1300_usize),
    ) {
        let [start, end, first, last] = places;
        let diagnostic = Diagnostic::at(start..end, "title").label("label");
        let diagnostic = diagnostic.also(first..last, "also");
        let report = Report::single("test.toml", &text, diagnostic);
        assert!(report.render(false).contains("test.toml:"));
        assert!(!report.render(true).is_empty());
    }

    #[test]
    fn a_file_cut_short(end in 0..WHOLE.len()) {
        survive(&WHOLE[..WHOLE.floor_char_boundary(end)]);
    }

    #[test]
    fn a_file_with_damaged_bytes(
        damage in prop::collection::vec((0..WHOLE.len(), any::<u8>()), 1..6),
    ) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_file_with_lines_moved(order in prop::collection::vec(0..WHOLE.lines().count(), 1..40)) {
        let lines: Vec<&str> = WHOLE.lines().collect();
        let text: Vec<&str> = order.into_iter().map(|line| lines[line]).collect();
        survive(&text.join("\n"));
    }

    #[test]
    fn a_file_with_a_line_twice(line in 0..WHOLE.lines().count()) {
        let mut lines: Vec<&str> = WHOLE.lines().collect();
        lines.insert(line, lines[line]);
        survive(&lines.join("\n"));
    }
}

#[test]
fn the_undamaged_file_is_accepted() {
    parse(WHOLE).unwrap();
}

#[test]
fn very_long_and_very_deep_texts() {
    survive(&"[".repeat(100_000));
    survive(&format!("a = {}", "[".repeat(100_000)));
    survive(&format!("a = {}", "{a=".repeat(100_000)));
    survive(&"a.".repeat(100_000));
    survive(&"a\n".repeat(20_000));
    survive(&frontend(&format!("x{} = 1", "ä".repeat(100_000))));
    survive(&frontend(&format!("mode = \"{}\"", "ä".repeat(100_000))));
}

#[test]
fn a_report_shows_the_first_hundred_and_counts_the_rest() {
    let lines: Vec<String> = (0..250).map(|n| format!("unknown{n} = 1")).collect();
    let report = parse(&frontend(&lines.join("\n"))).unwrap_err();
    assert_eq!(report.errors(), 250);
    let text = report.to_string();
    assert_eq!(text.matches("error: ").count(), 100);
    assert!(text.ends_with("and 150 more errors in test.toml"), "{text}");
}
