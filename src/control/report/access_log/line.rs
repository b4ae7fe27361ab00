//! One finished session as one line: JSON, or `key=value` pairs.
//!
//! Not here: where lines go (`log::sink`). Invariants: a line has no newline inside and nothing
//! that moves a cursor, whatever names in the configuration and of clients contain; both shapes
//! have the same fields in the same order, which docs/access-log.md documents; a value in text has
//! no space unless it is a JSON string.

use std::io::Write;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use ringlane_core::counters::SessionRecord;
use ringlane_core::ids::ServerId;
use ringlane_core::settings::Snapshot;

use crate::config::{LogField, LogFormat};
use crate::control::log::escape;

/// Microseconds always, so that lines can be compared as text.
const TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// What lines look like.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) format: LogFormat,
    pub(super) fields: Vec<LogField>,
}

/// The value of a field.
enum FieldValue<'a> {
    Unknown,
    Number(u64),
    /// Text of ours, which needs no care.
    Plain(String),
    /// A name from outside.
    Name(&'a str),
    Names(Vec<&'a str>),
}

impl Shape {
    /// Appends the line of `record`, whose ids are those of `snapshot`.
    pub(super) fn append(&self, out: &mut Vec<u8>, record: &SessionRecord, snapshot: &Snapshot) {
        let start = out.len();
        let outcome = match self.format {
            LogFormat::Json => self.write_json(out, record, snapshot),
            LogFormat::Text => self.write_text(out, record, snapshot),
        };
        match outcome {
            Ok(()) => out.push(b'\n'),
            // Neither shape can fail on memory; half a line would be worse than none.
            Err(_) => out.truncate(start),
        }
    }

    fn write_json(
        &self,
        out: &mut Vec<u8>,
        record: &SessionRecord,
        snapshot: &Snapshot,
    ) -> std::io::Result<()> {
        for (index, field) in self.fields.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let value = value(*field, record, snapshot).json();
            write!(out, "{before}\"{}\":{value}", field.name())?;
        }
        out.push(b'}');
        Ok(())
    }

    fn write_text(
        &self,
        out: &mut Vec<u8>,
        record: &SessionRecord,
        snapshot: &Snapshot,
    ) -> std::io::Result<()> {
        for (index, field) in self.fields.iter().enumerate() {
            let before = if index == 0 { "" } else { " " };
            let value = value(*field, record, snapshot).text();
            write!(out, "{before}{}={value}", field.name())?;
        }
        Ok(())
    }
}

/// What a record has in a field.
fn value<'a>(field: LogField, record: &'a SessionRecord, snapshot: &'a Snapshot) -> FieldValue<'a> {
    // Ids mean nothing in another generation.
    let is_known = record.generation == snapshot.generation;
    let server = |id: ServerId| {
        snapshot.servers.get(id.0 as usize).filter(|_| is_known).map(|server| &*server.name)
    };
    let names = record.names.as_deref();
    match field {
        LogField::Time => FieldValue::Plain(time(record.accepted_unix_us)),
        LogField::Client => FieldValue::plain(record.client),
        LogField::Frontend => {
            let frontend = snapshot.frontends.get(record.frontend.0 as usize);
            FieldValue::name(frontend.filter(|_| is_known).map(|frontend| &*frontend.name))
        }
        LogField::Backend => {
            let backend = snapshot.backends.get(record.backend.0 as usize);
            FieldValue::name(backend.filter(|_| is_known).map(|backend| &*backend.name))
        }
        LogField::Server => FieldValue::name(record.server.and_then(server)),
        LogField::BytesIn => FieldValue::Number(record.bytes_in),
        LogField::BytesOut => FieldValue::Number(record.bytes_out),
        LogField::ConnectUs => FieldValue::Number(record.connect_us),
        LogField::DurationUs => FieldValue::Number(record.duration_us),
        LogField::Retries => FieldValue::Number(record.retries.into()),
        LogField::Close => FieldValue::Plain(record.close.to_string()),
        LogField::Shard => FieldValue::Number(record.shard.into()),
        LogField::UniqueId => FieldValue::plain(record.unique_id),
        LogField::Reason => FieldValue::plain(record.reason),
        LogField::QueueUs => FieldValue::Number(record.queue_us),
        LogField::Tried => {
            let tried: Vec<&str> = record.tried.into_iter().flatten().filter_map(server).collect();
            if tried.is_empty() { FieldValue::Unknown } else { FieldValue::Names(tried) }
        }
        LogField::Sni => FieldValue::name(names.and_then(|names| names.sni.as_deref())),
        LogField::User => FieldValue::name(names.and_then(|names| names.user.as_deref())),
        LogField::Database => FieldValue::name(names.and_then(|names| names.database.as_deref())),
    }
}

impl<'a> FieldValue<'a> {
    fn plain(value: Option<impl ToString>) -> Self {
        value.map_or(Self::Unknown, |value| Self::Plain(value.to_string()))
    }

    fn name(name: Option<&'a str>) -> Self {
        name.map_or(Self::Unknown, Self::Name)
    }

    fn json(&self) -> String {
        match self {
            Self::Unknown => "null".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Plain(text) => quoted(text),
            Self::Name(name) => quoted(name),
            Self::Names(names) => {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                format!("[{}]", names.join(","))
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unknown => "-".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Plain(text) => text.clone(),
            Self::Name(name) => word(name),
            Self::Names(names) => {
                // A name may have a comma: then the commas between names would mean nothing.
                let apart = |name: &&str| !name.contains(',');
                let words: Vec<String> = names
                    .iter()
                    .map(|name| if apart(name) { word(name) } else { quoted(name) })
                    .collect();
                words.join(",")
            }
        }
    }
}

/// RFC 3339, UTC.
fn time(unix_us: u64) -> String {
    let time = i64::try_from(unix_us).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    TIME.timestamp_to_string(&time.unwrap_or(Timestamp::MAX))
}

/// A JSON string on one line.
fn quoted(text: &str) -> String {
    escape::json(serde_json::Value::from(text).to_string())
}

/// A name as it is, or as a JSON string if it would not stay one word.
fn word(name: &str) -> String {
    let breaks =
        |c: char| c.is_whitespace() || escape::is_unsafe(c) || matches!(c, '"' | '=' | '\\');
    let is_plain = !name.is_empty() && name != "-" && !name.contains(breaks);
    if is_plain { name.to_owned() } else { quoted(name) }
}
