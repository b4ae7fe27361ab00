//! `ringlane ctl`: status of a running balancer and orders to it, through its admin API.
//!
//! Not here: the API itself (`control::report::admin`). One request per call; results go to stdout,
//! errors are whole sentences.

mod request;
mod status;
mod table;
mod units;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config;
use crate::control::servers::WEIGHT_MAX;
use request::{AdminAddress, Request, ask};
use table::{Style, printable};

/// The admin socket that is used by default.
const DEFAULT_SOCKET: &str = "/run/ringlane/admin.sock";

/// The command line of `ringlane ctl`.
#[derive(Debug, Args)]
pub struct Ctl {
    /// The unix socket of the admin API [default: /run/ringlane/admin.sock].
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The configuration file of the balancer, to take the admin address from.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Show frontends, queues and servers.
    Status {
        /// Print the whole status as JSON.
        #[arg(long)]
        json: bool,
        /// Show all columns, whole names and exact numbers, wider than 80 columns.
        #[arg(long, conflicts_with = "json")]
        wide: bool,
    },
    /// Take a server out, put it back, or change its weight.
    Server {
        /// The server, as the status names it; either name may contain slashes.
        #[arg(value_name = "BACKEND/SERVER")]
        name: String,
        #[command(subcommand)]
        order: ServerOrder,
    },
}

#[derive(Debug, Subcommand)]
enum ServerOrder {
    /// Accept sessions.
    Ready,
    /// Accept no new sessions; open ones continue.
    Drain,
    /// Accept no sessions at all.
    Maint,
    /// Set the share of sessions relative to the other servers, 0 to 1000.
    Weight {
        /// The weight.
        #[arg(value_parser = weight, allow_hyphen_values = true)]
        weight: u32,
    },
    /// Anything else, which is refused with the words that there are.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Runs the command. Returns what to print, with colour or without.
///
/// # Errors
/// A sentence for the operator when the balancer can't be reached or refuses.
pub fn run(ctl: Ctl, colour: bool) -> Result<String, String> {
    let place = place(&ctl)?;
    match ctl.command {
        CtlCommand::Status { json, wide } => {
            let text = ask(&place, Request::get("/status"))?;
            let page = parsed(&place, &text)?;
            if json {
                return Ok(text);
            }
            Ok(status::text(&page, Style { wide, colour }, Timestamp::now()))
        }
        CtlCommand::Server { name, order } => {
            let body = body(&order)?;
            let (backend, server) = match splits(&name)[..] {
                [] => {
                    return Err(format!(
                        "\"{name}\" is not the name of a server: write BACKEND/SERVER"
                    ));
                }
                [(backend, server)] => (backend, server),
                // Names may contain slashes: the status shows which split is meant.
                ref splits => {
                    let page = ask(&place, Request::get("/status"))?;
                    choose(&name, splits, &parsed(&place, &page)?)?
                }
            };
            let path = format!("/v1/backends/{}/servers/{}", escaped(backend), escaped(server));
            let reply = ask(&place, Request::post(&path, &body.to_string()))?;
            let reply: Value = serde_json::from_str(&reply).unwrap_or_default();
            if reply["ok"] != true {
                return Err(format!("{place} did not confirm the order: check the admin address"));
            }
            Ok(format!("{name}: done\n"))
        }
    }
}

/// The body of an order.
fn body(order: &ServerOrder) -> Result<Value, String> {
    Ok(match order {
        ServerOrder::Ready => json!({ "state": "ready" }),
        ServerOrder::Drain => json!({ "state": "drain" }),
        ServerOrder::Maint => json!({ "state": "maint" }),
        ServerOrder::Weight { weight } => json!({ "weight": weight }),
        ServerOrder::Other(words) => {
            let word = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            return Err(format!(
                "\"{}\" is not an order: write ready, drain, maint or weight N",
                printable(&word)
            ));
        }
    })
}

/// Reads a weight.
fn weight(text: &str) -> Result<u32, String> {
    let weight = text.parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
    weight.ok_or_else(|| format!("weight must be a whole number from 0 to {WEIGHT_MAX}"))
}

/// The status page in a reply.
fn parsed(place: &AdminAddress, page: &str) -> Result<Value, String> {
    let page = serde_json::from_str(page).map_err(|error| error.to_string());
    let page = page.and_then(|page: Value| {
        let is_status = page["version"].is_string() && page["backends"].is_array();
        if is_status { Ok(page) } else { Err("it has no version or no backends".to_owned()) }
    });
    page.map_err(|why| {
        format!("the reply from {place} is no status ({why}): check the admin address")
    })
}

/// Every way to read `BACKEND/SERVER`.
fn splits(name: &str) -> Vec<(&str, &str)> {
    let slashes = name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..]));
    slashes.filter(|(backend, server)| !backend.is_empty() && !server.is_empty()).collect()
}

/// The one way to read `name` that is a server of the status.
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
        [] => Err(format!(
            "there is no server \"{name}\": `ringlane ctl status --wide` lists all servers"
        )),
        _ => Err(format!(
            "\"{name}\" is ambiguous: it may be {}; use POST /v1/backends/BACKEND/servers/SERVER \
             on the admin socket, with %2F for a slash within a name",
            found
                .iter()
                .map(|(backend, server)| format!("server \"{server}\" of backend \"{backend}\""))
                .collect::<Vec<_>>()
                .join(" or "),
        )),
    }
}

/// The admin address to use.
fn place(ctl: &Ctl) -> Result<AdminAddress, String> {
    if let Some(socket) = &ctl.socket {
        return Ok(AdminAddress::Socket(without_scheme(socket)));
    }
    let Some(file) = &ctl.config else { return Ok(AdminAddress::Socket(DEFAULT_SOCKET.into())) };
    let config = config::load(file).map_err(|report| report.to_string())?;
    let admin = config.global.admin;
    let socket = admin.socket.map(AdminAddress::Socket);
    socket.or_else(|| admin.http.map(AdminAddress::Http)).ok_or_else(|| {
        format!("{} has no admin address: set admin.socket in [global]", file.display())
    })
}

/// A path that may be spelt as in the ready line and in `bind`: `unix:/run/a.sock`.
fn without_scheme(path: &Path) -> PathBuf {
    let rest = path.as_os_str().as_bytes().strip_prefix(b"unix:");
    rest.map_or_else(|| path.to_owned(), |rest| OsStr::from_bytes(rest).into())
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
    fn a_status_is_known_by_its_fields_and_a_socket_by_either_spelling() {
        let place = AdminAddress::Socket("/run/a.sock".into());
        assert!(parsed(&place, r#"{ "version": "1", "backends": [] }"#).is_ok());
        for other in ["{}", "[]", "null", "7", r#"{"backends":[]}"#, "<html>", ""] {
            let error = parsed(&place, other).unwrap_err();
            assert!(error.contains("/run/a.sock is no status"), "{error}");
        }
        assert_eq!(without_scheme(Path::new("unix:/run/a.sock")), Path::new("/run/a.sock"));
        assert_eq!(without_scheme(Path::new("/run/a.sock")), Path::new("/run/a.sock"));
    }

    #[test]
    fn orders_are_words_and_whole_numbers() {
        for (text, expected) in [("0", Some(0)), ("1000", Some(1000)), ("1001", None), ("-1", None)]
        {
            assert_eq!(weight(text).ok(), expected);
        }
        assert!(weight("x").unwrap_err().contains("a whole number from 0 to 1000"));
        let error = body(&ServerOrder::Other(vec!["up".into()])).unwrap_err();
        assert_eq!(error, "\"up\" is not an order: write ready, drain, maint or weight N");
    }

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
