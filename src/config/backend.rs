//! The reader of one `[[backend]]` and its servers.
//!
//! Not here: whether names are unique (`lower`).

use ringlane_core::snapshot::{Address, BalanceKind, Congestion, SendProxy};

use super::address::{self, Names, Problem};
use super::check::{self, Watch};
use super::report::quoted;
use super::table::{At, Table};
use super::words::Place;

/// The largest weight of a server.
const WEIGHT_MAX: u32 = 1000;

/// What other balancers call the ways to choose.
const FOREIGN_BALANCES: [(&str, &str); 13] = [
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
    ("hash", "source"),
    ("sticky", "source"),
];

/// Other ways to write the versions of the PROXY protocol.
const FOREIGN_VERSIONS: [(&str, &str); 4] =
    [("1", "v1"), ("2", "v2"), ("text", "v1"), ("binary", "v2")];

/// One `[[backend]]` as the file has it.
#[derive(Debug)]
pub(super) struct Backend<'a> {
    /// The table, for later complaints.
    pub(super) table: Table<'a>,
    pub(super) name: Option<At<&'a str>>,
    pub(super) balance: BalanceKind,
    pub(super) congestion: Congestion,
    pub(super) send_proxy: Option<SendProxy>,
    pub(super) servers: Vec<Server<'a>>,
    /// How they are watched.
    pub(super) watch: Watch,
}

/// One entry of `server` as the file has it.
#[derive(Debug)]
pub(super) struct Server<'a> {
    /// The given name, or the address as it was written.
    pub(super) name: Option<At<&'a str>>,
    pub(super) address: Option<Address>,
    pub(super) weight: u32,
    pub(super) backup: bool,
}

/// Reads one backend.
pub(super) fn read<'a>(mut table: Table<'a>, names: &mut Names) -> Backend<'a> {
    let name = table.name("name");
    if let Some(name) = &name {
        table.call(format!("backend {}", quoted(name.value)));
    }
    table.require(&["name", "server"]);
    let balances = [
        ("round_robin", BalanceKind::RoundRobin),
        ("least_conn", BalanceKind::LeastConn),
        ("random_two", BalanceKind::RandomTwo),
        ("source", BalanceKind::Source),
    ];
    let versions = [("v1", SendProxy::V1), ("v2", SendProxy::V2)];
    let backend = Backend {
        name,
        balance: table.choice("balance", &balances, &FOREIGN_BALANCES).unwrap_or_default(),
        congestion: table.congestion(),
        send_proxy: table.choice("send_proxy", &versions, &FOREIGN_VERSIONS),
        servers: servers(&table, names),
        watch: check::watch(&table),
        table,
    };
    backend.table.refuse_unknown_keys();
    backend
}

fn servers<'a>(table: &Table<'a>, names: &mut Names) -> Vec<Server<'a>> {
    let entries = table.tables("server", Place::Server);
    entries.into_iter().map(|entry| read_server(entry, table.called(), names)).collect()
}

fn read_server<'a>(mut table: Table<'a>, backend: &str, names: &mut Names) -> Server<'a> {
    table.call(format!("{} of {backend}", table.called()));
    let name = table.name("name");
    let text = table.string("address");
    let name = name.or_else(|| text.clone());
    if let Some(name) = &name {
        table.call(format!("server {} of {backend}", quoted(name.value)));
    }
    table.require(&["address"]);
    let server = Server {
        address: text.and_then(|text| read_address(&table, text, names)),
        weight: table.integer("weight", 0..=WEIGHT_MAX).unwrap_or(1),
        backup: table.boolean("backup").unwrap_or(false),
        name,
    };
    table.refuse_unknown_keys();
    server
}

fn read_address(table: &Table<'_>, text: At<&str>, names: &mut Names) -> Option<Address> {
    match address::server(text.value, names) {
        Ok(address) => Some(address),
        Err(Problem { why, hint }) => {
            let diagnostic = table.unusable("address", text.span, &why);
            table.report(match hint {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            });
            None
        }
    }
}
