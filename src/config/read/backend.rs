//! The reader of one `[[backend]]` and its servers.
//!
//! Not here: whether names are unique (`lower`).

use std::iter;
use std::ops::RangeInclusive;
use std::time::Duration;

use ringlane_core::machine::Address;
use ringlane_core::settings::{
    self, Affinity, BalanceKind, HashKey, LoadBound, OrderedState, QueueSettings, RaceAfter,
};

use super::check;
use super::forwarding;
use super::sockets;
use crate::config::model::Watch;
use crate::config::text::report::{Diagnostic, quoted};
use crate::config::text::schema::Section;
use crate::config::text::table::{At, Table};
use crate::config::value::address::{self, ServerAddress};
use crate::config::value::lookup::{Name, SLOTS_ALL_MAX, SLOTS_MAX, SLOTS_SRV};

/// The largest weight of a server.
const WEIGHT_MAX: u32 = 1000;

/// Names of balance policies in other balancers, and ours.
const FOREIGN_BALANCES: [(&str, &str); 18] = [
    ("roundrobin", "round_robin"),
    ("rr", "round_robin"),
    ("static_rr", "round_robin"),
    ("weighted", "round_robin"),
    ("leastconn", "least_conn"),
    ("least_connections", "least_conn"),
    ("least_request", "least_conn"),
    ("random", "random_two"),
    ("p2c", "random_two"),
    ("ip_hash", "source"),
    ("source_ip", "source"),
    ("hash", "maglev"),
    ("sticky", "source"),
    ("consistent", "ring_hash"),
    ("consistent_hash", "ring_hash"),
    ("ketama", "ring_hash"),
    ("ringhash", "ring_hash"),
    ("least_bytes", "least_bandwidth"),
];

/// Names of hash keys in other balancers, and ours.
const FOREIGN_KEYS: [(&str, &str); 7] = [
    ("ssl_sni", "sni"),
    ("server_name", "sni"),
    ("source_ip", "client_ip"),
    ("ip", "client_ip"),
    ("src", "client_ip"),
    ("remote_addr", "client_ip"),
    ("proxy_protocol_addr", "client_ip"),
];

/// Names of states in other balancers, and ours.
const FOREIGN_STATES: [(&str, &str); 8] = [
    ("up", "ready"),
    ("enabled", "ready"),
    ("draining", "drain"),
    ("down", "maint"),
    ("disabled", "maint"),
    ("off", "maint"),
    ("stopped", "maint"),
    ("maintenance", "maint"),
];

/// Range of `bounded_load`, in hundredths of the average load.
const LOAD_BOUNDS: RangeInclusive<u32> = 105..=1000;

/// Default `ttl` of `affinity`.
const AFFINITY_TTL: Duration = Duration::from_secs(30 * 60);

/// Default and largest `size` of `affinity`; an entry takes 8 bytes.
const AFFINITY_SIZE: u32 = 100_000;
const AFFINITY_SIZE_MAX: u32 = 100_000_000;

/// Default and largest `size` of `queue`.
const QUEUE_SIZE: u32 = 1024;
const QUEUE_SIZE_MAX: u32 = 1_000_000;

/// One `[[backend]]`, as it is in the file.
#[derive(Debug)]
pub(in crate::config) struct BackendTable<'a> {
    /// The table, for later errors.
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) name: Option<At<&'a str>>,
    pub(in crate::config) servers: Vec<ServerTable<'a>>,
    /// How its servers are checked.
    pub(in crate::config) watch: Watch,
    /// Whether its check reports roles.
    pub(in crate::config) sees_roles: bool,
    /// All settings that need no other table; `lower` fills in the rest.
    pub(in crate::config) settings: settings::Backend,
}

/// One entry of `server`, as it is in the file.
#[derive(Debug)]
pub(in crate::config) struct ServerTable<'a> {
    /// The table, for later errors.
    pub(in crate::config) table: Table<'a>,
    /// The name, or the address as it was written.
    pub(in crate::config) name: Option<At<&'a str>>,
    pub(in crate::config) place: Option<ServerAddress>,
    /// Number of servers that it stands for.
    pub(in crate::config) slots: u32,
    pub(in crate::config) weight: u32,
    pub(in crate::config) backup: bool,
    pub(in crate::config) max_connections: u32,
    pub(in crate::config) state: OrderedState,
    /// The address at which it is checked, if it has one of its own.
    pub(in crate::config) check_address: Option<Address>,
}

