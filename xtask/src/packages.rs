//! Sets a Debian machine up for the tests: installs what is missing, by name, and says why.
//!
//! Installed services are not started: the tests start their own copies on loopback. Invariant:
//! a machine that has everything is left untouched, and no package list is fetched.

use std::path::Path;
use std::process::{Command, Stdio};

/// What the tests need: Debian package and the reason for it. Bookworm's names.
pub(crate) const TESTS: &[(&str, &str)] = &[
    ("postgresql", "the tests put pgbench through the balancer to a real server"),
    ("postgresql-contrib", "pgbench and its companions"),
    ("mariadb-server", "the tests promote a replica of a real server behind the balancer"),
    ("redis-server", "the tests put redis-benchmark through the balancer to a real server"),
    ("dnsmasq-base", "the tests follow the names of servers through a real DNS server"),
    ("haproxy", "the comparison"),
    ("nginx", "the comparison"),
    ("libnginx-mod-stream", "nginx relays TCP with it"),
    ("prometheus", "`promtool` judges the metrics, the alert rules and the dashboard"),
    ("openssl", "tests that speak TLS through the balancer"),
    ("curl", "tests of the admin API on its unix socket"),
    ("iproute2", "network namespaces for tests and the comparison"),
    ("util-linux", "`unshare` and `setpriv`: tests in namespaces and as another user"),
    ("git", "`cargo xtask tidy` reads the subjects of commits"),
    ("patch", "the simulation's planted faults are patches"),
    ("gcc", "compiles what blocks io_uring for a test"),
    ("libc6-dev", "as above"),
];

/// What the comparison needs, the same way.
pub(crate) const COMPARISON: &[(&str, &str)] = &[
    ("haproxy", "compared with"),
    ("nginx", "compared with"),
    ("libnginx-mod-stream", "nginx relays TCP with it"),
    ("iproute2", "the comparison has a network namespace of its own"),
    ("util-linux", "`unshare` makes it, `taskset` chooses cores"),
    ("gcc", "compiles the floor, a minimal relay in C"),
    ("libc6-dev", "as above"),
    ("make", "builds what glommio brings along in C"),
];

/// What counting instructions needs.
pub(crate) const INSTRUCTIONS: &[(&str, &str)] =
    &[("valgrind", "counts instructions"), ("gcc", "links the benches")];

/// While this file says 101, package scripts start nothing (Debian policy, section 9.3.3.1).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs those of these packages that are missing.
pub(crate) fn install_missing(needed: &[(&str, &str)]) -> Result<(), String> {
    if !runs("dpkg-query", &["--version"]) {
        println!("  not a Debian system: install by other means what is needed:");
        needed.iter().for_each(|(name, why)| println!("    {name:<20} {why}"));
        return Ok(());
    }
    let missing: Vec<_> = needed.iter().filter(|(name, _)| !is_installed(name)).collect();
    if missing.is_empty() {
        println!("  all {} Debian packages are there", needed.len());
        return Ok(());
    }
    println!("  installing {} Debian packages (their services are not started):", missing.len());
    missing.iter().for_each(|(name, why)| println!("    {name:<20} {why}"));
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let by_hand = format!("as root: apt-get update && apt-get install {}", names.join(" "));

    as_root(&["apt-get", "update", "--quiet"], &by_hand)?;
    let ours = !Path::new(POLICY).exists();
    if ours {
        let write = format!("printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}");
        as_root(&["sh", "-c", &write], &by_hand)?;
    }
    let mut install = vec!["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(names);
    let installed = as_root(&install, &by_hand);
    if ours {
        as_root(&["rm", "-f", POLICY], &format!("as root: rm {POLICY}"))?;
    }
    installed
}

/// Adds the Rust components that a minimal toolchain lacks.
pub(crate) fn add_rust_components() -> Result<(), String> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if runs("cargo", &[subcommand, "--version"]) {
            continue;
        }
        println!("  adding the Rust component {component}");
        if !runs("rustup", &["component", "add", component]) {
            return Err(format!(
                "`cargo {subcommand}` is missing: rustup component add {component}"
            ));
        }
    }
    Ok(())
}

/// Whether dpkg has the package, whole and configured.
fn is_installed(name: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Abbrev}", name])
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"ii"))
}

/// Whether the program exists and succeeds. Its output is not shown.
pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command as root: directly, or through `sudo -n`, which never asks for a password.
fn as_root(command: &[&str], by_hand: &str) -> Result<(), String> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let mut all = if is_root { vec!["env"] } else { vec!["sudo", "-n", "env"] };
    all.push("DEBIAN_FRONTEND=noninteractive");
    all.extend(command);
    let ok = Command::new(all[0]).args(&all[1..]).status().is_ok_and(|status| status.success());
    if ok {
        return Ok(());
    }
    let hint = if is_root { "" } else { " (this user may not become root without a password)" };
    Err(format!("`{}` failed{hint}.\nDo it by hand, {by_hand}", command.join(" ")))
}
