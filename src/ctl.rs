//! `ringlane ctl`: what operators ask of a running balancer, and order, through its admin API.
//!
//! Not here: the API itself (`control::admin`). One request per call; results go to stdout, errors
//! are whole sentences.

mod request;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config;
use request::{Place, ask};

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
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show frontends and servers as they are now.
    Status {
        /// Everything, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Take a server out, put it back, or change its weight.
    Server {
        /// BACKEND/SERVER, as in the status.
        #[arg(value_name = "BACKEND/SERVER")]
        name: String,
        #[command(subcommand)]
        order: Order,
    },
}

#[derive(Debug, Subcommand)]
enum Order {
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

/// Does it; what to print, or a sentence for the operator.
///
/// # Errors
/// When the balancer can't be reached or refuses.
pub fn run(ctl: Ctl) -> Result<String, String> {
    let place = place(&ctl)?;
    match ctl.command {
        Command::Status { json } => {
            let page = ask(&place, "GET", "/status", "")?;
            if json {
                return Ok(page);
            }
            let page: Value = serde_json::from_str(&page)
                .map_err(|error| format!("{place} answers with no status: {error}"))?;
            Ok(table::status(&page))
        }
        Command::Server { name, order } => {
            let Some((backend, server)) = name.split_once('/') else {
                return Err(format!("\"{name}\" names no server: write BACKEND/SERVER"));
            };
            let body = match order {
                Order::Ready => json!({ "state": "ready" }),
                Order::Drain => json!({ "state": "drain" }),
                Order::Maint => json!({ "state": "maint" }),
                Order::Weight { weight } => json!({ "weight": weight }),
            };
            let path = format!("/v1/backends/{}/servers/{}", escaped(backend), escaped(server));
            ask(&place, "POST", &path, &body.to_string())?;
            Ok(format!("{name}: done\n"))
        }
    }
}

/// Where the balancer is asked.
fn place(ctl: &Ctl) -> Result<Place, String> {
    if let Some(socket) = &ctl.socket {
        return Ok(Place::Socket(socket.clone()));
    }
    let Some(file) = &ctl.config else { return Ok(Place::Socket(DEFAULT_SOCKET.into())) };
    let config = config::load(file).map_err(|report| report.to_string())?;
    let admin = config.global.admin;
    let socket = admin.socket.map(Place::Socket);
    socket.or_else(|| admin.http.map(Place::Http)).ok_or_else(|| {
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
