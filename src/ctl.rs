//! `ringlane ctl`: what operators ask of a running balancer, and order, through its admin API.
//!
//! Not here: the API itself (`control::admin`). One request per call; results go to stdout, errors
//! are whole sentences.

mod request;
mod status;
mod table;
mod units;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use crate::config;
use request::{AdminAddress, ask};
use table::Style;

/// Where a balancer is looked for when nothing is said.
const DEFAULT_SOCKET: &str = "/run/ringlane/admin.sock";

/// The command line of `ringlane ctl`.
#[derive(Debug, Args)]
pub struct Ctl {
    /// The unix socket of the admin API.
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The configuration file of the balancer, to read its socket from.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Show frontends and servers as they are now.
    Status {
        /// The whole status as JSON, for programs.
        #[arg(long)]
        json: bool,
        /// All columns, whole names and exact numbers, however wide that is.
        #[arg(long, conflicts_with = "json")]
        wide: bool,
    },
    /// Take a server out, put it back, or change its weight.
    Server {
        /// BACKEND/SERVER, as in the status; either name may have slashes.
        #[arg(value_name = "BACKEND/SERVER")]
        name: String,
        #[command(subcommand)]
        order: ServerOrder,
    },
}

#[derive(Debug, Subcommand)]
enum ServerOrder {
    /// Take sessions.
    Ready,
    /// Take no new sessions; those that live go on.
    Drain,
    /// Take nothing.
    Maint,
    /// Share of sessions relative to its neighbours, 0 to 1000.
    Weight {
        /// The weight.
        weight: u32,
    },
}

/// Does it; what to print, with colour or without, or a sentence for the operator.
///
/// # Errors
/// When the balancer can't be reached or refuses.
pub fn run(ctl: Ctl, colour: bool) -> Result<String, String> {
    let place = place(&ctl)?;
    match ctl.command {
        CtlCommand::Status { json, wide } => {
            let page = ask(&place, "GET", "/status", "")?;
            if json {
                return Ok(page);
            }
            let page = parsed(&place, &page)?;
            Ok(status::text(&page, Style { wide, colour }, Timestamp::now()))
        }
        CtlCommand::Server { name, order } => {
            let (backend, server) = match splits(&name)[..] {
                [] => return Err(format!("\"{name}\" names no server: write BACKEND/SERVER")),
                [(backend, server)] => (backend, server),
                // Names may have slashes, too: the status says which of them it is.
                ref splits => {
                    let page = ask(&place, "GET", "/status", "")?;
                    choose(&name, splits, &parsed(&place, &page)?)?
                }
            };
            let body = match order {
                ServerOrder::Ready => serde_json::json!({ "state": "ready" }),
                ServerOrder::Drain => serde_json::json!({ "state": "drain" }),
                ServerOrder::Maint => serde_json::json!({ "state": "maint" }),
                ServerOrder::Weight { weight } => serde_json::json!({ "weight": weight }),
            };
            let path = format!("/v1/backends/{}/servers/{}", escaped(backend), escaped(server));
            ask(&place, "POST", &path, &body.to_string())?;
            Ok(format!("{name}: done\n"))
        }
    }
}

/// What is in an answer.
fn parsed(place: &AdminAddress, page: &str) -> Result<Value, String> {
    serde_json::from_str(page).map_err(|error| {
        format!("{place} answers with something that is no status of a balancer ({error})")
    })
}

/// Every way to read `BACKEND/SERVER`.
fn splits(name: &str) -> Vec<(&str, &str)> {
    let slashes = name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..]));
    slashes.filter(|(backend, server)| !backend.is_empty() && !server.is_empty()).collect()
}

/// The one way to read `name` that a status knows.
fn choose<'a>(
    name: &str,
    splits: &[(&'a str, &'a str)],
    status: &Value,
) -> Result<(&'a str, &'a str), String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let backends = list(&status["backends"]);
    let exists = |(backend, server): &&(&str, &str)| {
        backends
            .iter()
            .filter(|found| found["name"] == *backend)
            .any(|found| list(&found["servers"]).iter().any(|found| found["name"] == *server))
    };
    let found: Vec<_> = splits.iter().filter(exists).collect();
    match found[..] {
        [one] => Ok(*one),
        [] => {
            Err(format!("there is no server \"{name}\": `ringlane ctl status` lists all of them"))
        }
        _ => Err(format!(
            "\"{name}\" may be {}: order it with POST /v1/backends/BACKEND/servers/SERVER on the admin \
             socket, a slash within a name written %2F",
            found
                .iter()
                .map(|(backend, server)| format!("server \"{server}\" of backend \"{backend}\""))
                .collect::<Vec<_>>()
                .join(" or "),
        )),
    }
}

/// Where the balancer is asked.
fn place(ctl: &Ctl) -> Result<AdminAddress, String> {
    if let Some(socket) = &ctl.socket {
        return Ok(AdminAddress::Socket(socket.clone()));
    }
    let Some(file) = &ctl.config else { return Ok(AdminAddress::Socket(DEFAULT_SOCKET.into())) };
    let config = config::load(file).map_err(|report| report.to_string())?;
    let admin = config.global.admin;
    let socket = admin.socket.map(AdminAddress::Socket);
    socket.or_else(|| admin.http.map(AdminAddress::Http)).ok_or_else(|| {
        format!("{} has no admin in [global], so nobody can be asked", file.display())
    })
}

/// As a part of a path (RFC 3986, section 2.3).
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_slashes_is_the_server_that_there_is() {
        let server = |name: &str| serde_json::json!({ "name": name });
        let backend = |name: &str, servers: &[&str]| {
            let servers: Vec<Value> = servers.iter().map(|name| server(name)).collect();
            serde_json::json!({ "name": name, "servers": servers })
        };
        let backends = [
            backend("eu/db", &["s", "a/b", "x"]),
            backend("eu", &["db/x", "c"]),
            backend("/", &["/"]),
        ];
        let status = serde_json::json!({ "backends": backends });
        let find = |name| choose(name, &splits(name), &status);
        assert_eq!(find("eu/db/s"), Ok(("eu/db", "s")));
        assert_eq!(find("eu/db/a/b"), Ok(("eu/db", "a/b")));
        assert_eq!(find("///"), Ok(("/", "/")));
        assert!(find("eu/db/none").unwrap_err().contains("there is no server"));
        let both = find("eu/db/x").unwrap_err();
        assert!(both.contains("server \"db/x\" of backend \"eu\" or server \"x\""), "{both}");
        assert_eq!(splits("db/s"), [("db", "s")]);
        assert!(splits("s").is_empty() && splits("/s").is_empty() && splits("db/").is_empty());
    }
}
