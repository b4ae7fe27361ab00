//! The reader of the TLS settings of a check.
//!
//! Not here: the handshake (`control::servers::checks::tls`). A check of kind `tls` or `http`
//! verifies the certificate unless `verify = false`. A check of a database does what libpq does:
//! without `ca` nothing is verified, and without `server_name` the name is not verified (except for
//! MySQL).

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use crate::config::model::{Tls, Trust};
use crate::config::text::requirement::Requirement;
use crate::config::text::table::{At, Table};
use crate::config::value::address::absolute_path;

/// Longest name of a protocol in bytes (RFC 7301, section 3.1).
const PROTOCOL_MAX: usize = 255;

/// TLS settings of a check that always uses TLS.
pub(in crate::config) fn always(table: &Table<'_>) -> Tls {
    let verify = table.boolean("verify").unwrap_or(true);
    if let Some(value) = table.value("ca")
        && !verify
    {
        let diagnostic = table.unusable("ca", value.span, "has no effect with verify = false");
        table.report(diagnostic.hint("remove one of the two"));
    }
    Tls {
        server_name: server_name(table),
        ca: ca(table),
        trust: if verify { Trust::Name } else { Trust::Anybody },
        alpn: alpn(table),
        required: true,
    }
}

/// TLS settings of an `http` check: `tls = true`.
pub(in crate::config) fn of_http(table: &Table<'_>) -> Option<Tls> {
    let value = table.value("tls");
    let wanted = match &value {
        Some(value) => value.as_boolean().unwrap_or_else(|| {
            let why = "must be true or false for kind = \"http\"";
            table.report(table.unusable("tls", value.span.clone(), why));
            true
        }),
        None => false,
    };
    if wanted {
        return Some(always(table));
    }
    refuse_without_tls(table, "tls = true");
    None
}

/// TLS settings of a check that logs in: `tls = "off" | "prefer" | "require"`.
pub(in crate::config) fn of_login(table: &Table<'_>, kind: &str) -> Option<Tls> {
    let modes = [("off", None), ("prefer", Some(false)), ("require", Some(true))];
    let foreign = [
        ("disable", "off"),
        ("allow", "prefer"),
        ("required", "require"),
        ("verify_ca", "require"),
        ("verify_full", "require"),
    ];
    let Some(required) = table.choice("tls", &modes, &foreign).flatten() else {
        refuse_without_tls(table, "tls = \"require\"");
        return None;
    };
    if let (Some(value), "redis", false) = (table.value("tls"), kind, required) {
        let why = "Redis has no way to ask for TLS, so it is either on or off";
        let diagnostic = table.unusable("tls", value.span, why);
        table.report(diagnostic.hint("use tls = \"require\" or tls = \"off\""));
    }
    let (ca, server_name) = (ca(table), server_name(table));
    let trust = match (&ca, &server_name) {
        (None, _) => Trust::Anybody,
        // The MySQL client crate verifies either everything or nothing.
        (Some(_), None) if kind != "mysql" => Trust::Signer,
        (Some(_), _) => Trust::Name,
    };
    Some(Tls { server_name, ca, trust, alpn: Vec::new(), required })
}

fn refuse_without_tls(table: &Table<'_>, what: &str) {
    for key in ["server_name", "ca", "verify"] {
        if let Some(value) = table.value(key) {
            let why = format!("only valid with {what}");
            table.report(table.unusable(key, value.span, &why));
        }
    }
}

fn server_name(table: &Table<'_>) -> Option<ServerName<'static>> {
    let At { value, span } = table.string("server_name")?;
    let name = ServerName::try_from(value.to_owned()).ok();
    if name.is_none() {
        let why = "must be a name such as db.example.org, or an IP address";
        table.report(table.unusable("server_name", span, why));
    }
    name
}

fn ca(table: &Table<'_>) -> Option<PathBuf> {
    let At { value, span } = table.string("ca")?;
    match absolute_path(value) {
        Ok(path) => {
            table.want(span, Requirement::File(path.clone()));
            Some(path)
        }
        Err(why) => {
            table.report(table.unusable("ca", span, &why));
            None
        }
    }
}

/// Reads one protocol name or several.
fn alpn(table: &Table<'_>) -> Vec<String> {
    let Some(value) = table.value("alpn") else { return Vec::new() };
    let names: Option<Vec<String>> = match value.as_array() {
        Some(names) => names.iter().map(|name| Some(name.as_str()?.value.to_owned())).collect(),
        None => table.text("alpn").map(|name| vec![name]),
    };
    let names = names.filter(|names| {
        !names.is_empty() && names.iter().all(|name| (1..=PROTOCOL_MAX).contains(&name.len()))
    });
    names.unwrap_or_else(|| {
        table.wrong_type("alpn", &value, "protocol names, the preferred one first");
        Vec::new()
    })
}
