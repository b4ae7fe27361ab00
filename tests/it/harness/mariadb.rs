//! Real MariaDB servers, alone or as a primary with a replica.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::balancer::path_str;
use super::certificates::Issued;
use super::program::{self, Beside, find, run};
use super::server::free_port;
use super::wait_for;

/// Debian's package.
const PACKAGE: &str = "mariadb-server";

/// What every server is told at its start, one statement a line.
const SETTINGS: &str = "CREATE USER IF NOT EXISTS it@'%';
GRANT ALL ON *.* TO it@'%';
CREATE USER IF NOT EXISTS monitor@'%' IDENTIFIED BY 'open sesame';
GRANT REPLICA MONITOR ON *.* TO monitor@'%';
";

/// A MariaDB server with a folder of its own; user `it` needs no password.
pub(crate) struct Mariadb {
    pub(crate) address: SocketAddr,
    process: Option<Beside>,
    /// Tells it from its primary.
    number: u32,
    /// Further arguments.
    arguments: Vec<String>,
    dir: TempDir,
}

impl Mariadb {
    /// A server with this number.
    pub(crate) fn start(number: u32) -> Self {
        Self::start_with(number, &[])
    }

    /// A server with this certificate.
    pub(crate) fn with_certificate(issued: &Issued) -> Self {
        let certificate = format!("--ssl-cert={}", issued.certificate.display());
        Self::start_with(1, &[certificate, format!("--ssl-key={}", issued.key.display())])
    }

    /// A server with this number and these further arguments.
    pub(crate) fn with_settings(number: u32, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        Self::start_with(number, &arguments)
    }

    fn start_with(number: u32, arguments: &[String]) -> Self {
        let dir = TempDir::with_prefix("ringlane-it-maria-").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let data = format!("--datadir={}", path_str(&dir.path().join("data")));
        let quiet = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"];
        // Installations side by side can run the machine out of asynchronous I/O.
        static INSTALLING: Mutex<()> = Mutex::new(());
        let alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        run("mariadb-install-db", PACKAGE, &[&quiet[..], &["--user=root", &data]].concat());
        drop(alone);
        fs::write(dir.path().join("init.sql"), SETTINGS).unwrap();
        let arguments = arguments.to_vec();
        let mut server = Self { address: free_port(), process: None, number, arguments, dir };
        server.run();
        server
    }

    /// Starts it with what it has.
    pub(crate) fn run(&mut self) {
        let (address, path) = (self.address, |name: &str| self.dir.path().join(name));
        let log = path("log");
        let mut command = program::bound_to_us();
        command
            .arg(find("mariadbd", PACKAGE))
            .args(["--no-defaults", "--user=root", "--skip-networking=0"])
            .arg(format!("--datadir={}", path_str(&path("data"))))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--bind-address={}", address.ip()))
            .arg(format!("--socket={}", path_str(&path("socket"))))
            .arg(format!("--init-file={}", path_str(&path("init.sql"))))
            .args(["--log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-fast-shutdown=2"])
            .args(["--innodb-buffer-pool-size=16M", "--skip-name-resolve"])
            .arg(format!("--server-id={}", self.number))
            .args(&self.arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap());
        let mut process = Beside::start(&mut command, Signal::SIGTERM);
        wait_for("MariaDB to answer", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.has_ended(), "{said}");
            said.contains("ready for connections").then_some(())
        });
        self.process = Some(process);
    }

    /// Follows a primary from now on, and takes no writes of others.
    pub(crate) fn follow(&self, primary: &Self) {
        let (host, port) = (primary.address.ip(), primary.address.port());
        self.ask(&format!(
            "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='it', \
             MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos; START SLAVE; \
             SET GLOBAL read_only = 1"
        ));
    }

    /// Follows nobody and takes writes.
    pub(crate) fn promote(&self) {
        self.ask("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.iter().for_each(|process| process.signal(signal));
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// What a query gives, asked past any balancer.
    pub(crate) fn ask(&self, query: &str) -> String {
        ask(self.address, query)
    }
}

/// What a query gives at an address, without titles.
pub(crate) fn ask(address: SocketAddr, query: &str) -> String {
    let (host, port) = (format!("--host={}", address.ip()), format!("--port={}", address.port()));
    let arguments = ["--no-defaults", "--user=it", &host, &port, "-N", "-B", "-e", query];
    let output = run("mariadb", "mariadb-client", &arguments);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
