//! The reader of one `[[frontend]]`.
//!
//! Not here: whether its backend exists and its addresses are bound only once (`lower`).

use std::ops::RangeInclusive;

use ipnet::IpNet;
use ringlane_core::machine::Address;
use ringlane_core::settings::{
    self, AcceptProxy, ClientLimits, ClientRate, Path, Priority, Refusal, Timeout,
};

use super::route;
use super::sockets;
use crate::config::text::report::Diagnostic;
use crate::config::text::requirement::Requirement;
use crate::config::text::schema::Section;
use crate::config::text::table::{At, Table};
use crate::config::value::address;

/// Names of modes in other balancers, and ours.
const FOREIGN_MODES: [(&str, &str); 3] = [("stream", "tcp"), ("layer4", "tcp"), ("l4", "tcp")];

/// Names of data paths in other balancers, and ours.
const FOREIGN_PATHS: [(&str, &str); 3] =
    [("zero_copy", "splice"), ("kernel", "splice"), ("read_write", "copy")];

/// Range of `rate` of `per_client`, in sessions per 100 seconds.
const CLIENT_RATES: RangeInclusive<u32> = 1..=1_000_000;

/// Largest `burst` of `per_client`.
const CLIENT_BURST_MAX: u32 = 100_000;

/// Default and largest `size` of `per_client`; a client takes 16 bytes.
const CLIENTS: u32 = 100_000;
const CLIENTS_MAX: u32 = 100_000_000;

/// Largest `rate` of a frontend.
const RATE_MAX: u32 = 10_000_000;

/// Names of ways to refuse in other balancers, and ours.
const FOREIGN_REFUSALS: [(&str, &str); 5] = [
    ("rst", "reset"),
    ("silent_drop", "reset"),
    ("reject", "close"),
    ("fin", "close"),
    ("deny", "close"),
];

/// One `[[frontend]]`, as it is in the file.
#[derive(Debug)]
pub(in crate::config) struct FrontendTable<'a> {
    /// The table, for later errors.
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) name: Option<At<&'a str>>,
    pub(in crate::config) bind: Vec<At<Address>>,
    pub(in crate::config) backend: Option<At<&'a str>>,
    /// Routes with the names of their backends; `lower` resolves them.
    pub(in crate::config) routes: Vec<route::Entry<'a>>,
    /// All settings that need no other table; `lower` fills in the rest.
    pub(in crate::config) settings: settings::Frontend,
}