/// Reads one backend; `slots_left` is the number of slots that are left for all DNS names.
pub(in crate::config) fn read<'a>(mut table: Table<'a>, slots_left: &mut u32) -> BackendTable<'a> {
    let name = table.name("name");
    if let Some(name) = &name {
        table.call(format!("backend {}", quoted(name.value)));
    }
    table.require(&["name", "server"]);
    let servers = servers(&table, slots_left);
    let mut watch = check::watch(&table);
    if table.value("check").is_none() {
        servers.iter().for_each(|server| refuse_check_address(&server.table));
    }
    // A check that could not be read was reported already.
    let sees_roles = match &watch.check {
        Some(check) => check.kind.sees_roles(),
        None => table.value("check").is_some(),
    };
    for key in ["max_lag", "on_lag", "on_conflict", "on_role_change"] {
        refuse_without(&table, key, sees_roles, "a check of kind postgres, mysql or redis");
    }
    let own = servers.iter().map(|s| iter::repeat_n(s.check_address.clone(), s.slots as usize));
    watch.addresses = own.flatten().collect();
    let defaults = settings::Backend::default();
    let settings = settings::Backend {
        balance: balance(&table),
        hash: key(&table, "hash"),
        affinity: affinity(&table),
        congestion: sockets::congestion(&table),
        tcp: sockets::tcp(&table),
        source: sockets::source(&table),
        send_proxy: forwarding::send_proxy(&table),
        queue: queue(&table, &servers),
        race_after: race_after(&table),
        drain_idle: table.duration("drain_idle").unwrap_or(defaults.drain_idle),
        bandwidth: forwarding::bandwidth(&table),
        mirror: forwarding::mirror(&table),
        ..defaults
    };
    let backend = BackendTable { name, servers, watch, sees_roles, settings, table };
    backend.table.refuse_unknown_keys();
    backend
}

fn balance(table: &Table<'_>) -> BalanceKind {
    let bound = table.hundredths("bounded_load", LOAD_BOUNDS).map(|percent| LoadBound { percent });
    let balances = [
        ("round_robin", BalanceKind::RoundRobin),
        ("least_conn", BalanceKind::LeastConn),
        ("random_two", BalanceKind::RandomTwo),
        ("source", BalanceKind::Source),
        ("maglev", BalanceKind::Maglev(bound)),
        ("ring_hash", BalanceKind::RingHash(bound)),
        ("least_bandwidth", BalanceKind::LeastBandwidth),
        ("first", BalanceKind::First),
    ];
    let balance = table.choice("balance", &balances, &FOREIGN_BALANCES).unwrap_or_default();
    let has_bounds = matches!(balance, BalanceKind::Maglev(_) | BalanceKind::RingHash(_));
    refuse_without(table, "bounded_load", has_bounds, "balance = \"maglev\" or \"ring_hash\"");
    let is_by_hash = balance.is_by_hash();
    refuse_without(table, "hash", is_by_hash, "balance = \"maglev\", \"ring_hash\" or \"source\"");
    balance
}

/// Records an error for a key that is only valid with another setting, unless that is set.
fn refuse_without(table: &Table<'_>, key: &'static str, has_it: bool, what: &str) {
    if let Some(value) = table.value(key)
        && !has_it
    {
        let why = format!("only valid with {what}");
        table.report(table.unusable(key, value.span, &why).hint("remove the key"));
    }
}

/// The hash key that identifies a client.
fn key(table: &Table<'_>, key: &'static str) -> HashKey {
    let keys = [
        ("client_ip", HashKey::ClientIp),
        ("client", HashKey::Client),
        ("sni", HashKey::Sni),
        ("user", HashKey::User),
    ];
    table.choice(key, &keys, &FOREIGN_KEYS).unwrap_or_default()
}

fn affinity(table: &Table<'_>) -> Option<Affinity> {
    let inner = table.table("affinity", Section::Affinity)?;
    let affinity = Affinity {
        key: key(&inner, "key"),
        ttl: inner.duration("ttl").unwrap_or(AFFINITY_TTL),
        size: inner.integer("size", 1..=AFFINITY_SIZE_MAX).unwrap_or(AFFINITY_SIZE),
    };
    inner.refuse_unknown_keys();
    Some(affinity)
}

