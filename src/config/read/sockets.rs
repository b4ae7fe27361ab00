//! The reader of socket options: `tcp` and `congestion` of both sides, and `source` of a backend.
//!
//! Not here: whether the kernel accepts them (`control::start::probe`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ringlane_core::machine::{
    Congestion, Keepalive, Source, SourceAddress, SourcePorts, TcpOptions,
};

use crate::config::text::schema::Section;
use crate::config::text::table::{At, Table};
use crate::config::value::address;

/// Largest idle time and interval of keepalive that the kernel accepts.
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

/// Largest number of keepalive probes that the kernel accepts.
const KEEPALIVE_COUNT_MAX: u32 = 127;

/// Largest TCP_USER_TIMEOUT: milliseconds in 31 bits.
const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Longest name of a congestion control algorithm in the kernel, in bytes.
const CONGESTION_NAME_MAX: usize = 15;

/// Largest DSCP code point (RFC 2474).
const DSCP_MAX: u8 = 63;

/// Names of code points (RFC 2474, 2597, 3246, 5865, 8622), except the numbered ones.
const DSCP_NAMES: [(&str, u8); 4] = [("default", 0), ("le", 1), ("va", 44), ("ef", 46)];

/// Reads the TCP options of one side.
pub(in crate::config) fn tcp(table: &Table<'_>) -> TcpOptions {
    let Some(inner) = table.table("tcp", Section::Tcp) else { return TcpOptions::default() };
    let options = TcpOptions {
        keepalive: keepalive(&inner),
        user_timeout: duration(&inner, "user_timeout", 1, USER_TIMEOUT_MAX),
        fast_open: inner.boolean("fast_open").unwrap_or(false),
        mark: inner.integer("mark", 1..=u32::MAX),
        dscp: dscp(&inner),
    };
    inner.refuse_unknown_keys();
    options
}

/// Reads `true`, `false`, or a table with times.
fn keepalive(table: &Table<'_>) -> Option<Keepalive> {
    let value = table.value("keepalive")?;
    if let Some(wanted) = value.as_boolean() {
        return wanted.then(Keepalive::default);
    }
    let inner = table.table("keepalive", Section::Keepalive)?;
    let keepalive = Keepalive {
        idle: duration(&inner, "idle", 1000, KEEPALIVE_MAX),
        interval: duration(&inner, "interval", 1000, KEEPALIVE_MAX),
        count: inner.integer("count", 1..=KEEPALIVE_COUNT_MAX),
    };
    inner.refuse_unknown_keys();
    Some(keepalive)
}

/// Reads a duration in whole steps of so many milliseconds, up to a longest one.
fn duration(
    table: &Table<'_>,
    key: &'static str,
    step_ms: u128,
    longest: Duration,
) -> Option<Duration> {
    let duration = table.duration(key)?;
    let why = if duration > longest {
        format!("the kernel allows at most {} seconds", longest.as_secs())
    } else if !duration.as_millis().is_multiple_of(step_ms) {
        "the kernel accepts whole seconds only".to_owned()
    } else {
        return Some(duration);
    };
    let span = table.value(key)?.span;
    table.report(table.unusable(key, span, &why));
    None
}

/// Reads a code point by name or number.
fn dscp(table: &Table<'_>) -> Option<u8> {
    let value = table.value("dscp")?;
    let named = value.as_str();
    let number = value.as_integer();
    let dscp = match (number, &named) {
        (Some(number), _) => number.and_then(|number| u8::try_from(number).ok()),
        (None, Some(At { value: name, .. })) => code_point(&name.to_ascii_lowercase()),
        (None, None) => {
            table.wrong_type("dscp", &value, "a name or a number from 0 to 63");
            return None;
        }
    };
    let dscp = dscp.filter(|dscp| *dscp <= DSCP_MAX);
    if dscp.is_none() {
        let why = "must be a number from 0 to 63, or a name";
        let hint = "valid names: default, le, cs0 to cs7, af11 to af43, va and ef";
        table.report(table.unusable("dscp", value.span, why).hint(hint));
    }
    dscp
}

fn code_point(name: &str) -> Option<u8> {
    if let Some((_, dscp)) = DSCP_NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*dscp);
    }
    let digit = |c: char, range: RangeInclusive<u32>| {
        c.to_digit(10)
            .filter(|digit| range.contains(digit))
            .and_then(|digit| u8::try_from(digit).ok())
    };
    match name.chars().collect::<Vec<_>>()[..] {
        ['c', 's', class] => Some(digit(class, 0..=7)? << 3),
        ['a', 'f', class, drop] => Some(digit(class, 1..=4)? << 3 | digit(drop, 1..=3)? << 1),
        _ => None,
    }
}

