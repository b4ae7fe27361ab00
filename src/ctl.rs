//! `ringlane ctl`: status of a running balancer and orders to it, through its admin API.
//!
//! Not here: the API itself (`control::report::admin`). Results go to stdout, errors are whole
//! sentences. Exit codes: 0 when done, 1 when not, 2 when `--wait` gave up. Next: `orders`,
//! `watch`.

mod names;
mod orders;
mod reload;
mod request;
mod status;
mod table;
mod units;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use crate::config;
use crate::control::report::admin::routes;
use crate::control::servers::WEIGHT_MAX;
use request::{AdminAddress, Request, ask};
use table::Style;

/// The admin socket that is used by default.
const DEFAULT_SOCKET: &str = "/run/ringlane/admin.sock";

/// The variable with the token for a TCP address.
const TOKEN_VARIABLE: &str = "RINGLANE_TOKEN";

const EXAMPLES: &str = "Examples:
  ringlane ctl status
  ringlane ctl server postgres/pg2 weight 5
  ringlane ctl drain postgres/pg2 --wait --timeout 10m
  ringlane ctl frontend web pause
  ringlane ctl changes --toml
  ringlane ctl events --follow

Exit codes: 0 done, 1 not done, 2 drain --wait gave up waiting.
On a TCP address (--config of a file with admin.http only), the environment variable
RINGLANE_TOKEN or --token-file has the token.";

