//! Records in, lines out; destinations that refuse.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use ringlane_core::counters::{Cause, Close};
use ringlane_core::ids::{BackendId, FrontendId, ServerId};

use proptest::prelude::*;
use ringlane_core::counters::{NAME_MAX, Names, TRIED_MAX, UniqueId};
use ringlane_core::settings::{ClientHints, Snapshot};

use super::*;
use crate::config::{AccessLog, LogDestination, LogField, LogFormat};
use crate::control::log::escape;
use crate::control::report::status::tests::snapshot;

fn record() -> SessionRecord {
    SessionRecord {
        unique_id: Some(UniqueId::new(0xa7)),
        accepted_unix_us: 1_790_000_000_000_042,
        client: Some("192.0.2.7:40312".parse().unwrap()),
        generation: 1,
        frontend: FrontendId(0),
        backend: BackendId(0),
        server: Some(ServerId(1)),
        tried: [None; TRIED_MAX],
        bytes_in: 1200,
        bytes_out: 98_304,
        connect_us: 310,
        queue_us: 0,
        duration_us: 5_204_117,
        retries: 1,
        names: None,
        close: Close::NORMAL,
        reason: None,
        shard: 3,
    }
}

fn line(format: LogFormat, record: &SessionRecord, snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    Shape { format, fields: LogField::ALL.to_vec() }.append(&mut out, record, snapshot);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_documented_lines_are_real() {
    let mut snapshot = snapshot();
    snapshot.frontends[0].name = "pg-write".to_owned();
    let document = include_str!("../../../../docs/access-log.md");
    for format in [LogFormat::Text, LogFormat::Json] {
        let line = line(format, &record(), &snapshot);
        assert!(document.contains(&line), "docs/access-log.md lacks\n{line}");
    }
}

#[test]
fn every_close_code_and_field_is_documented() {
    let document = include_str!("../../../../docs/access-log.md");
    for cause in [
        Cause::Normal,
        Cause::Client,
        Cause::Server,
        Cause::ClientTimeout,
        Cause::ServerTimeout,
        Cause::Resource,
        Cause::Killed,
        Cause::Internal,
    ] {
        let letter = char::from(Close::data(cause).code()[0]);
        assert!(document.contains(&format!("\n| `{letter}` |")), "{letter}");
    }
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&line(LogFormat::Json, &record(), &snapshot())).unwrap();
    for field in json.keys() {
        assert!(document.contains(&format!("\n| `{field}` |")), "{field}");
    }
    for reason in Reason::ALL {
        assert!(document.contains(&format!("\n| `{reason}` |")), "{reason}");
    }
}

#[test]
fn what_is_not_known_is_a_dash_or_null() {
    let nobody = SessionRecord {
        unique_id: None,
        client: None,
        server: None,
        close: Close::connect(Cause::Server),
        ..record()
    };
    let text = line(LogFormat::Text, &nobody, &snapshot());
    assert!(text.contains(" client=- frontend=\"pg \\\"write\\\"\" backend=postgres server=- "));
    let rest = "close=SC shard=3 unique_id=- reason=- queue_us=0 tried=- sni=- user=- database=-";
    assert!(text.ends_with(&format!(" {rest}\n")), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&line(LogFormat::Json, &nobody, &snapshot())).unwrap();
    assert!(json["client"].is_null() && json["server"].is_null());
    assert_eq!((&json["backend"], &json["close"]), (&"postgres".into(), &"SC".into()));

    let stranger = SessionRecord { generation: 2, ..record() };
    let text = line(LogFormat::Text, &stranger, &snapshot());
    assert!(text.contains(" frontend=- backend=- server=- "), "{text}");
}

#[test]
fn a_name_stays_one_word_on_one_line() {
    for name in ["a b", "a=b", "a\"b", "a\nb", "\u{7}", "", "-", "back\\slash"] {
        let mut snapshot = snapshot();
        snapshot.frontends[0].name = name.to_owned();
        let text = line(LogFormat::Text, &record(), &snapshot);
        let quoted = serde_json::to_string(name).unwrap();
        assert!(text.contains(&format!(" frontend={quoted} backend=")), "{text}");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let json = line(LogFormat::Json, &record(), &snapshot);
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["frontend"], name);
    }
}