/// A time, or `"p95"`.
fn race_after(table: &Table<'_>) -> Option<RaceAfter> {
    let word = table.value("race_after").and_then(|value| value.as_str());
    if word.is_some_and(|word| word.value == "p95") {
        return Some(RaceAfter::P95);
    }
    table.duration("race_after").map(RaceAfter::Time)
}

/// Without `queue`, sessions still wait if a server has a limit.
fn queue(table: &Table<'_>, servers: &[ServerTable<'_>]) -> Option<QueueSettings> {
    let default = QueueSettings { size: QUEUE_SIZE, timeout: None };
    let Some(inner) = table.table("queue", Section::Queue) else {
        let limited = servers.iter().any(|server| server.max_connections < u32::MAX);
        return limited.then_some(default);
    };
    let queue = QueueSettings {
        size: inner.integer("size", 0..=QUEUE_SIZE_MAX).unwrap_or(QUEUE_SIZE),
        timeout: inner.duration("timeout"),
    };
    inner.refuse_unknown_keys();
    Some(queue)
}

fn servers<'a>(table: &Table<'a>, slots_left: &mut u32) -> Vec<ServerTable<'a>> {
    let entries = table.tables("server", Section::Server);
    entries.into_iter().map(|entry| read_server(entry, &table.called(), slots_left)).collect()
}

fn read_server<'a>(mut table: Table<'a>, backend: &str, slots_left: &mut u32) -> ServerTable<'a> {
    let name = table.name("name");
    let text = table.string("address");
    if let Some(At { value, span }) = text.as_ref().filter(|_| table.value("name").is_none())
        && value.chars().any(char::is_control)
    {
        let why = "has control characters, so it can't be the server's name";
        let hint = "set name, as logs and metrics show it";
        table.report(table.unusable("address", span.clone(), why).hint(hint));
    }
    let name = name.or_else(|| text.clone());
    if let Some(name) = &name {
        table.call(format!("server {} of {backend}", quoted(name.value)));
    }
    table.require(&["address"]);
    let place = text.and_then(|text| read_address(&table, text));
    // Weights of SRV records are scaled to this; a larger range is more precise.
    let (slots, weight) = match place {
        Some(ServerAddress::Named(Name::Srv(_))) => (SLOTS_SRV, WEIGHT_MAX),
        _ => (1, 1),
    };
    if !matches!(place, Some(ServerAddress::Named(_)) | None) {
        refuse_without(&table, "slots", false, "an address given by DNS name");
    }
    let mut slots = table.integer("slots", 1..=SLOTS_MAX).unwrap_or(slots);
    if slots > 1 {
        slots = within(&table, slots, slots_left);
    }
    refuse_without(&table, "check_address", slots == 1, "slots = 1");
    let states = [
        ("ready", OrderedState::Ready),
        ("drain", OrderedState::Drain),
        ("maint", OrderedState::Maint),
    ];
    let server = ServerTable {
        place,
        slots,
        check_address: check::address(&table, "check_address"),
        weight: table.integer("weight", 0..=WEIGHT_MAX).unwrap_or(weight),
        backup: table.boolean("backup").unwrap_or(false),
        max_connections: table.integer("max_connections", 1..=u32::MAX).unwrap_or(u32::MAX),
        state: table.choice("state", &states, &FOREIGN_STATES).unwrap_or_default(),
        name,
        table,
    };
    server.table.refuse_unknown_keys();
    server
}

/// Records an error for `check_address` without a check.
fn refuse_check_address(server: &Table<'_>) {
    if let Some(value) = server.value("check_address") {
        let why = "the backend has no check";
        let hint = "add check = { kind = \"tcp\" } to the backend, or remove the key";
        server.report(server.unusable("check_address", value.span, why).hint(hint));
    }
}

/// Takes this many slots, if they are left; otherwise records an error.
fn within(table: &Table<'_>, slots: u32, left: &mut u32) -> u32 {
    if let Some(rest) = left.checked_sub(slots) {
        *left = rest;
        return slots;
    }
    let span = table.value("address").map_or(0..0, |value| value.span);
    let title = format!("{} exceeds the limit on slots", table.called());
    table.report(
        Diagnostic::at(span, title)
            .label(format!("all DNS names together may have at most {SLOTS_ALL_MAX} slots"))
            .hint("lower slots here or of other servers"),
    );
    1
}

fn read_address(table: &Table<'_>, text: At<&str>) -> Option<ServerAddress> {
    let address = address::server(text.value);
    address.map_err(|problem| table.refuse("address", text.span, problem)).ok()
}
