//! The reader of `[global]`, with `log` and `access_log` (`admin`: there; `resolver`: `names`).
//!
//! Not here: what depends on the host, such as the number of shards for `auto`.

use ringlane_core::limits;

use super::claims::BoundAddresses;
use super::{admin, names};
use crate::config::model::{
    AccessLog, Driver, Global, Log, LogDestination, LogField, LogFormat, LogLevel, ShardCount,
};
use crate::config::text::report::{Diagnostic, quoted};
use crate::config::text::requirement::Requirement;
use crate::config::text::schema::Section;
use crate::config::text::synonyms;
use crate::config::text::table::{At, Table};
use crate::config::value::address;

/// Reads `[global]`; everything has a default.
pub(in crate::config) fn read(table: Option<Table<'_>>, claims: &mut BoundAddresses) -> Global {
    let default = Global::default();
    let Some(table) = table else { return default };
    let admin = table.table("admin", Section::Admin);
    let log = table.table("log", Section::Log);
    let access_log = table.table("access_log", Section::AccessLog);
    let resolver = table.table("resolver", Section::Resolver);
    let global = Global {
        shards: shards(&table),
        driver: driver(&table),
        pin: table.boolean("pin").unwrap_or(default.pin),
        admin: admin.map(|table| admin::read(&table, claims)).unwrap_or_default(),
        user: table.name("user").map(|name| name.value.to_owned()),
        group: table.name("group").map(|name| name.value.to_owned()),
        max_connections: table.integer("max_connections", 1..=u32::MAX),
        shutdown_delay: table.delay("shutdown_delay").unwrap_or(default.shutdown_delay),
        drain_timeout: table.duration("drain_timeout").unwrap_or(default.drain_timeout),
        log: log.map(|table| read_log(&table)).unwrap_or_default(),
        access_log: access_log.map(|table| read_access_log(&table)),
        resolver: resolver.map(|table| names::resolver(&table)).unwrap_or_default(),
    };
    table.refuse_unknown_keys();
    global
}

fn driver(table: &Table<'_>) -> Driver {
    let drivers = [("auto", Driver::Auto), ("io_uring", Driver::Uring), ("epoll", Driver::Epoll)];
    let foreign = [("iouring", "io_uring"), ("uring", "io_uring"), ("poll", "epoll")];
    table.choice("driver", &drivers, &foreign).unwrap_or_default()
}

fn shards(table: &Table<'_>) -> ShardCount {
    let Some(value) = table.value("shards") else { return ShardCount::Auto };
    let expected = format!("\"auto\" or a whole number from 1 to {}", limits::SHARDS_MAX);
    if let Some(number) = value.as_integer() {
        let count = number.and_then(|number| usize::try_from(number).ok());
        if let Some(count) = count.filter(|count| (1..=limits::SHARDS_MAX).contains(count)) {
            return ShardCount::Count(count);
        }
        let why = format!("must be {expected}");
        table.report(table.unusable("shards", value.span, &why));
    } else if value.as_str().is_none_or(|word| word.value != "auto") {
        table.wrong_type("shards", &value, &expected);
    }
    ShardCount::Auto
}

fn read_log(table: &Table<'_>) -> Log {
    let levels = [LogLevel::Error, LogLevel::Warning, LogLevel::Info, LogLevel::Debug];
    let levels = levels.map(|level| (level.word(), level));
    let foreign = [
        ("warn", "warning"),
        ("err", "error"),
        ("crit", "error"),
        ("critical", "error"),
        ("alert", "error"),
        ("emerg", "error"),
        ("notice", "info"),
        ("trace", "debug"),
    ];
    let level = table.choice("level", &levels, &foreign).unwrap_or_default();
    let (format, destination) = (read_format(table), read_destination(table));
    table.refuse_unknown_keys();
    Log { level, format, destination }
}

fn read_access_log(table: &Table<'_>) -> AccessLog {
    let (format, destination) = (read_format(table), read_destination(table));
    let log_empty = table.boolean("log_empty").unwrap_or(true);
    let fields = read_fields(table);
    table.refuse_unknown_keys();
    AccessLog { format, destination, log_empty, fields }
}

/// Reads the fields of a line; all by default.
fn read_fields(table: &Table<'_>) -> Vec<LogField> {
    let Some(array) = table.value("fields") else { return LogField::ALL.to_vec() };
    let mut fields = Vec::new();
    for At { value: name, span } in table.strings("fields") {
        let field = LogField::ALL.into_iter().find(|field| field.name() == name);
        let why = match field {
            Some(field) if fields.contains(&field) => format!("{} is listed twice", quoted(name)),
            Some(field) => {
                fields.push(field);
                continue;
            }
            None => format!("there is no field {}", quoted(name)),
        };
        let mut diagnostic = table.unusable("fields", span, &why);
        if field.is_none() {
            let names = LogField::ALL.map(LogField::name);
            let plain = synonyms::plain(name);
            diagnostic = diagnostic.hint(match synonyms::nearest(&plain, names.into_iter()) {
                Some(near) => format!("did you mean {}?", quoted(near)),
                None => format!("valid fields: {}", names.join(", ")),
            });
        }
        table.report(diagnostic);
    }
    if array.as_array().is_some_and(|array| array.is_empty()) {
        let diagnostic = table.unusable("fields", array.span, "a line needs at least one field");
        table.report(diagnostic);
    }
    fields
}

fn read_format(table: &Table<'_>) -> LogFormat {
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    table.choice("format", &formats, &[("plain", "text")]).unwrap_or_default()
}

fn read_destination(table: &Table<'_>) -> LogDestination {
    let Some(to) = table.string("to") else { return LogDestination::default() };
    let span = to.span.clone();
    let destination = destination(to.value).unwrap_or_else(|why| {
        table.report(unusable_destination(table, to, &why));
        LogDestination::default()
    });
    match &destination {
        LogDestination::Stderr => {}
        LogDestination::File(path) => table.want(span, Requirement::LogFolder(path.clone())),
        LogDestination::Syslog(path) => table.want(span, Requirement::Socket(path.clone())),
    }
    destination
}

fn destination(text: &str) -> Result<LogDestination, String> {
    if text == "stderr" {
        return Ok(LogDestination::Stderr);
    }
    if let Some(path) = text.strip_prefix("file:") {
        return address::absolute_path(path).map(LogDestination::File);
    }
    if let Some(path) = text.strip_prefix("syslog:") {
        return address::socket_path(path).map(LogDestination::Syslog);
    }
    Err("must be stderr, file:/path or syslog:/path".to_owned())
}

fn unusable_destination(table: &Table<'_>, to: At<&str>, why: &str) -> Diagnostic {
    let diagnostic = table.unusable("to", to.span, why);
    match to.value {
        "syslog" => diagnostic.hint("add the socket of the syslog daemon: \"syslog:/dev/log\""),
        path if path.starts_with('/') => {
            diagnostic.hint("add what the path is: \"file:/path\" or \"syslog:/path\"")
        }
        _ => diagnostic,
    }
}