#[test]
fn fields_are_those_that_are_configured_in_their_order() {
    let names = Names { user: Some("ann lee".into()), sni: Some("x.org".into()), database: None };
    let record = SessionRecord {
        names: Some(Box::new(names)),
        tried: [Some(ServerId(0)), Some(ServerId(1)), None, None],
        reason: Some(Reason::Demoted),
        queue_us: 7,
        ..record()
    };
    let line = |format| {
        let mut out = Vec::new();
        let names = ["user", "tried", "reason", "queue_us", "sni", "database", "client"];
        let all = LogField::ALL.into_iter();
        let field = |name: &str| all.clone().find(|field| field.name() == name).unwrap();
        let fields = names.into_iter().map(field).collect();
        Shape { format, fields }.append(&mut out, &record, &snapshot());
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        line(LogFormat::Text),
        "user=\"ann lee\" tried=pg1,pg2 reason=demoted queue_us=7 sni=x.org database=- \
         client=192.0.2.7:40312\n"
    );
    assert_eq!(
        line(LogFormat::Json),
        "{\"user\":\"ann lee\",\"tried\":[\"pg1\",\"pg2\"],\"reason\":\"demoted\",\"queue_us\":7,\
         \"sni\":\"x.org\",\"database\":null,\"client\":\"192.0.2.7:40312\"}\n"
    );
}

proptest! {
    /// Whatever names clients send: one line, distinct words, and the name can be read back.
    #[test]
    fn hostile_names_make_no_line_and_no_field_of_their_own(
        user in "[\\s\\S]{1,80}|[ =\"\\\\\r\n\u{202e}a]{1,20}",
        database in "[\\s\\S]{1,80}",
        bytes in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let sni = String::from_utf8_lossy(&bytes).into_owned();
        let said = ClientHints {
            sni: Some(sni.clone()),
            user: Some(user.clone()),
            database: Some(database.clone()),
            ..ClientHints::default()
        };
        let record = SessionRecord { names: Names::of(&said), ..record() };
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line(format, &record, &snapshot());
            let whole = line.strip_suffix('\n').unwrap();
            prop_assert!(!whole.contains(escape::is_unsafe), "{:?}", whole);
            let found = match format {
                LogFormat::Json => serde_json::from_str(whole).unwrap(),
                LogFormat::Text => words(whole),
            };
            prop_assert_eq!(found["close"].as_str(), Some("--"));
            for (field, sent) in [("sni", &sni), ("user", &user), ("database", &database)] {
                let kept = &sent[..sent.floor_char_boundary(NAME_MAX)];
                prop_assert_eq!(found[field].as_str(), Some(kept), "{} {:?}", field, whole);
            }
        }
    }
}

/// Parses a text line as docs/access-log.md describes.
fn words(line: &str) -> serde_json::Value {
    let mut found = serde_json::Map::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').unwrap();
        let (value, length) = if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            (values.next().unwrap().unwrap(), values.byte_offset())
        } else {
            let length = after.find(' ').unwrap_or(after.len());
            (after[..length].to_owned(), length)
        };
        assert!(found.insert(name.to_owned(), value.into()).is_none(), "{name} twice");
        rest = &after[length..];
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
    assert_eq!(found.len(), LogField::ALL.len());
    found.into()
}

#[test]
fn a_time_beyond_the_calendar_is_no_panic() {
    let late = SessionRecord { accepted_unix_us: u64::MAX, ..record() };
    assert!(line(LogFormat::Text, &late, &snapshot()).starts_with("time=9999-12-"));
    let first = SessionRecord { accepted_unix_us: 0, ..record() };
    let text = line(LogFormat::Text, &first, &snapshot());
    assert!(text.starts_with("time=1970-01-01T00:00:00.000000Z "), "{text}");
}

type Queues = Vec<Arc<ArrayQueue<SessionRecord>>>;

