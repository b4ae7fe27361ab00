//! The reader of `check` and `outlier` of a `[[backend]]`, and of its rules for health.
//!
//! Not here: running checks (`control::servers::checks`) and the rules themselves
//! (`ringlane_health`). The keys of a check depend on its kind; the error for a key of another kind
//! names that kind.

mod tls;

use std::ops::RangeInclusive;
use std::time::Duration;

use regex::Regex;
use ringlane_core::machine::Address;
use ringlane_health::{Ejection, LagLimit, OnChange, OnConflict, Rules};

use crate::config::model::{Body, Check, Http, Kind, Login, Step, Watch, Way};
use crate::config::read::secret::{self, Purpose};
use crate::config::text::report::quoted;
use crate::config::text::requirement::Requirement;
use crate::config::text::schema::Section;
use crate::config::text::synonyms;
use crate::config::text::table::{At, Table};
use crate::config::value::{address, duration};

/// Keys that only some kinds of check have.
const KINDS_OF_KEYS: [(&str, &[&str]); 19] = [
    ("steps", &["tcp"]),
    ("method", &["http"]),
    ("path", &["http"]),
    ("host", &["http"]),
    ("version", &["http"]),
    ("status", &["http"]),
    ("body", &["http"]),
    ("body_regex", &["http"]),
    ("user", &["postgres", "mysql", "redis"]),
    ("password", &["postgres", "mysql", "redis"]),
    ("database", &["postgres", "mysql"]),
    ("login", &["postgres", "mysql", "redis"]),
    ("command", &["exec"]),
    ("tls", &["http", "postgres", "mysql", "redis"]),
    ("server_name", &["tls", "http", "postgres", "mysql", "redis"]),
    ("ca", &["tls", "http", "postgres", "mysql", "redis"]),
    ("verify", &["tls", "http"]),
    ("alpn", &["tls"]),
    ("min_days", &["tls"]),
];

/// Names of kinds in other balancers, and ours.
const FOREIGN_KINDS: [(&str, &str); 12] = [
    ("mariadb", "mysql"),
    ("mysql_check", "mysql"),
    ("httpchk", "http"),
    ("https", "http"),
    ("ssl", "tls"),
    ("ssl_hello_chk", "tls"),
    ("pgsql", "postgres"),
    ("postgresql", "postgres"),
    ("pgsql_check", "postgres"),
    ("redis_check", "redis"),
    ("external", "exec"),
    ("agent_check", "agent"),
];

/// Other words for the values of `login`, and ours.
const FOREIGN_LOGINS: [(&str, &str); 4] =
    [("every", "each"), ("always", "each"), ("keep", "kept"), ("persistent", "kept")];

/// Largest `min_days`.
const DAYS_MAX: u32 = 3650;

/// Defaults of `outlier`.
const OUTLIER_INTERVAL: Duration = Duration::from_secs(10);
const OUTLIER_BASE: Duration = Duration::from_secs(30);
const OUTLIER_MAX: Duration = Duration::from_secs(300);

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Reads how the servers of a backend are checked.
pub(in crate::config) fn watch(backend: &Table<'_>) -> Watch {
    let mut rules = Rules {
        max_lag: max_lag(backend),
        on_conflict: on_conflict(backend),
        slow_start: backend.duration("slow_start"),
        on_down: on_change(backend, "on_down"),
        on_role_change: on_change(backend, "on_role_change"),
        on_lag: on_change(backend, "on_lag"),
        on_drain: on_change(backend, "on_drain"),
        fail_open: backend.integer("fail_open", 0..=100).unwrap_or(0),
        ..Rules::default()
    };
    let check = backend.table("check", Section::Check).and_then(|table| {
        rules.rise = table.integer("rise", 1..=1000).unwrap_or(rules.rise);
        rules.fall = table.integer("fall", 1..=1000).unwrap_or(rules.fall);
        let check = read(&table);
        table.refuse_unknown_keys();
        check
    });
    Watch { rules, check, outlier: outlier(backend), addresses: Vec::new() }
}

fn outlier(backend: &Table<'_>) -> Option<Ejection> {
    let table = backend.table("outlier", Section::Outlier)?;
    let ejection = Ejection {
        failures: table.integer("failures", 1..=1000).unwrap_or(5),
        interval: table.duration("interval").unwrap_or(OUTLIER_INTERVAL),
        base: table.duration("base").unwrap_or(OUTLIER_BASE),
        max: table.duration("max").unwrap_or(OUTLIER_MAX),
        share: table.integer("share", 1..=100).unwrap_or(50),
        retransmits: table.integer("retransmits", 1..=100),
        first_byte: table.duration("first_byte"),
    };
    if ejection.max < ejection.base {
        let span = table.value("max").or_else(|| table.value("base")).map_or(0..0, |v| v.span);
        let why = format!("max ({:?}) is shorter than base ({:?})", ejection.max, ejection.base);
        table.report(table.unusable("max", span, &why));
    }
    table.refuse_unknown_keys();
    Some(ejection)
}