/// Reads the congestion control of one side; `auto` by default.
pub(super) fn congestion(table: &Table<'_>) -> Congestion {
    let Some(At { value: name, span }) = table.string("congestion") else {
        return Congestion::Auto;
    };
    let fits = (1..=CONGESTION_NAME_MAX).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match name {
        "auto" => Congestion::Auto,
        "host" => Congestion::Host,
        _ if fits => Congestion::Named(name.to_owned()),
        _ => {
            let why = "must be auto, host or the name of an algorithm, such as cubic";
            table.report(table.unusable("congestion", span, why).hint(
                "/proc/sys/net/ipv4/tcp_available_congestion_control lists the available ones",
            ));
            Congestion::Auto
        }
    }
}

/// Reads the source addresses and ports of a backend's connections.
pub(in crate::config) fn source(table: &Table<'_>) -> Source {
    let fixed = addresses(table);
    let client = transparent(table);
    let taken: &[_] = match client {
        Some(SourceAddress::ClientAndPort) => &[("source", "addresses"), ("source_ports", "ports")],
        Some(_) => &[("source", "addresses")],
        None => &[],
    };
    for (key, what) in taken {
        if let Some(value) = table.value(key) {
            let why = format!("with transparent, the clients' {what} are used");
            table.report(table.unusable(key, value.span, &why).hint("remove one of the two"));
        }
    }
    Source { address: client.or(fixed).unwrap_or_default(), ports: ports(table) }
}

/// Reads one address, or one per family.
fn addresses(table: &Table<'_>) -> Option<SourceAddress> {
    let value = table.value("source")?;
    let expected = "an IP address, or an array with one per family, as strings";
    let texts = match (value.as_str(), value.as_array()) {
        (Some(text), _) => vec![text],
        (None, Some(array)) if array.iter().all(|text| text.as_str().is_some()) => {
            array.iter().filter_map(|text| text.as_str()).collect()
        }
        _ => {
            table.wrong_type("source", &value, expected);
            return None;
        }
    };
    let (mut v4, mut v6): (Option<Ipv4Addr>, Option<Ipv6Addr>) = (None, None);
    for At { value: text, span } in texts {
        let twice = match address::ip(text) {
            Some(ip) if ip.is_unspecified() || ip.is_multicast() => {
                let why = "not usable as a source address";
                table.report(
                    table.unusable("source", span, why).hint("use an address of this host"),
                );
                continue;
            }
            Some(IpAddr::V4(ip)) => v4.replace(ip).is_some(),
            Some(IpAddr::V6(ip)) => v6.replace(ip).is_some(),
            None => {
                let why = "must be an IP address, without a port";
                let hint = "for example: source = \"10.0.0.5\"; use source_ports for ports";
                table.report(table.unusable("source", span, why).hint(hint));
                continue;
            }
        };
        if twice {
            table.report(table.unusable("source", span, "only one address per family is allowed"));
        }
    }
    Some(SourceAddress::Fixed(v4, v6))
}

/// Reads `true`, `false`, `"address"` or `"address_and_port"`.
fn transparent(table: &Table<'_>) -> Option<SourceAddress> {
    let value = table.value("transparent")?;
    if let Some(wanted) = value.as_boolean() {
        return wanted.then_some(SourceAddress::Client);
    }
    if value.as_str().is_none() {
        table.wrong_type("transparent", &value, "true, false, \"address\" or \"address_and_port\"");
        return None;
    }
    let ways =
        [("address", SourceAddress::Client), ("address_and_port", SourceAddress::ClientAndPort)];
    table.choice("transparent", &ways, &[("client", "address_and_port"), ("clientip", "address")])
}

/// Reads a range of ports such as `"20000-29999"`.
fn ports(table: &Table<'_>) -> Option<SourcePorts> {
    let At { value: text, span } = table.string("source_ports")?;
    let range = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    match range {
        Some((first, last)) if 0 < first && first <= last => {
            Some(SourcePorts { first, last, by_kernel: false })
        }
        _ => {
            let why = "must be two ports from 1 to 65535, the lower one first";
            let hint = format!("for example: {}", Section::Backend.example("source_ports"));
            table.report(table.unusable("source_ports", span, why).hint(hint));
            None
        }
    }
}
