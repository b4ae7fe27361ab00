//! An authority that signs whatever certificate a story wants, and servers that show it.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::balancer::path_str;
use super::program::{self, Beside, find, run};
use super::server::free_port;
use super::wait_for;

const CURVE: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// An authority of its own, trusted by nobody who is not told to.
pub(crate) struct Authority {
    dir: TempDir,
}

/// Files of a certificate.
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("ringlane-it-ca-").unwrap();
        // Servers of other accounts read what is in it.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let authority = Self { dir };
        let (key, certificate) = (authority.path("ca.key"), authority.certificate());
        let files = ["-keyout", path_str(&key), "-out", path_str(&certificate)];
        let what = ["req", "-x509", "-nodes", "-subj", "/CN=an authority", "-days", "30"];
        openssl(&[&what[..], &CURVE, &files].concat());
        authority
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A certificate for `names` (as in `DNS:db.lan,IP:127.0.0.1`), which ends in so many days.
    pub(crate) fn issue(&self, file: &str, names: &str, days: i32) -> Issued {
        let (request, key) = (self.path(&format!("{file}.csr")), self.path(&format!("{file}.key")));
        let certificate = self.path(&format!("{file}.pem"));
        let names = format!("subjectAltName={names}");
        let what = ["req", "-nodes", "-subj", "/CN=a server", "-addext", &names];
        let files = ["-keyout", path_str(&key), "-out", path_str(&request)];
        openssl(&[&what[..], &CURVE, &files].concat());
        let (ca, ca_key) = (self.certificate(), self.path("ca.key"));
        openssl(&[
            "x509",
            "-req",
            "-in",
            path_str(&request),
            "-CA",
            path_str(&ca),
            "-CAkey",
            path_str(&ca_key),
            "-CAcreateserial",
            "-copy_extensions",
            "copy",
            "-days",
            &days.to_string(),
            "-out",
            path_str(&certificate),
        ]);
        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        Issued { certificate, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// `openssl s_server` with this certificate, which answers requests with a page about itself.
pub(crate) fn show(issued: &Issued, arguments: &[&str]) -> (SocketAddr, Beside) {
    let address = free_port();
    let mut command = program::bound_to_us();
    command
        .arg(find("openssl", "openssl"))
        .args(["s_server", "-quiet", "-www", "-accept", &address.to_string()])
        .args(["-key", path_str(&issued.key), "-cert", path_str(&issued.certificate)])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = Beside::start(&mut command, Signal::SIGTERM);
    wait_for("openssl to answer", || {
        assert!(!process.has_ended(), "openssl s_server has ended");
        TcpStream::connect(address).ok()
    });
    (address, process)
}

fn openssl(arguments: &[&str]) {
    run("openssl", "openssl", arguments);
}
