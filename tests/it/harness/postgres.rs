//! Real PostgreSQL servers, alone or as a primary with streaming replicas.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use tempfile::TempDir;

use super::balancer::path_str;
use super::certificates::Issued;
use super::program::{self, Beside, find, run};
use super::server::free_port;
use super::wait_for;

/// A PostgreSQL server with a cluster of its own. It won't run as root, so root gives it the
/// account that Debian's package makes.
pub(crate) struct Postgres {
    pub(crate) address: SocketAddr,
    process: Option<Beside>,
    /// Settings of its own.
    settings: Vec<String>,
    dir: TempDir,
}

impl Postgres {
    /// A server with an empty cluster; user `it` needs no password.
    pub(crate) fn start() -> Self {
        let mut server = Self::empty();
        server.run();
        server
    }

    /// A server with this certificate, which lets in whom the lines of `pg_hba.conf` say, and `it`.
    pub(crate) fn guarded(issued: &Issued, lines: &[&str]) -> Self {
        let mut server = Self::empty();
        let data = server.dir.path().join("data");
        let lines = [&["host all it all trust"][..], lines].concat().join("\n");
        fs::write(data.join("pg_hba.conf"), lines + "\n").unwrap();
        let key = data.join("it.key");
        fs::copy(&issued.key, &key).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(&data).unwrap();
        chown(&key, Some(owner.uid()), Some(owner.gid())).unwrap();
        let certificate = format!("ssl_cert_file={}", issued.certificate.display());
        server.settings =
            vec!["ssl=on".into(), certificate, format!("ssl_key_file={}", key.display())];
        server.run();
        server
    }

    fn empty() -> Self {
        let server = Self::nowhere();
        let data = path_str(&server.dir.path().join("data")).to_owned();
        let arguments = ["--pgdata", &data, "--username", "it", "--auth", "trust", "--no-sync"];
        server.prepare("initdb", &[&arguments[..], &["--locale", "C"]].concat());
        server
    }

    /// As `start`, with further settings.
    pub(crate) fn with_settings(settings: &[&str]) -> Self {
        let mut server = Self::empty();
        server.settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        server.run();
        server
    }

    /// Ends it in order, and starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        let data = self.dir.path().join("data");
        self.prepare("pg_ctl", &["stop", "--pgdata", path_str(&data), "--mode", "fast"]);
        self.crash();
        self.run();
    }

    /// A replica that follows `primary`.
    pub(crate) fn replica_of(primary: &Self) -> Self {
        let mut server = Self::nowhere();
        let data = path_str(&server.dir.path().join("data")).to_owned();
        let (host, port) = (primary.address.ip().to_string(), primary.address.port().to_string());
        let from = ["--host", &host, "--port", &port, "--username", "it", "--pgdata", &data];
        let how = ["--write-recovery-conf", "--checkpoint", "fast", "--no-sync"];
        server.prepare("pg_basebackup", &[&from[..], &how[..]].concat());
        server.run();
        server
    }

    fn nowhere() -> Self {
        let dir = TempDir::with_prefix("ringlane-it-pg-").unwrap();
        // The server's account must be able to enter and to write.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        Self { address: free_port(), process: None, settings: Vec::new(), dir }
    }

    /// Runs a program of the server's on its folder.
    fn prepare(&self, program: &str, arguments: &[&str]) {
        let output = as_postgres()
            .arg(find(program, "postgresql"))
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A setting from its next start on.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Starts it with what it has.
    pub(crate) fn run(&mut self) {
        self.run_without_waiting();
        let Some(process) = &mut self.process else { return };
        let log = self.dir.path().join("log");
        wait_for("PostgreSQL to answer", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.has_ended(), "{said}");
            let ready = ["ready to accept connections", "ready to accept read-only connections"];
            ready.iter().any(|words| said.contains(words)).then_some(())
        });
    }

    /// As above, though it may never be ready.
    pub(crate) fn run_without_waiting(&mut self) {
        let (log, data) = (self.dir.path().join("log"), self.dir.path().join("data"));
        let settings = [
            format!("port={}", self.address.port()),
            format!("listen_addresses={}", self.address.ip()),
            format!("unix_socket_directories={}", self.dir.path().display()),
            "fsync=off".to_owned(),
            "synchronous_commit=off".to_owned(),
        ];
        let mut command = as_postgres();
        command.arg(find("postgres", "postgresql")).arg("-D").arg(data);
        command.args(settings.iter().chain(&self.settings).flat_map(|setting| ["-c", setting]));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&log).unwrap());
        self.process = Some(Beside::start(&mut command, Signal::SIGQUIT));
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(&mut self) {
        self.process = None;
    }

    /// Sends its postmaster a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.iter().for_each(|process| process.signal(signal));
    }

    /// What it has logged since it was started last.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Follows another primary from its next start on.
    pub(crate) fn follow(&self, primary: SocketAddr) {
        let (host, port) = (primary.ip(), primary.port());
        self.ask(&format!("ALTER SYSTEM SET primary_conninfo = 'host={host} port={port} user=it'"));
        self.ask("SELECT pg_reload_conf()");
    }

    /// Makes a replica the primary.
    pub(crate) fn promote(&self) {
        let data = self.dir.path().join("data");
        self.prepare("pg_ctl", &["promote", "--pgdata", path_str(&data), "--wait"]);
    }

    /// What a query gives, asked past any balancer.
    pub(crate) fn ask(&self, query: &str) -> String {
        ask(self.address, query)
    }
}

/// What a query gives at an address, without titles.
pub(crate) fn ask(address: SocketAddr, query: &str) -> String {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = ["-h", &host, "-p", &port, "-U", "it", "-AtX", "-c", query, "postgres"];
    let output = run("psql", "postgresql-client", &arguments);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A command of an account that PostgreSQL agrees to run as.
fn as_postgres() -> Command {
    let mut command = program::bound_to_us();
    if Uid::effective().is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command
}
