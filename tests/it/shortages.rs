//! What this machine runs out of says nothing about the servers: their checks change no state.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tempfile::TempDir;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::certificates::{Authority, show};
use crate::harness::echo::Echo;
use crate::harness::mariadb::Mariadb;
use crate::harness::program::{find, run};
use crate::harness::redis::Redis;
use crate::harness::{wait_for, wait_until};

/// A balancer whose one server has passed its first check.
fn passing(server: SocketAddr, keys: &str, global: &str) -> Ringlane {
    let check = format!("check = {{ {keys}, interval = \"50ms\", timeout = \"10s\", fall = 1 }}");
    let global = format!("log = {{ level = \"debug\" }}\n{global}");
    let ringlane = Setup::to(&[server]).shards(1).global(&global).backend(&check).start();
    wait_until("a check to pass", || ringlane.server_field(0, "/check")["ok"] == true);
    ringlane
}

/// Takes something away from a process, and gives it back; as its user, who may do that.
fn limit(ringlane: &Ringlane, limit: &str) {
    let process = ringlane.process().0.to_string();
    let owner = fs::metadata(format!("/proc/{process}")).unwrap();
    let (user, group) = (format!("--reuid={}", owner.uid()), format!("--regid={}", owner.gid()));
    let prlimit = find("prlimit", "util-linux");
    let as_owner = [&user, &group, "--keep-groups", &prlimit, "--pid", &process, limit];
    run("setpriv", "util-linux", &as_owner);
}

/// What a check makes of having nothing left of that: it says so, and leaves the server as it is.
fn assert_changes_no_state(ringlane: Ringlane, keys: &str, taken: &str, given: &str) {
    limit(&ringlane, taken);
    let first = wait_for("the check to miss something", || {
        let lines = ringlane.said().into_iter();
        lines
            .into_iter()
            .find(|line| line.contains("cannot be checked") || line.contains("check failed"))
    });
    assert!(first.contains("server back/s1 cannot be checked"), "{keys}: {first}");
    limit(&ringlane, given);
    wait_until("a check to pass again", || ringlane.server_field(0, "/check")["ok"] == true);
    assert_eq!(ringlane.server_field(0, "/state"), "up", "{keys}");
    let lines = ringlane.end();
    assert!(!lines.iter().any(|line| line.contains("is down")), "{keys}: {lines:#?}");
}

/// Descriptors that are open stay so; there is no further one.
const NO_DESCRIPTORS: &str = "--nofile=3:";

const DESCRIPTORS: &str = "--nofile=4096:";

#[test]
fn without_descriptors_no_kind_of_check_changes_a_state() {
    let echo = Echo::start();
    let dir = TempDir::new().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "open sesame\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let redis = Redis::start(&["--requirepass", "open sesame"]);
    let authority = Authority::new();
    let (page, _server) = show(&authority.issue("good", "DNS:www.lan", 20), &[]);
    let ca = path_str(&authority.certificate()).to_owned();
    let mariadb = Mariadb::start(1);
    for (server, keys) in [
        (echo.address, "kind = \"tcp\"".to_owned()),
        (echo.address, "kind = \"exec\", command = [\"/bin/true\"]".to_owned()),
        (
            redis.address,
            format!("kind = \"redis\", password = {{ file = {:?} }}", path_str(&password)),
        ),
        (page, format!("kind = \"tls\", ca = {ca:?}, server_name = \"www.lan\"")),
        (mariadb.address, "kind = \"mysql\", user = \"it\"".to_owned()),
    ] {
        let ringlane = passing(server, &keys, "");
        assert_changes_no_state(ringlane, &keys, NO_DESCRIPTORS, DESCRIPTORS);
    }
}

/// A file is read by a thread of its own.
#[test]
fn without_processes_neither_programs_nor_files_change_a_state() {
    let echo = Echo::start();
    // Who is root may always have another process.
    let global = if nix::unistd::geteuid().is_root() {
        "user = \"nobody\"\naccess_log = { to = \"file:/dev/null\" }"
    } else {
        ""
    };
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "open sesame\n").unwrap();
    let redis = Redis::start(&["--requirepass", "open sesame"]);
    for (server, keys) in [
        (echo.address, "kind = \"exec\", command = [\"/bin/true\"]".to_owned()),
        (
            redis.address,
            format!("kind = \"redis\", password = {{ file = {:?} }}", path_str(&password)),
        ),
    ] {
        let ringlane = passing(server, &keys, global);
        assert_changes_no_state(ringlane, &keys, "--nproc=1:", "--nproc=4096:");
    }
}
