//! The reader of `route` and `protocol` of a `[[frontend]]`.
//!
//! Not here: whether a route's backend exists (`lower`).

use ringlane_core::settings::{NamePattern, Protocol, RoleWanted, Route, Unrouted};

use crate::config::text::schema::Section;
use crate::config::text::table::{At, Table};

/// Names of protocols in other balancers, and ours.
const FOREIGN_PROTOCOLS: [(&str, &str); 8] = [
    ("mariadb", "mysql"),
    ("valkey", "redis"),
    ("ssl", "tls"),
    ("https", "tls"),
    ("tls_passthrough", "tls"),
    ("postgresql", "postgres"),
    ("pgsql", "postgres"),
    ("pg", "postgres"),
];

/// Names of roles in other programs, and ours.
const FOREIGN_ROLES: [(&str, &str); 6] = [
    ("master", "primary"),
    ("leader", "primary"),
    ("writer", "primary"),
    ("slave", "replica"),
    ("standby", "replica"),
    ("reader", "replica"),
];

/// The routing settings of a frontend.
#[derive(Debug)]
pub(in crate::config) struct Routing<'a> {
    pub(in crate::config) protocol: Protocol,
    /// Routes with the names of their backends; `lower` resolves them.
    pub(in crate::config) routes: Vec<Entry<'a>>,
    pub(in crate::config) no_sni: Unrouted,
    pub(in crate::config) unmatched: Unrouted,
}

/// One route, as it is in the file.
#[derive(Debug)]
pub(in crate::config) struct Entry<'a> {
    /// The table, for later errors.
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) backend: Option<At<&'a str>>,
    pub(in crate::config) route: Route,
}

/// Reads the routing settings.
pub(in crate::config) fn read<'a>(table: &Table<'a>) -> Routing<'a> {
    let protocols = [
        ("any", Protocol::Any),
        ("tls", Protocol::Tls),
        ("postgres", Protocol::Postgres),
        ("mysql", Protocol::Mysql),
        ("redis", Protocol::Redis),
    ];
    let protocol = table.choice("protocol", &protocols, &FOREIGN_PROTOCOLS);
    let has_no_greeting = match protocol {
        Some(protocol) => !protocol.begins_with_the_client(),
        None => table.value("protocol").is_none(),
    };
    let protocol = protocol.unwrap_or_default();
    let unrouted = [("backend", Unrouted::Backend), ("reject", Unrouted::Reject)];
    let policy = |key| table.choice(key, &unrouted, &[("default", "backend")]).unwrap_or_default();
    let entries = table.tables("route", Section::Route);
    for key in ["route", "no_sni", "unmatched"] {
        if let Some(value) = table.value(key)
            && has_no_greeting
        {
            let why = format!("{key} needs protocol = \"tls\" or \"postgres\"");
            let hint =
                "set protocol: only then is the first message read before a server is chosen";
            table.report(table.unusable(key, value.span, &why).hint(hint));
        }
    }
    Routing {
        protocol,
        routes: entries.into_iter().map(|entry| read_route(entry, protocol)).collect(),
        no_sni: policy("no_sni"),
        unmatched: policy("unmatched"),
    }
}

fn read_route<'a>(table: Table<'a>, protocol: Protocol) -> Entry<'a> {
    table.require(&["backend"]);
    let texts = |key| -> Vec<String> {
        table.strings(key).into_iter().map(|text| text.value.to_owned()).collect()
    };
    let sni = table.strings("sni").into_iter().filter_map(|name| pattern(&table, name)).collect();
    for key in ["user", "database"] {
        if let Some(value) = table.value(key)
            && protocol == Protocol::Tls
        {
            let why = format!("the {key} is sent inside TLS, where it can't be read");
            let hint = "use sni or alpn to route TLS connections";
            table.report(table.unusable(key, value.span, &why).hint(hint));
        }
    }
    let route = Route {
        sni,
        alpn: texts("alpn"),
        user: texts("user"),
        database: texts("database"),
        role: role(&table).unwrap_or(RoleWanted::Any),
        ..Route::default()
    };
    let backend = table.string("backend");
    table.refuse_unknown_keys();
    Entry { table, backend, route }
}

/// The role that servers must have.
pub(super) fn role(table: &Table<'_>) -> Option<RoleWanted> {
    let roles = [
        ("any", RoleWanted::Any),
        ("primary", RoleWanted::Primary),
        ("replica", RoleWanted::Replica),
        ("replica_or_primary", RoleWanted::ReplicaOrPrimary),
    ];
    table.choice("role", &roles, &FOREIGN_ROLES)
}

/// Reads `db.example.org`, or `*.example.org` for all names below it.
fn pattern(table: &Table<'_>, name: At<&str>) -> Option<NamePattern> {
    let plain = name.value.to_ascii_lowercase();
    let is_name = |name: &str| {
        let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !name.is_empty() && name.len() <= 255 && name.bytes().all(is_of_a_name)
    };
    let pattern = match plain.strip_prefix("*.") {
        Some(parent) if is_name(parent) => NamePattern::Below(parent.to_owned()),
        None if is_name(&plain) => NamePattern::Exact(plain),
        _ => {
            let why = "must be a name such as \"db.example.org\" or \"*.example.org\"";
            table.report(table.unusable("sni", name.span, why));
            return None;
        }
    };
    Some(pattern)
}
