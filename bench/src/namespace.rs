//! A network namespace for the whole comparison, so that no setting of the machine is touched.
//!
//! The program runs itself once more inside, with [`INSIDE`] added to its arguments; the namespace
//! goes with its last process. Root is not needed where users may make namespaces of their own.

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use nix::unistd::Uid;

/// Says that the namespace is there.
pub(crate) const INSIDE: &str = "--inside";

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Runs this program again, with the same arguments, in a fresh network namespace.
pub(crate) fn run_self_inside() -> Result<ExitCode, String> {
    let own = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let machine = congestion()?;
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(own).args(env::args_os().skip(1)).arg(INSIDE);
    let status = command
        .env(MACHINE_CONGESTION, machine)
        .status()
        .map_err(|error| format!("cannot run unshare (package util-linux): {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the machine's congestion control is told to the inside, which may begin with another.
const MACHINE_CONGESTION: &str = "RINGLANE_BENCH_CONGESTION";

/// Sets the namespace up: loopback, congestion control, and ports enough for short connections.
/// Returns the name of the congestion control in use.
///
/// It is set on the route: every connection over it takes it, whichever program makes it, and the
/// kernel allows it even for one that `tcp_allowed_congestion_control` keeps from a namespace.
pub(crate) fn set_up(wanted: &str) -> Result<String, String> {
    let of_machine = env::var(MACHINE_CONGESTION).or_else(|_| congestion())?;
    let name = if wanted == "host" { of_machine } else { wanted.to_owned() };
    ip("link set lo up")?;
    for addresses in ["127.0.0.1", "127.0.0.0/8"] {
        let route = format!("{addresses} dev lo table local proto kernel scope host src 127.0.0.1");
        ip(&format!("route replace local {route} congctl {name}"))
            .map_err(|why| format!("congestion control {name}: {why}; `modprobe tcp_{name}`?"))?;
    }
    let ports = "/proc/sys/net/ipv4/ip_local_port_range";
    fs::write(ports, "10000 65000").map_err(|error| format!("cannot write {ports}: {error}"))?;
    Ok(name)
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

fn congestion() -> Result<String, String> {
    let text = fs::read_to_string(CONGESTION);
    text.map(|name| name.trim().to_owned()).map_err(|error| format!("{CONGESTION}: {error}"))
}
