//! Real Redis servers, alone or as a primary with replicas.

use std::net::SocketAddr;
use std::process::Stdio;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::balancer::path_str;
use super::certificates::Issued;
use super::program::{self, Beside, find, run};
use super::server::free_port;
use super::wait_for;

/// A Redis server that keeps nothing.
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    process: Option<Beside>,
    /// The argument that says its port.
    port: &'static str,
    /// Further arguments.
    arguments: Vec<String>,
    dir: TempDir,
}

impl Redis {
    /// A server with these further arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::with("--port", arguments)
    }

    /// A server that speaks nothing but TLS.
    pub(crate) fn over_tls(issued: &Issued) -> Self {
        let (certificate, key) = (path_str(&issued.certificate), path_str(&issued.key));
        let files = ["--tls-cert-file", certificate, "--tls-key-file", key];
        let how = ["--port", "0", "--tls-auth-clients", "no", "--tls-ca-cert-file", certificate];
        Self::with("--tls-port", &[&files[..], &how].concat())
    }

    fn with(port: &'static str, arguments: &[&str]) -> Self {
        let dir = TempDir::with_prefix("ringlane-it-redis-").unwrap();
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        let mut server = Self { address: free_port(), process: None, port, arguments, dir };
        server.run();
        server
    }

    /// Starts it with nothing.
    pub(crate) fn run(&mut self) {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut command = program::bound_to_us();
        command
            .arg(find("redis-server", "redis-server"))
            .args(["--bind", &ip, self.port, &port])
            .args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut process = Beside::start(&mut command, Signal::SIGTERM);
        wait_for("Redis to answer", || {
            assert!(!process.has_ended(), "redis-server has ended");
            std::net::TcpStream::connect(self.address).ok()
        });
        self.process = Some(process);
    }

    /// As above, with further arguments this once.
    pub(crate) fn run_with(&mut self, arguments: &[&str]) {
        let own = self.arguments.len();
        self.arguments.extend(arguments.iter().map(|&word| word.to_owned()));
        self.run();
        self.arguments.truncate(own);
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

    /// Follows a primary from now on.
    pub(crate) fn follow(&self, primary: SocketAddr) {
        self.ask(&["REPLICAOF", &primary.ip().to_string(), &primary.port().to_string()]);
    }

    /// What a command gives, asked past any balancer.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        ask(self.address, words)
    }
}

/// What a command gives at an address.
pub(crate) fn ask(address: SocketAddr, words: &[&str]) -> String {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let output = run("redis-cli", "redis-tools", &[&["-h", &host, "-p", &port], words].concat());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