/// Reads one frontend.
pub(in crate::config) fn read(mut table: Table<'_>) -> FrontendTable<'_> {
    let name = table.name("name");
    if let Some(name) = &name {
        table.call(format!("frontend {}", crate::config::text::report::quoted(name.value)));
    }
    table.require(&["name", "bind", "backend"]);
    check_mode(&table);
    let paths = [("auto", Path::Auto), ("copy", Path::Copy), ("splice", Path::Splice)];
    let priorities =
        [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];
    let routing = route::read(&table);
    let settings = settings::Frontend {
        max_connections: table.integer("max_connections", 1..=u32::MAX).unwrap_or(u32::MAX),
        timeout: timeout(&table),
        congestion: sockets::congestion(&table),
        tcp: sockets::tcp(&table),
        transparent: table.boolean("transparent").unwrap_or(false),
        path: table.choice("path", &paths, &FOREIGN_PATHS).unwrap_or_default(),
        role: route::role(&table).unwrap_or_default(),
        accept_proxy: accept_proxy(&table),
        protocol: routing.protocol,
        no_sni: routing.no_sni,
        unmatched: routing.unmatched,
        rate: table.integer("rate", 1..=RATE_MAX),
        per_client: per_client(&table),
        priority: table.choice("priority", &priorities, &[]).unwrap_or_default(),
        ..settings::Frontend::default()
    };
    let frontend = FrontendTable {
        name,
        bind: bind(&table),
        backend: table.string("backend"),
        routes: routing.routes,
        settings,
        table,
    };
    frontend.table.refuse_unknown_keys();
    frontend
}

/// Checks `mode`: this version has one; `udp` and `http` get errors of their own.
fn check_mode(table: &Table<'_>) {
    let mode = table.value("mode").and_then(|value| value.as_str());
    if let Some(At { value: mode @ ("udp" | "http"), span }) = mode {
        let why = "this version supports only tcp";
        let hint = match mode {
            "http" => "mode = \"tcp\" also works for HTTP, without inspecting it",
            _ => "remove this frontend",
        };
        table.report(table.unusable("mode", span, why).hint(hint));
        return;
    }
    let _: Option<()> = table.choice("mode", &[("tcp", ())], &FOREIGN_MODES);
}

fn bind(table: &Table<'_>) -> Vec<At<Address>> {
    let read = |At { value: text, span }: At<&str>| match address::listener(text) {
        Ok(value) => {
            if let Address::Unix(path) = &value {
                table.want(span.clone(), Requirement::SocketFolder(path.clone()));
            }
            Some(At { value, span })
        }
        Err(problem) => {
            table.refuse("bind", span, problem);
            None
        }
    };
    table.strings("bind").into_iter().filter_map(read).collect()
}

/// Reads `true`, or a table with the trusted networks.
fn accept_proxy(table: &Table<'_>) -> Option<AcceptProxy> {
    let value = table.value("accept_proxy")?;
    let mut accept = AcceptProxy { trusted: Vec::new(), timeout: Timeout::default().greeting };
    if let Some(accepted) = value.as_boolean() {
        return accepted.then_some(accept);
    }
    let inner = table.table("accept_proxy", Section::AcceptProxy)?;
    accept.timeout = inner.duration("timeout").unwrap_or(accept.timeout);
    inner.require(&["trusted"]);
    accept.trusted = networks(&inner, "trusted");
    inner.refuse_unknown_keys();
    Some(accept)
}

/// Reads an array of networks; a single address is a network of one.
fn networks(table: &Table<'_>, key: &'static str) -> Vec<IpNet> {
    let mut networks = Vec::new();
    let Some(value) = table.value(key) else { return networks };
    let Some(array) = value.as_array() else {
        table.wrong_type(key, &value, "an array of networks, as strings");
        return networks;
    };
    for net in array {
        let Some(At { value: text, span }) = net.as_str() else {
            table.wrong_type(key, &net, "an array of networks, as strings");
            continue;
        };
        match address::network(text) {
            Some(net) => {
                if net.addr() != net.network() {
                    let title =
                        format!("{net} in {} is wider than it looks", table.key_called(key));
                    let label = format!("this matches all of {}", net.trunc());
                    let hint =
                        format!("write {}, or {} for a single address", net.trunc(), net.addr());
                    table.report(Diagnostic::at(span, title).label(label).hint(hint).warning());
                }
                networks.push(net);
            }
            None => {
                let why = "must be a network such as 10.0.0.0/8, or an IP address";
                table.report(table.unusable(key, span, why));
            }
        }
    }
    networks
}

/// Reads the limits per client.
fn per_client(table: &Table<'_>) -> Option<ClientLimits> {
    let inner = table.table("per_client", Section::PerClient)?;
    let refusals = [("reset", Refusal::Reset), ("close", Refusal::Close)];
    let rate = inner.hundredths("rate", CLIENT_RATES);
    let rate = rate.map(|per_100_seconds| ClientRate { per_100_seconds });
    // By default, the sessions of one second may arrive at once.
    let burst = rate.map_or(1, |rate| rate.per_100_seconds.div_ceil(100));
    let limits = ClientLimits {
        max_connections: inner.integer("max_connections", 1..=u32::MAX).unwrap_or(u32::MAX),
        rate,
        burst: inner.integer("burst", 1..=CLIENT_BURST_MAX).unwrap_or(burst),
        allow: networks(&inner, "allow"),
        size: inner.integer("size", 1..=CLIENTS_MAX).unwrap_or(CLIENTS),
        refusal: inner.choice("refuse", &refusals, &FOREIGN_REFUSALS).unwrap_or_default(),
    };
    if let Some(value) = table.value("per_client")
        && inner.value("max_connections").is_none()
        && inner.value("rate").is_none()
    {
        let hint = "set max_connections, rate or both";
        table.report(table.unusable("per_client", value.span, "this sets no limit").hint(hint));
    }
    inner.refuse_unknown_keys();
    Some(limits)
}

fn timeout(table: &Table<'_>) -> Timeout {
    let mut timeout = Timeout::default();
    let Some(inner) = table.table("timeout", Section::Timeout) else { return timeout };
    let duration = |key, otherwise| inner.duration(key).unwrap_or(otherwise);
    timeout.greeting = duration("greeting", timeout.greeting);
    timeout.connect = duration("connect", timeout.connect);
    // Read only once, so that an error is reported only once.
    let idle = inner.duration("idle");
    timeout.client = duration("client", idle.unwrap_or(timeout.client));
    timeout.server = duration("server", idle.unwrap_or(timeout.server));
    timeout.fin = inner.duration("fin");
    inner.refuse_unknown_keys();
    timeout
}
