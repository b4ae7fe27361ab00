//! One finished session as one line: JSON, or `key=value` words.
//!
//! Not here: where lines go (`sink`). Invariants: a line has no newline inside, whatever a name in
//! the configuration contains; both shapes have the same fields in the same order, which
//! docs/access-log.md documents.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use ringlane_core::record::SessionRecord;
use ringlane_core::snapshot::{Frontend, Server, Snapshot};
use serde::Serialize;

use crate::config::LogFormat;

/// Microseconds always, so that lines can be compared as text.
const TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: Option<SocketAddr>,
    frontend: Option<&'a str>,
    backend: Option<&'a str>,
    server: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    connect_us: u64,
    duration_us: u64,
    retries: u32,
    close: String,
    shard: u32,
    unique_id: Option<String>,
}

/// Appends the line of `record`, whose ids are those of `snapshot`.
pub(super) fn append(
    out: &mut Vec<u8>,
    format: LogFormat,
    record: &SessionRecord,
    snapshot: &Snapshot,
) {
    let line = Line::new(record, snapshot);
    let start = out.len();
    let outcome = match format {
        LogFormat::Json => serde_json::to_writer(&mut *out, &line).map_err(Into::into),
        LogFormat::Text => line.write_text(out),
    };
    match outcome {
        Ok(()) => out.push(b'\n'),
        // Neither shape can fail on memory; half a line would be worse than none.
        Err(_) => out.truncate(start),
    }
}

impl<'a> Line<'a> {
    fn new(record: &SessionRecord, snapshot: &'a Snapshot) -> Self {
        // Ids mean nothing in another generation.
        let known = record.generation == snapshot.generation;
        let frontend: Option<&Frontend> =
            snapshot.frontends.get(record.frontend.0 as usize).filter(|_| known);
        let server: Option<&Server> =
            record.server.and_then(|id| snapshot.servers.get(id.0 as usize)).filter(|_| known);
        let chosen = server.map(|server| server.backend);
        let backend = chosen
            .or_else(|| frontend.map(|frontend| frontend.backend))
            .and_then(|id| snapshot.backends.get(id.0 as usize));
        Self {
            time: time(record.accepted_unix_us),
            client: record.client,
            frontend: frontend.map(|frontend| &*frontend.name),
            backend: backend.map(|backend| &*backend.name),
            server: server.map(|server| &*server.name),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            connect_us: record.connect_us,
            duration_us: record.duration_us,
            retries: record.retries,
            close: record.close.to_string(),
            shard: record.shard,
            unique_id: record.unique_id.map(|id| id.to_string()),
        }
    }

    fn write_text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        write!(
            out,
            "time={} client={} frontend={} backend={} server={} bytes_in={} bytes_out={} \
             connect_us={} duration_us={} retries={} close={} shard={} unique_id={}",
            self.time,
            or_dash(self.client),
            word(self.frontend),
            word(self.backend),
            word(self.server),
            self.bytes_in,
            self.bytes_out,
            self.connect_us,
            self.duration_us,
            self.retries,
            self.close,
            self.shard,
            or_dash(self.unique_id.as_ref()),
        )
    }
}

/// RFC 3339, UTC.
fn time(unix_us: u64) -> String {
    let time = i64::try_from(unix_us).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    TIME.timestamp_to_string(&time.unwrap_or(Timestamp::MAX))
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A name as it is, or as a JSON string where it would not stay one word.
fn word(name: Option<&str>) -> String {
    let plain = |name: &&str| {
        let breaks = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\');
        !name.is_empty() && *name != "-" && !name.contains(breaks)
    };
    match name {
        Some(name) if !plain(&name) => serde_json::Value::from(name).to_string(),
        name => or_dash(name),
    }
}