fn on_change(backend: &Table<'_>, key: &'static str) -> OnChange {
    let choices =
        [("keep", OnChange::Keep), ("drain", OnChange::Drain), ("fence", OnChange::Fence)];
    let foreign = [("kill", "fence"), ("shutdown_sessions", "fence"), ("none", "keep")];
    backend.choice(key, &choices, &foreign).unwrap_or_default()
}

fn on_conflict(backend: &Table<'_>) -> OnConflict {
    let choices =
        [("stop", OnConflict::Stop), ("newest", OnConflict::Newest), ("first", OnConflict::First)];
    backend.choice("on_conflict", &choices, &[]).unwrap_or_default()
}

fn max_lag(backend: &Table<'_>) -> Option<LagLimit> {
    let value = backend.value("max_lag")?;
    if let Some(bytes) = value.as_integer() {
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        if bytes.is_none() {
            let why = "must be a number of bytes, or a duration in quotes";
            backend.report(backend.unusable("max_lag", value.span, why));
        }
        return bytes.map(LagLimit::Bytes);
    }
    let Some(At { value: text, span }) = value.as_str() else {
        backend.wrong_type("max_lag", &value, "a duration in quotes or a number of bytes");
        return None;
    };
    match duration::parse(text) {
        Ok(time) => Some(LagLimit::Time(time)),
        Err(why) => {
            backend.report(backend.unusable("max_lag", span, &why));
            None
        }
    }
}

/// Reads an address at which a server is checked.
pub(in crate::config) fn address(table: &Table<'_>, key: &'static str) -> Option<Address> {
    let At { value, span } = table.string(key)?;
    let address = address::check(value);
    address.map_err(|problem| table.refuse(key, span, problem)).ok()
}

fn read(table: &Table<'_>) -> Option<Check> {
    table.require(&["kind"]);
    let kinds = ["tcp", "http", "tls", "postgres", "mysql", "redis", "exec", "agent"];
    let kinds = kinds.map(|kind| (kind, kind));
    let kind = table.choice("kind", &kinds, &FOREIGN_KINDS)?;
    refuse_keys_of_other_kinds(table, kind);
    let interval = table.duration("interval").unwrap_or(INTERVAL);
    Some(Check {
        kind: match kind {
            "http" => Kind::Http(http(table)),
            "tls" => Kind::Tls(tls::always(table), table.integer("min_days", 0..=DAYS_MAX)),
            "postgres" => Kind::Postgres(login(table, kind)),
            "mysql" => Kind::Mysql(login(table, kind)),
            "redis" => Kind::Redis(login(table, kind)),
            "exec" => Kind::Exec(command(table)),
            "agent" => Kind::Agent(table.text("send").unwrap_or_default().into_bytes()),
            _ => Kind::Tcp(steps(table)),
        },
        interval,
        fast_interval: table.duration("fast_interval").unwrap_or(interval),
        timeout: table.duration("timeout").unwrap_or_else(|| interval.min(TIMEOUT_MAX)),
        address: address(table, "address"),
        port: table.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok()),
        way: Way {
            send_proxy: table.boolean("send_proxy"),
            source: table.boolean("source").unwrap_or(true),
            tcp: table.boolean("tcp").unwrap_or(true),
        },
    })
}

fn refuse_keys_of_other_kinds(table: &Table<'_>, kind: &str) {
    for (key, kinds) in KINDS_OF_KEYS.iter().filter(|(_, kinds)| !kinds.contains(&kind)) {
        if let Some(value) = table.value(key) {
            let why = format!("not valid for kind = {kind:?}");
            let hint =
                format!("{key} is a key of checks of kind {}; remove it", synonyms::listed(kinds));
            table.report(table.unusable(key, value.span, &why).hint(hint));
        }
    }
    if let Some(value) = table.value("send").filter(|_| kind != "agent") {
        let hint = "a tcp check has steps: steps = [{ send = \"…\" }, { expect = \"…\" }]";
        table.report(
            table.unusable("send", value.span, "only valid for kind = \"agent\"").hint(hint),
        );
    }
}

fn login(table: &Table<'_>, kind: &str) -> Login {
    Login {
        user: table.text("user"),
        password: secret::read(table, "password", Purpose::Password),
        database: table.text("database"),
        tls: tls::of_login(table, kind),
        kept: table
            .choice("login", &[("each", false), ("kept", true)], &FOREIGN_LOGINS)
            .unwrap_or_default(),
    }
}

