//! The look of a line: text with time and level, text for the journal, JSON, the payload for
//! syslog.
//!
//! Pure: it gets the line and the time. Invariants: the result is one line whatever the text
//! contains, since names and answers of servers come from outside; it is no longer than
//! [`LINE_MAX`], and JSON is still valid JSON then.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::config::LogFormat;
use crate::control::log::Notice;
use crate::control::log::escape;

/// Bytes of the longest line, its end included: what a pipe takes whole or not at all (`PIPE_BUF`),
/// so that lines of several processes on one pipe never mix.
pub(super) const LINE_MAX: usize = 4096;

/// Appended to a text that was cut.
const CUT: &str = " [cut]";

/// Microseconds always, as in the access log.
const TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// The shape of lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LineStyle {
    /// Text or JSON.
    pub(super) format: LogFormat,
    /// What is added around a line.
    pub(super) frame: Frame,
}

/// What is added around a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Frame {
    /// Time and level, and the end of the line.
    Plain,
    /// The level as journald reads it (`<4>`); it adds time and name itself.
    Journal,
    /// Nothing but the end of the line: priority, time and name are in the datagram's head.
    Syslog,
}

/// The object of a line in JSON.
#[derive(Serialize)]
struct Object<'a> {
    time: &'a str,
    level: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    frontend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl LineStyle {
    /// The line, with its end.
    pub(super) fn line(self, notice: &Notice, now: Timestamp) -> String {
        let time = TIME.timestamp_to_string(&now);
        let head = match self.frame {
            Frame::Plain | Frame::Syslog => String::new(),
            Frame::Journal => format!("<{}>", notice.level.priority()),
        };
        match self.format {
            LogFormat::Json => json(&head, notice, &time),
            LogFormat::Text => {
                let mut line = head;
                if self.frame == Frame::Plain {
                    // Writing to a string can't fail.
                    let _ = write!(line, "{time} {} ", notice.level.word());
                    line.push_str(notice.name());
                }
                escape::push(&mut line, &notice.message);
                bounded(line)
            }
        }
    }
}

impl Notice {
    /// The program's name before the sentence, unless the sentence begins with it.
    fn name(&self) -> &'static str {
        if self.message.starts_with("ringlane ") { "" } else { "ringlane: " }
    }
}

/// A line that ends, and is no longer than [`LINE_MAX`].
fn bounded(mut line: String) -> String {
    let room = LINE_MAX - 1;
    if line.len() > room {
        line.truncate(line.floor_char_boundary(room - CUT.len()));
        line.push_str(CUT);
    }
    line.push('\n');
    line
}

/// As above; what is too long is cut before it is encoded, so that the object stays whole.
fn json(head: &str, notice: &Notice, time: &str) -> String {
    let mut message = notice.message.clone();
    let mut most = LINE_MAX;
    loop {
        let object = Object {
            time,
            level: notice.level.word(),
            message: &message,
            event: notice.event,
            frontend: cut(notice.frontend.as_deref(), most),
            backend: cut(notice.backend.as_deref(), most),
            server: cut(notice.server.as_deref(), most),
            count: notice.count,
        };
        // Strings and numbers can't fail.
        let object = escape::json(serde_json::to_string(&object).unwrap_or_default());
        if head.len() + object.len() < LINE_MAX {
            return format!("{head}{object}\n");
        }
        // An escape is up to six times as long as its character: a few rounds are enough.
        most /= 2;
        message.truncate(message.floor_char_boundary(most));
        message.push_str(CUT);
    }
}

fn cut(name: Option<&str>, most: usize) -> Option<&str> {
    name.map(|name| &name[..name.floor_char_boundary(most)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::log::Level;

    const STYLES: [LineStyle; 6] = [
        LineStyle { format: LogFormat::Text, frame: Frame::Plain },
        LineStyle { format: LogFormat::Text, frame: Frame::Journal },
        LineStyle { format: LogFormat::Text, frame: Frame::Syslog },
        LineStyle { format: LogFormat::Json, frame: Frame::Plain },
        LineStyle { format: LogFormat::Json, frame: Frame::Journal },
        LineStyle { format: LogFormat::Json, frame: Frame::Syslog },
    ];

    fn full() -> Notice {
        let text = "backend pg: queue full".to_owned();
        Notice::new(Level::Warning, "queue_full", text).backend("pg").count(3)
    }

    #[test]
    fn a_line_has_time_and_level_where_the_reader_does_not_add_them() {
        let now = Timestamp::from_microsecond(1_790_000_000_000_042).unwrap();
        let lines = STYLES.map(|style| style.line(&full(), now));
        let time = "2026-09-21T14:13:20.000042Z";
        let object = format!(
            "{{\"time\":\"{time}\",\"level\":\"warning\",\"message\":\"backend pg: queue full\",\
             \"event\":\"queue_full\",\"backend\":\"pg\",\"count\":3}}\n"
        );
        assert_eq!(lines[0], format!("{time} warning ringlane: backend pg: queue full\n"));
        assert_eq!(lines[1], "<4>backend pg: queue full\n");
        assert_eq!(lines[2], "backend pg: queue full\n");
        assert_eq!(lines[3..], [object.clone(), format!("<4>{object}"), object]);
        let ready = Notice::new(Level::Info, "", "ringlane 0.1.0 ready: 2 shards".to_owned());
        let line = STYLES[0].line(&ready, now);
        assert_eq!(line, format!("{time} info ringlane 0.1.0 ready: 2 shards\n"));
    }

    #[test]
    fn a_line_is_cut_where_a_pipe_would_cut_it() {
        for letter in ["x", "é", "€", "\u{1}", "\""] {
            let notice = Notice::new(Level::Info, "", letter.repeat(2 * LINE_MAX));
            let notice = notice.backend(&letter.repeat(LINE_MAX));
            for style in STYLES {
                let line = style.line(&notice, Timestamp::UNIX_EPOCH);
                assert!(line.len() <= LINE_MAX && line.ends_with('\n'), "{style:?} {line}");
                assert!(line.contains(CUT), "{style:?} {line}");
            }
        }
    }

    proptest! {
        /// Whatever servers answer and names contain: one line, and JSON with the same content.
        #[test]
        fn hostile_text_makes_no_line_of_its_own(
            message in ".{0,200}|[\\s\\S]{0,200}|\\PC{0,100}",
            name in "[\\s\\S]{0,40}",
            index in 0_usize..6,
        ) {
            let notice = Notice::new(Level::Error, "event", message.clone()).server(&name);
            let line = STYLES[index].line(&notice, Timestamp::UNIX_EPOCH);
            prop_assert_eq!(line.matches(['\n', '\r']).count(), 1);
            prop_assert!(line.ends_with('\n'));
            prop_assert!(!line.trim_end_matches('\n').contains(escape::is_unsafe));
            if STYLES[index].format == LogFormat::Json {
                let object = line.trim_start_matches("<3>");
                let object: serde_json::Value = serde_json::from_str(object).unwrap();
                prop_assert_eq!(&object["message"], &serde_json::Value::from(message));
                prop_assert_eq!(&object["server"], &serde_json::Value::from(name));
            }
        }
    }
}
