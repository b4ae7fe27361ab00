//! Taking over the admin addresses of a terminating balancer.
//!
//! In a restart without a gap the new process serves while the old one drains, with the same
//! configuration. The old one still answers on its admin addresses, so the new one asks it for its
//! stage. Not here: addresses of frontends, which a drain releases at once. Invariant: an address
//! is taken only from a balancer that reports that it drains or stops.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::sleep;

use super::bound::bind_http;
use crate::control::life::Stage;
use crate::control::log;

/// The pause between two attempts at an address that a process which is about to end still holds.
const HELD_RETRY: Duration = Duration::from_millis(200);

/// How long it may take to connect, and for each part of its answer.
const ANSWER_WAIT: Duration = Duration::from_millis(500);

/// Bytes of its answer that are read at most.
const ANSWER_MAX: usize = 4096;

/// Whether a balancer that is about to end listens at a unix socket.
pub(super) fn is_terminating_unix(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Where the queue is full, a connect waits for as long as a write may (unix(7)).
        socket.set_write_timeout(Some(ANSWER_WAIT))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(socket)
    };
    connect().and_then(is_terminating).unwrap_or(false)
}

/// Whether one listens at a TCP address.
pub(super) fn is_terminating_tcp(address: SocketAddr) -> bool {
    let stream = TcpStream::connect_timeout(&address, ANSWER_WAIT);
    stream.and_then(|stream| is_terminating(stream.into())).unwrap_or(false)
}

/// Listens at a TCP address once the process that is about to end has done so.
pub(super) async fn bind_later(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    log::info(format_args!(
        "admin.http: waiting for {address}, where another ringlane that drains still listens"
    ));
    loop {
        sleep(HELD_RETRY).await;
        match bind_http(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
            Ok(listener) => {
                log::info(format_args!("admin.http: listening on {address}"));
                return tokio::net::TcpListener::from_std(listener);
            }
        }
    }
}

/// Whether the other end answers `/healthz` as a balancer does that drains or stops.
fn is_terminating(mut stream: Socket) -> io::Result<bool> {
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: ringlane\r\n\r\n")?;
    let (mut answer, until) = (Vec::new(), Instant::now() + ANSWER_WAIT);
    let mut piece = [0; 512];
    while answer.len() < ANSWER_MAX && Instant::now() < until {
        match stream.read(&mut piece)? {
            0 => break,
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    Ok(announces_end(&String::from_utf8_lossy(&answer)))
}

fn announces_end(answer: &str) -> bool {
    let stages = [Stage::LameDuck, Stage::Draining, Stage::Stopping];
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    head.split(' ').nth(1) == Some("503") && stages.iter().any(|stage| stage.name() == body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_balancer_that_says_so_is_about_to_end() {
        for (answer, expected) in [
            ("HTTP/1.0 503 Service Unavailable\r\ncontent-length: 8\r\n\r\ndraining", true),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\nstopping", true),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\nstarting", false),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\nno server is available", false),
            ("HTTP/1.0 200 OK\r\n\r\nok", false),
            ("HTTP/1.0 200 OK\r\n\r\ndraining", false),
            ("SSH-2.0-OpenSSH\r\n", false),
            ("", false),
        ] {
            assert_eq!(announces_end(answer), expected, "{answer:?}");
        }
    }
}