fn command(table: &Table<'_>) -> Vec<String> {
    table.require(&["command"]);
    let Some(value) = table.value("command") else { return Vec::new() };
    let Some(entries) = value.as_array() else {
        table.wrong_type("command", &value, "an array of strings, the program first");
        return Vec::new();
    };
    let mut words = Vec::new();
    for entry in entries {
        match entry.as_str() {
            Some(word) => words.push(word.value.to_owned()),
            None => table.report(table.unusable("command", entry.span, "must be a string")),
        }
    }
    match words.first() {
        Some(program) if program.is_empty() => {
            let why = "no program: the first string is empty";
            table.report(table.unusable("command", value.span, why));
        }
        Some(program) => table.want(value.span, Requirement::Program(program.into())),
        // An empty array was reported as a missing key.
        None => {}
    }
    words
}

fn steps(table: &Table<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for entry in table.tables("steps", Section::Step) {
        for key in ["send", "send_hex", "expect", "expect_hex"] {
            let Some(At { value, span }) = entry.string(key) else { continue };
            let bytes = match key {
                "send" | "expect" => Some(value.as_bytes().to_vec()),
                _ => unhex(value),
            };
            match bytes {
                Some(bytes) if key.starts_with("send") => steps.push(Step::Send(bytes)),
                Some(bytes) if !bytes.is_empty() => steps.push(Step::Expect(bytes)),
                Some(_) => entry.report(entry.unusable(key, span, "must not be empty")),
                None => entry.report(entry.unusable(key, span, "must be pairs of hex digits")),
            }
        }
        entry.refuse_unknown_keys();
    }
    steps
}

/// Reads bytes as hex digits; blanks are allowed.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

fn http(table: &Table<'_>) -> Http {
    let name = |key, otherwise: &str| table.text(key).unwrap_or_else(|| otherwise.to_owned());
    let body = table.text("body").map(Body::Text).or_else(|| {
        let At { value, span } = table.string("body_regex")?;
        match Regex::new(value) {
            Ok(pattern) => Some(Body::Pattern(pattern)),
            Err(error) => {
                table.report(table.unusable("body_regex", span, &error.to_string()));
                None
            }
        }
    });
    let http = Http {
        method: name("method", "GET"),
        path: name("path", "/"),
        minor_version: table.choice("version", &[("1.0", 0), ("1.1", 1)], &[]).unwrap_or(1),
        host: table.text("host"),
        status: status(table),
        body,
        tls: tls::of_http(table),
    };
    let host = http.host.as_ref().map(|host| ("host", host));
    for (key, value) in [("method", &http.method), ("path", &http.path)].into_iter().chain(host) {
        if value.chars().any(|c| c.is_control() || c == ' ') || value.is_empty() {
            let span = table.value(key).map_or(0..0, |value| value.span);
            table.report(table.unusable(key, span, "must be printable characters without spaces"));
        }
    }
    if http.method == "HEAD"
        && let Some(key) = ["body", "body_regex"].into_iter().find(|key| table.value(key).is_some())
    {
        let span = table.value(key).map_or(0..0, |value| value.span);
        let why = "a response to HEAD has no body, so the check could never pass";
        table
            .report(table.unusable(key, span, why).hint("use method = \"GET\", or remove the key"));
    }
    http
}

/// Reads status codes: `"200-399"`, `"200, 204"` or `200`.
fn status(table: &Table<'_>) -> Vec<RangeInclusive<u16>> {
    let otherwise = vec![200..=399];
    let Some(value) = table.value("status") else { return otherwise };
    let codes = match (value.as_integer(), value.as_str()) {
        (Some(code), _) => code.map(|code| code.to_string()),
        (_, Some(text)) => Some(text.value.to_owned()),
        _ => None,
    };
    let Some(codes) = codes else {
        table.wrong_type("status", &value, "status codes such as \"200-399\", \"200, 204\" or 200");
        return otherwise;
    };
    let parts = codes.split(',').map(|part| range_of_codes(part).ok_or(part));
    match parts.collect::<Result<Vec<_>, _>>() {
        Ok(ranges) => ranges,
        Err(part) => {
            let why = format!("{} is not a status code or a range of them", quoted(part.trim()));
            let hint = "codes are from 100 to 599, such as \"200-399\", \"200, 204\" or 200";
            table.report(table.unusable("status", value.span, &why).hint(hint));
            otherwise
        }
    }
}

fn range_of_codes(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse().ok().filter(|code| (100..=599).contains(code));
    let (first, last): (u16, u16) = (code(first)?, code(last)?);
    (first <= last).then_some(first..=last)
}
