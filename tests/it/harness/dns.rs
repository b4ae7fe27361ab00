//! A real DNS server with the records that a story wants: dnsmasq, for names under `test` alone.
//!
//! Its records are changed by starting it again at the same address. What it does not know under
//! `test` it denies; there is nobody that it could ask.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::program::{self, Beside, find};
use super::server::free_port;
use super::{PATIENCE, wait_for};

/// The server.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    process: Option<Beside>,
    dir: TempDir,
}

impl Dns {
    /// Starts one with these lines of its configuration, such as `host-record=web.test,10.0.0.1`.
    /// Answers may be believed for one second.
    pub(crate) fn with(records: &[String]) -> Self {
        let dir = TempDir::with_prefix("ringlane-it-dns-").unwrap();
        let mut dns = Self { address: free_port(), process: None, dir };
        dns.answer(records);
        dns
    }

    /// From now on it answers with these.
    pub(crate) fn answer(&mut self, records: &[String]) {
        self.fall_silent();
        let file = self.dir.path().join("dnsmasq.conf");
        fs::write(&file, records.join("\n") + "\n").unwrap();
        let mut command = program::bound_to_us();
        command
            .arg(find("dnsmasq", "dnsmasq-base"))
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--local=/test/"])
            .args(["--bind-interfaces", "--local-ttl=1", "--pid-file=", "--log-facility=-"])
            // Where it was started as root, it would become somebody who may not read the file.
            .arg(format!(
                "--user={}",
                nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
            ))
            .arg(format!("--listen-address={}", self.address.ip()))
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--conf-file={}", file.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let process = self.process.insert(Beside::start(&mut command, Signal::SIGTERM));
        let address = self.address;
        wait_for("dnsmasq to answer", || {
            assert!(!process.has_ended(), "dnsmasq has ended");
            is_answering(address).then_some(())
        });
    }

    /// It is gone.
    pub(crate) fn fall_silent(&mut self) {
        self.process = None;
    }

    /// Lines of `[global]` that make a balancer ask it.
    pub(crate) fn resolver(&self, hold: &str) -> String {
        format!(
            "resolver = {{ servers = [\"{}\"], timeout = \"500ms\", hold = \"{hold}\" }}",
            self.address
        )
    }
}

/// Whether anything comes back for a question (RFC 1035, section 4.1: the A record of `x.test`).
fn is_answering(address: SocketAddr) -> bool {
    let question =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x04test\x00\x00\x01\x00\x01";
    let socket = UdpSocket::bind((address.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE / 100)).unwrap();
    socket.connect(address).unwrap();
    socket.send(question).is_ok() && socket.recv(&mut [0; 512]).is_ok()
}
