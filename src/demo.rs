//! `ringlane demo`: a balancer, three servers, steady load, and one server that goes away.
//!
//! Everything is embedded and on loopback: the balancer runs as it would for real, `world` is a
//! thread with the servers and the clients. Not a benchmark: all of it shares the machine.

mod clients;
mod report;
mod servers;
mod world;

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use crate::config;
use crate::control::{Supervisor, log};
use servers::DemoServers;

/// Runs the demo, for a time or until Ctrl-C. The code is 0 if no new session failed.
pub fn run(time: Option<Duration>) -> ExitCode {
    match start() {
        Ok((supervisor, servers)) => show(supervisor, servers, time),
        Err(error) => {
            log::error(format_args!("demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(Supervisor, DemoServers), String> {
    let servers = DemoServers::bind()
        .map_err(|error| format!("cannot listen on a free port of 127.0.0.1: {error}"))?;
    let text = configuration(servers.addresses());
    let config = config::parse("demo.toml", &text).map_err(|report| report.to_string())?;
    let supervisor = Supervisor::start(config).map_err(|error| error.to_string())?;
    Ok((supervisor, servers))
}

fn show(supervisor: Supervisor, servers: DemoServers, time: Option<Duration>) -> ExitCode {
    let running = supervisor.shared();
    let Some(frontend) = running.listening.first_inet() else {
        log::error(format_args!("demo: the frontend has no TCP address"));
        return ExitCode::FAILURE;
    };
    let world = std::thread::Builder::new()
        .name("demo".into())
        .spawn(move || world::run(&running, servers, frontend, time));
    let world = match world {
        Ok(world) => world,
        Err(error) => {
            log::error(format_args!("demo: cannot start a thread: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = supervisor.serve();
    match world.join() {
        Ok(Ok(total)) if total.failed == 0 => code,
        Ok(Ok(_)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            log::error(format_args!("demo: {error}"));
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// The configuration that the demo runs, which is one that anybody could have written.
fn configuration(servers: impl Iterator<Item = (&'static str, SocketAddr)>) -> String {
    let mut text = String::from(
        r#"
            [global]
            drain_timeout = "2s"

            [[frontend]]
            name = "demo"
            bind = "127.0.0.1:0"
            mode = "tcp"
            backend = "echo"

            [[backend]]
            name = "echo"
            balance = "round_robin"
            server = ["#,
    );
    for (name, address) in servers {
        // Writing to a string can't fail.
        let _ = write!(text, r#"{{ name = "{name}", address = "{address}" }}, "#);
    }
    text.push_str("]\n");
    text
}