/// A log to `destination`, with `places` per queue of two shards.
fn start_log(destination: LogDestination, places: usize) -> (AccessLogThread, Queues, RecordsLost) {
    let queues: Queues = (0..2).map(|_| Arc::new(ArrayQueue::new(places))).collect();
    let configured = AccessLog {
        format: LogFormat::Json,
        destination,
        log_empty: true,
        fields: LogField::ALL.to_vec(),
    };
    let (snapshots, lost) = (Arc::new(Snapshots::default()), RecordsLost::default());
    snapshots.add(&Arc::new(snapshot()));
    let opened = open(&configured).unwrap();
    (opened.start(snapshots, lost.clone(), queues.clone()).unwrap(), queues, lost)
}

fn lines_in(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Waits until `condition`, for as long as the test runner allows.
fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

#[test]
fn what_is_queued_is_written_before_stop_returns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let (log, queues, _) = start_log(LogDestination::File(path.clone()), 1000);
    for queue in &queues {
        for _ in 0..1000 {
            queue.push(record()).unwrap();
        }
    }
    log.stop();
    assert_eq!(lines_in(&path), 2000);
}

#[test]
fn a_rotated_file_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let (log, queues, _) = start_log(LogDestination::File(path.clone()), 4);
    queues[0].push(record()).unwrap();
    wait_until(|| lines_in(&path) == 1);
    fs::rename(&path, &old).unwrap();
    log.reopen();
    wait_until(|| path.exists());
    queues[1].push(record()).unwrap();
    log.stop();
    assert_eq!((lines_in(&old), lines_in(&path)), (1, 1));
}

#[test]
fn a_full_disk_costs_records_and_nothing_else() {
    let (log, queues, lost) = start_log(LogDestination::File("/dev/full".into()), 4);
    queues[0].push(record()).unwrap();
    queues[1].push(record()).unwrap();
    wait_until(|| lost.get() == 2);
    assert!(queues.iter().all(|queue| queue.is_empty()));
    log.stop();
}

#[test]
fn syslog_gets_one_datagram_per_record_and_survives_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let (log, queues, lost) = start_log(LogDestination::Syslog(path.clone()), 4);
    queues[0].push(record()).unwrap();
    let mut buffer = [0; 2048];
    let length = daemon.recv(&mut buffer).unwrap();
    let start = format!("<134>ringlane[{}]: {{\"time\":\"2026-", std::process::id());
    let datagram = str::from_utf8(&buffer[..length]).unwrap();
    assert!(datagram.starts_with(&start) && datagram.ends_with('}'), "{datagram}");

    drop(daemon);
    fs::remove_file(&path).unwrap();
    queues[0].push(record()).unwrap();
    wait_until(|| lost.get() == 1);

    let daemon = UnixDatagram::bind(&path).unwrap();
    queues[0].push(record()).unwrap();
    assert!(daemon.recv(&mut buffer).unwrap() > 0, "the new daemon is found by its name");
    log.stop();
}

#[test]
fn a_stalled_syslog_daemon_holds_nobody_up_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let (log, queues, lost) = start_log(LogDestination::Syslog(path), 5000);
    // More than the kernel queues for a daemon that doesn't read, by default and by far.
    for _ in 0..5000 {
        queues[0].push(record()).unwrap();
    }
    wait_until(|| queues[0].is_empty() && lost.get() > 0);
    log.stop();
    drop(daemon);
}

#[test]
fn a_destination_that_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing").join("access.log");
    for destination in
        [LogDestination::File(missing.clone()), LogDestination::Syslog(missing.clone())]
    {
        let configured = AccessLog {
            format: LogFormat::Text,
            destination,
            log_empty: true,
            fields: LogField::ALL.to_vec(),
        };
        let error = open(&configured).unwrap_err();
        assert!(error.to_string().starts_with(missing.to_str().unwrap()), "{error}");
    }
}

#[test]
fn losses_are_spoken_of_once_a_minute() {
    let lost = || Lost { records: 2, error: io::Error::other("full") };
    let now = Instant::now();
    let mut losses = LossReport::default();
    losses.write(now, true);
    assert!(losses.reported_at.is_none(), "nothing was lost");
    losses.add(lost());
    losses.write(now, false);
    assert_eq!((losses.records, losses.reported_at), (0, Some(now)));
    losses.add(lost());
    losses.add(lost());
    losses.write(now + REPORT_INTERVAL / 2, false);
    assert_eq!(losses.records, 4, "kept for later");
    losses.write(now + REPORT_INTERVAL, false);
    assert_eq!(losses.records, 0);
}