/// The command line of `ringlane ctl`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Ctl {
    /// The unix socket of the admin API [default: /run/ringlane/admin.sock].
    #[arg(long, short, global = true, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The configuration file of the balancer, to take the admin address from.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file whose first line is the token for a TCP address.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long, short, global = true)]
    json: bool,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Show frontends, queues and servers.
    Status {
        /// Show all columns, whole names and exact numbers, wider than 80 columns.
        #[arg(long, short)]
        wide: bool,
    },
    /// Read the configuration file again and serve it, without an end of any session.
    Reload {
        /// Serve this file in place of the one that the balancer was started with.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Refuse unless this generation is served, as `ctl status --json` shows it.
        #[arg(long, value_name = "GENERATION")]
        expect: Option<u64>,
    },
    /// Show what a reload would change, and change nothing.
    Plan {
        /// This file in place of the one that the balancer was started with.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the configurations that were served.
    History,
    /// Serve an earlier configuration again, as a new generation.
    Rollback {
        /// Its generation, as `ctl history` shows it.
        generation: u64,
        /// Refuse unless this generation is served.
        #[arg(long, value_name = "GENERATION")]
        expect: Option<u64>,
    },
    /// Take a server out, put it back, or change its weight or its limit.
    Server {
        /// The server, as the status names it; either name may contain slashes.
        #[arg(value_name = "BACKEND/SERVER")]
        name: String,
        #[command(subcommand)]
        order: ServerOrder,
    },
    /// Take a server out: no new sessions; open ones continue.
    Drain {
        /// The server, as the status names it.
        #[arg(value_name = "BACKEND/SERVER")]
        name: String,
        /// Wait until its last session has ended.
        #[arg(long, short)]
        wait: bool,
        /// Give up waiting after this time, such as 30s or 10m.
        #[arg(long, value_name = "TIME", value_parser = config::parse_duration, requires = "wait")]
        timeout: Option<Duration>,
    },
    /// Pause or resume a frontend, or change its limit.
    Frontend {
        /// The frontend.
        #[arg(value_name = "FRONTEND")]
        name: String,
        #[command(subcommand)]
        order: FrontendOrder,
    },
    /// List what was changed at run time, or put it back.
    Changes {
        /// Print what to write into the configuration file to keep it.
        #[arg(long)]
        toml: bool,
        #[command(subcommand)]
        order: Option<ChangesOrder>,
    },
    /// Show the last events, and those that come.
    Events {
        /// Go on with those that come.
        #[arg(long, short)]
        follow: bool,
        /// Show at most so many of the last.
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: usize,
    },
    /// List the routes of the admin API.
    Routes,
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
    /// Set the number of sessions at once.
    MaxConnections {
        /// The number, or `none`.
        #[arg(value_parser = limit)]
        max: Limit,
    },
    /// Anything else, which is refused with the words that there are.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

#[derive(Debug, Subcommand)]
enum FrontendOrder {
    /// Accept no connections for now: they wait in the kernel's queue.
    Pause,
    /// Accept connections again.
    Resume,
    /// Set the number of sessions at once.
    MaxConnections {
        /// The number, or `none`.
        #[arg(value_parser = limit)]
        max: Limit,
    },
}

#[derive(Debug, Subcommand)]
enum ChangesOrder {
    /// Put back what the configuration file has.
    PutBack {
        /// The number of the change.
        id: u64,
    },
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Limit(Option<u32>);

/// What could not be done.
#[derive(Debug)]
pub struct Failure {
    /// A sentence for the operator.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, code: 1 }
    }
}

/// Runs the command. Returns what to print, with colour or without.
///
/// # Errors
/// When the balancer can't be reached or refuses, or in the end of `--wait`.
pub fn run(ctl: Ctl, colour: bool) -> Result<String, Failure> {
    if matches!(ctl.command, CtlCommand::Routes) {
        return Ok(routes::listing());
    }
    let (place, json) = (place(&ctl)?, ctl.json);
    Ok(match ctl.command {
        CtlCommand::Status { wide } => {
            let text = ask(&place, Request::get("/status"))?;
            let page = parsed(&place, &text)?;
            if json { text } else { status::text(&page, Style { wide, colour }, Timestamp::now()) }
        }
        CtlCommand::Server { name, order } => {
            orders::server(&place, &name, &orders::of_server(&order)?, json)?
        }
        CtlCommand::Drain { name, wait, timeout } => {
            let done =
                orders::server(&place, &name, &orders::of_server(&ServerOrder::Drain)?, json)?;
            if !wait {
                return Ok(done);
            }
            return watch::drained(&place, &name, timeout, json);
        }
        CtlCommand::Frontend { name, order } => orders::frontend(&place, &name, &order, json)?,
        CtlCommand::Changes { toml: _, order: Some(ChangesOrder::PutBack { id }) } => {
            orders::put_back(&place, id, json)?
        }
        CtlCommand::Changes { toml, order: None } => orders::changes(&place, toml, json)?,
        CtlCommand::Reload { file, expect } => {
            reload::reload(&place, file.as_deref(), expect, json)?
        }
        CtlCommand::Plan { file } => reload::plan(&place, file.as_deref(), json)?,
        CtlCommand::History => reload::history(&place, json)?,
        CtlCommand::Rollback { generation, expect } => {
            reload::rollback(&place, generation, expect, json)?
        }
        CtlCommand::Events { follow, limit } => watch::events(&place, follow, limit, json)?,
        CtlCommand::Routes => String::new(),
    })
}

/// Reads a weight.
fn weight(text: &str) -> Result<u32, String> {
    let weight = text.parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
    weight.ok_or_else(|| format!("weight must be a whole number from 0 to {WEIGHT_MAX}"))
}

/// Reads a limit.
fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let max = text.parse().ok().filter(|max| *max > 0);
    let why = || format!("must be a whole number from 1 to {}, or none", u32::MAX);
    max.map(|max| Limit(Some(max))).ok_or_else(why)
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

/// The admin address to use.
fn place(ctl: &Ctl) -> Result<AdminAddress, String> {
    if let Some(socket) = &ctl.socket {
        return Ok(AdminAddress::Socket(without_scheme(socket)));
    }
    let Some(file) = &ctl.config else { return Ok(AdminAddress::Socket(DEFAULT_SOCKET.into())) };
    let config = config::load(file).map_err(|report| report.to_string())?;
    let admin = config.global.admin;
    let socket = admin.socket.map(AdminAddress::Socket);
    if let Some(socket) = socket {
        return Ok(socket);
    }
    let http = admin.http.ok_or_else(|| {
        format!("{} has no admin address: set admin.socket in [global]", file.display())
    })?;
    Ok(AdminAddress::Http(http, token(ctl)?))
}

/// The token for a TCP address.
fn token(ctl: &Ctl) -> Result<Option<String>, String> {
    let text = match &ctl.token_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the token from {}: {error}", path.display()))?,
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(token) => token,
            Err(_) => return Ok(None),
        },
    };
    let token = text.lines().next().unwrap_or_default().trim();
    config::usable_token(token).map_err(|why| format!("the token {why}"))?;
    Ok(Some(token.to_owned()))
}

/// A path that may be spelt as in the ready line and in `bind`: `unix:/run/a.sock`.
fn without_scheme(path: &Path) -> PathBuf {
    let rest = path.as_os_str().as_bytes().strip_prefix(b"unix:");
    rest.map_or_else(|| path.to_owned(), |rest| OsStr::from_bytes(rest).into())
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
        assert_eq!(limit("none"), Ok(Limit(None)));
        assert_eq!(limit("7"), Ok(Limit(Some(7))));
        assert!(limit("0").is_err() && limit("all").is_err());
    }
}
