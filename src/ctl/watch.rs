//! `ringlane ctl events` and `drain --wait`: what happens while one looks.
//!
//! Not here: the events themselves (`control::report::feed`). Invariant: whoever reads the output
//! gets every event at once, and one that stops reading ends the command without an error.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::request::{AdminAddress, Request, ask, follow};
use super::table::printable;
use super::{Failure, orders};

/// Between two looks at a server that is drained.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The exit code when `--wait` gave up.
const GAVE_UP: u8 = 2;

/// Ends a stream whose reader went away (`ringlane ctl events --follow | head`).
const NO_READER: &str = "";

/// The last events, and with `follow` those that come, until the balancer ends.
pub(super) fn events(
    place: &AdminAddress,
    with_news: bool,
    limit: usize,
    json: bool,
) -> Result<String, String> {
    if with_news {
        let path = format!("/v1/events?limit={limit}");
        let outcome = follow(place, &path, |data| {
            print(&if json { format!("{data}\n") } else { line(data) })
        });
        return match outcome {
            Err(why) if why == NO_READER => Ok(String::new()),
            outcome => outcome.map(|()| String::new()),
        };
    }
    let text = ask(place, Request::get(&format!("/v1/events?limit={limit}")))?;
    let page: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(events) = page["events"].as_array() else {
        return Err(format!("the reply from {place} has no events: check the admin address"));
    };
    if json {
        return Ok(text);
    }
    Ok(events.iter().map(|event| line(&event.to_string())).collect())
}

/// An event for people.
fn line(data: &str) -> String {
    let event: Value = serde_json::from_str(data).unwrap_or_default();
    if let Some(missed) = event["missed"].as_u64() {
        return format!("({missed} events are missing: they came too fast)\n");
    }
    let word = |key: &str| printable(event[key].as_str().unwrap_or_default());
    format!("{}  {:7}  {}\n", word("at"), word("level"), word("text"))
}

fn print(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
        match error.kind() {
            ErrorKind::BrokenPipe => NO_READER.to_owned(),
            _ => format!("cannot write to stdout: {error}"),
        }
    })
}

/// Waits until a server has no session.
pub(super) fn drained(
    place: &AdminAddress,
    name: &str,
    timeout: Option<Duration>,
    json: bool,
) -> Result<String, Failure> {
    let path = orders::server_path(place, name)?;
    let until = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let live = live(place, &path)?;
        if live == 0 {
            let done = json!({ "ok": true, "sessions_live": 0 });
            return Ok(if json { format!("{done}\n") } else { format!("{name}: drained\n") });
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            let sessions = if live == 1 { "session" } else { "sessions" };
            let text = format!("{name}: still {live} {sessions}; the server stays in drain");
            return Err(Failure { text, code: GAVE_UP });
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// The sessions of the server at a path.
fn live(place: &AdminAddress, path: &str) -> Result<u64, String> {
    let page: Value = serde_json::from_str(&ask(place, Request::get(path))?).unwrap_or_default();
    page["sessions_live"]
        .as_u64()
        .ok_or_else(|| format!("the reply from {place} is no server: check the admin address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let event = r#"{"id":1,"at":"T","level":"warning","kind":"x","text":"a\u001b[2J\nb"}"#;
        assert_eq!(line(event), "T  warning  a\\u{1b}[2J\\nb\n");
        assert_eq!(line(r#"{"missed":3}"#), "(3 events are missing: they came too fast)\n");
    }
}
