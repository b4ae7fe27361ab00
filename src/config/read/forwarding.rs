//! The reader of `bandwidth`, `mirror` and `send_proxy` of a `[[backend]]`.
//!
//! Not here: forwarding itself (`ringlane_l4`).

use ringlane_core::machine::Address;
use ringlane_core::settings::{Bandwidth, Mirror, ProxyDetails, SendProxy};

use crate::config::text::schema::Section;
use crate::config::text::synonyms;
use crate::config::text::table::{At, Table};
use crate::config::value::address::{self, ServerAddress};
use crate::config::value::bitrate;

/// Other spellings of the versions of the PROXY protocol.
const FOREIGN_VERSIONS: [(&str, &str); 4] =
    [("1", "v1"), ("2", "v2"), ("text", "v1"), ("binary", "v2")];

/// Smallest share of sessions to mirror: one in a million.
const SHARE_MIN: f64 = 1e-6;

/// Reads `"v1"`, `"v2"`, or a table with version and details.
pub(in crate::config) fn send_proxy(table: &Table<'_>) -> Option<SendProxy> {
    let is_table = table.value("send_proxy").is_some_and(|value| value.is_table());
    if !is_table {
        return version(table, "send_proxy");
    }
    let inner = table.table("send_proxy", Section::SendProxy)?;
    inner.require(&["version"]);
    let version = version(&inner, "version");
    let details = details(&inner);
    if let (Some(SendProxy::V1), Some(value)) = (version, inner.value("details")) {
        let why = "version 1 carries addresses only";
        inner.report(inner.unusable("details", value.span, why).hint("use version = \"v2\""));
    }
    inner.refuse_unknown_keys();
    version.map(|version| match version {
        SendProxy::V1 => SendProxy::V1,
        SendProxy::V2(_) => SendProxy::V2(details),
    })
}

fn version(table: &Table<'_>, key: &'static str) -> Option<SendProxy> {
    let versions = [("v1", SendProxy::V1), ("v2", SendProxy::V2(ProxyDetails::default()))];
    table.choice(key, &versions, &FOREIGN_VERSIONS)
}

fn details(table: &Table<'_>) -> ProxyDetails {
    let mut details = ProxyDetails::default();
    for At { value: word, span } in table.strings("details") {
        match word {
            "authority" => details.authority = true,
            "alpn" => details.alpn = true,
            "unique_id" => details.unique_id = true,
            _ => {
                let names = ["authority", "alpn", "unique_id"];
                let why = format!("must be {}", synonyms::listed(&names));
                table.report(table.unusable("details", span, &why));
            }
        }
    }
    details
}

pub(in crate::config) fn bandwidth(table: &Table<'_>) -> Bandwidth {
    let Some(inner) = table.table("bandwidth", Section::Bandwidth) else {
        return Bandwidth::default();
    };
    let rate = |key| {
        let At { value, span } = inner.string(key)?;
        let rate = bitrate::parse(value);
        rate.map_err(|why| inner.report(inner.unusable(key, span, &why))).ok()
    };
    let bandwidth =
        Bandwidth { per_session: rate("per_session"), per_backend: rate("per_backend") };
    inner.refuse_unknown_keys();
    bandwidth
}

pub(in crate::config) fn mirror(table: &Table<'_>) -> Option<Mirror> {
    let inner = table.table("mirror", Section::Mirror)?;
    inner.require(&["server"]);
    let server = inner.string("server").and_then(|text| mirror_server(&inner, &text));
    let share = inner.value("share").map_or(Some(1.0), |value| {
        let share = value.as_number().filter(|share| (SHARE_MIN..=1.0).contains(share));
        if share.is_none() {
            let why = "must be the share of sessions, from 0.000001 to 1";
            inner.report(inner.unusable("share", value.span, why));
        }
        share
    });
    inner.refuse_unknown_keys();
    // In range: from one to a million.
    Some(Mirror { server: server?, per_million: (share? * 1e6).round() as u32 })
}

fn mirror_server(table: &Table<'_>, text: &At<&str>) -> Option<Address> {
    match address::server(text.value) {
        Ok(ServerAddress::Fixed(address)) => return Some(address),
        Ok(ServerAddress::Named(_)) => {
            let why = "a mirror needs an IP address with a port, or unix:/path";
            table.report(table.unusable("server", text.span.clone(), why));
        }
        Err(problem) => table.refuse("server", text.span.clone(), problem),
    }
    None
}
