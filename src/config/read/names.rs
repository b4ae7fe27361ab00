//! The reader of `resolver` in `[global]`.
//!
//! Not here: servers that are given by DNS name (`backend`), resolving (`control::servers::names`).

use std::net::SocketAddr;

use crate::config::text::table::{At, Table};
use crate::config::value::address;
use crate::config::value::lookup::Resolver;

/// The default port of DNS servers.
const DNS_PORT: u16 = 53;

/// Reads `resolver` of `[global]`.
pub(in crate::config) fn resolver(table: &Table<'_>) -> Resolver {
    let default = Resolver::default();
    let resolver = Resolver {
        servers: servers(table),
        timeout: table.duration("timeout").unwrap_or(default.timeout),
        hold: table.duration("hold").unwrap_or(default.hold),
    };
    table.refuse_unknown_keys();
    resolver
}

fn servers(table: &Table<'_>) -> Vec<SocketAddr> {
    let Some(value) = table.value("servers") else { return Vec::new() };
    let expected = "an array of IP addresses, as strings";
    let Some(array) = value.as_array() else {
        table.wrong_type("servers", &value, expected);
        return Vec::new();
    };
    let server = |text: &str| {
        let alone = || address::ip(text).map(|ip| SocketAddr::from((ip, DNS_PORT)));
        address::inet(text).or_else(alone).filter(|server| server.port() != 0)
    };
    let mut servers = Vec::new();
    for element in array {
        match element.as_str() {
            Some(At { value: text, span }) => match server(text) {
                Some(server) => servers.push(server),
                None => {
                    let why = "must be an IP address, with or without a port";
                    table.report(table.unusable("servers", span, why));
                }
            },
            None => table.wrong_type("servers", &element, expected),
        }
    }
    servers
}
