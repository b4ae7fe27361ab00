//! What a side said before its connection broke reaches the other side: an answer or an error that
//! is followed by a reset, since more was sent than was read.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use crate::harness::balancer::Setup;
use crate::harness::client::connect;
use crate::harness::server::Server;
use crate::harness::{heavy, program, wait_for};

/// Attempts, each a race between the answer, the reset behind it, and the client's bytes.
const TRIES: usize = 60;

/// What chance may take of a number of successes out of [`TRIES`].
const ALLOWANCE: usize = 12;

const TEXT: &[u8] = b"ERROR: this is too much for me\n";

/// Reads a little, answers with an error, and closes while bytes are unread: a reset.
fn rude() -> Server {
    Server::each(|mut stream| {
        if stream.read_exact(&mut [0; 1000]).is_err() {
            return;
        }
        // Fails if the client's end came first.
        let _ = stream.write_all(TEXT);
    })
}

/// Sends until it can't, then reads all there is; whether that was the whole text.
fn hears(address: SocketAddr) -> bool {
    let mut client = connect(address);
    let bulk = vec![7; 64 * 1024];
    while client.write_all(&bulk).is_ok() {}
    let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => heard.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    heard == TEXT
}

fn successes(address: SocketAddr) -> usize {
    (0..TRIES).filter(|_| hears(address)).count()
}

/// How many haproxy delivers; `None` where it is not installed.
fn of_haproxy(server: SocketAddr) -> Option<usize> {
    let path =
        ["/usr/sbin/haproxy", "/usr/bin/haproxy"].into_iter().find(|p| Path::new(p).exists())?;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::TempDir::with_prefix("ringlane-it-").unwrap();
    let file = dir.path().join("haproxy.cfg");
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
         listen l\n bind {address}\n server s {server}\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut child = program::bound_to_us()
        .args([path, "-db", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("haproxy to listen", || std::net::TcpStream::connect(address).ok());
    let delivered = successes(address);
    child.kill().unwrap();
    child.wait().unwrap();
    Some(delivered)
}

#[test]
fn an_error_before_a_reset_reaches_the_client_at_least_as_often_as_through_haproxy() {
    let _alone = heavy();
    let server = rude();
    let haproxy = of_haproxy(server.address);
    for path in ["auto", "copy", "splice"] {
        let ringlane = Setup::to(&[server.address]).frontend(&format!("path = \"{path}\"")).start();
        let ours = successes(ringlane.address());
        println!("{path}: {ours} of {TRIES} errors arrived, through haproxy: {haproxy:?}");
        assert!(ours + ALLOWANCE >= haproxy.unwrap_or(TRIES / 2), "{path}: {ours}, {haproxy:?}");
        let log = ringlane.log(TRIES);
        assert!(log.iter().all(|record| record["close"] == "SD"), "{path}: {log:#?}");
        ringlane.end();
    }
}
