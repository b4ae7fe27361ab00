//! A network namespace for the whole comparison, so that no setting of the machine is touched.
//!
//! The program runs itself once more inside, with [`INSIDE`] added to its arguments; the namespace
//! goes with its last process. Root is not needed where users may make namespaces of their own.

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use nix::unistd::Uid;

use crate::listening::PORTS_OF_CONNECTIONS;

/// Says that the namespace is there.
pub(crate) const INSIDE: &str = "--inside";

/// Runs this program again, with the same arguments, in a fresh network namespace.
pub(crate) fn run_self_inside() -> Result<ExitCode, String> {
    let own = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(own).args(env::args_os().skip(1)).arg(INSIDE);
    let status = command
        .status()
        .map_err(|error| format!("cannot run unshare (package util-linux): {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sets the namespace up: loopback, and ports enough for short connections.
pub(crate) fn set_up() -> Result<(), String> {
    ip("link set lo up")?;
    let ports = "/proc/sys/net/ipv4/ip_local_port_range";
    let (first, last) = PORTS_OF_CONNECTIONS;
    fs::write(ports, format!("{first} {last}"))
        .map_err(|error| format!("cannot write {ports}: {error}"))
}

/// Gives every connection from now on this congestion control.
///
/// It is set on the route: every connection over it takes it, whichever program makes it, and the
/// kernel allows it even for one that `tcp_allowed_congestion_control` keeps from a namespace.
pub(crate) fn use_congestion(name: &str) -> Result<(), String> {
    for addresses in ["127.0.0.1", "127.0.0.0/8"] {
        let route = format!("{addresses} dev lo table local proto kernel scope host src 127.0.0.1");
        ip(&format!("route replace local {route} congctl {name}"))
            .map_err(|why| format!("congestion control {name}: {why}; `modprobe tcp_{name}`?"))?;
    }
    Ok(())
}

/// Whether the kernel has this congestion control.
pub(crate) fn has_congestion(name: &str) -> bool {
    let available = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    available.is_ok_and(|names| names.split_whitespace().any(|one| one == name))
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("cannot run `ip` (package iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("`ip {arguments}` says: {said}"))
}
