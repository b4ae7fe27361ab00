//! What the kernel knows of TCP here: which ports are free for the relays, whether the relay that
//! was started listens on its own, and whether all that was sent has arrived.
//!
//! An open port alone proves nothing: the kernel may keep the listener of a ring for a while after
//! its process has ended, completes handshakes on it and then refuses the next connection. So every
//! relay gets ports of its own, and it is ready when its own processes hold the listening sockets.
//! A byte through it and back comes after that: see `relay`.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::cpu;

/// Ports that the kernel gives to connections of this namespace. Listeners stay below them: a port
/// of the kernel's choice could belong to a connection in TIME_WAIT by the time a relay binds it.
pub(crate) const PORTS_OF_CONNECTIONS: (u16, u16) = (10_000, 65_000);

/// The first port that is tried for a relay.
const FIRST_PORT: u16 = 2000;

/// States of a connection in the kernel's table (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";

/// What one attempt at a conversation may take.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Hands out ports that nobody listens on.
#[derive(Clone, Debug)]
pub(crate) struct Ports(Cell<u16>);

impl Ports {
    /// All ports below those of connections.
    pub(crate) fn new() -> Self {
        Self(Cell::new(FIRST_PORT))
    }

    /// The next address of loopback that can be bound.
    pub(crate) fn next(&self) -> Result<SocketAddr, String> {
        for _ in FIRST_PORT..PORTS_OF_CONNECTIONS.0 {
            let port = self.0.get();
            let after = port.saturating_add(1);
            self.0.set(if after < PORTS_OF_CONNECTIONS.0 { after } else { FIRST_PORT });
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        Err(format!("no free port from {FIRST_PORT} to {}", PORTS_OF_CONNECTIONS.0 - 1))
    }
}

/// Whether `pid` or a process that it started holds a socket that listens on `address` (IPv4).
pub(crate) fn is_held_by(pid: u32, address: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let sockets: Vec<String> = inodes(&table, address).map(|n| format!("socket:[{n}]")).collect();
    let folders = cpu::processes(pid).unwrap_or_default().into_iter();
    let mut descriptors =
        folders.flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd"))).flatten().flatten();
    descriptors.any(|descriptor| {
        let target = fs::read_link(descriptor.path());
        target.is_ok_and(|target| sockets.iter().any(|name| target.as_os_str() == name.as_str()))
    })
}

/// The inodes of the sockets that listen on an address, from a table like /proc/net/tcp.
fn inodes(table: &str, address: SocketAddr) -> impl Iterator<Item = &str> {
    let local = in_table(address);
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_here = local.is_some() && fields.get(1).copied() == local.as_deref();
        let listens = is_here && fields.get(3) == Some(&LISTENING);
        fields.get(9).copied().filter(|_| listens)
    })
}

/// An address as the kernel's table has it: one number, in the byte order of the machine.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(v4) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()))
}

/// The connections of this namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Traffic {
    /// Those that a server has at its address.
    pub(crate) at_server: usize,
    /// Whether bytes wait in any socket to be read or acknowledged.
    pub(crate) is_under_way: bool,
}

/// What the connections are doing now; `server` is an address of IPv4.
pub(crate) fn traffic(server: SocketAddr) -> Traffic {
    traffic_in(&fs::read_to_string("/proc/self/net/tcp").unwrap_or_default(), server)
}

fn traffic_in(table: &str, server: SocketAddr) -> Traffic {
    let server = in_table(server);
    let mut traffic = Traffic { at_server: 0, is_under_way: false };
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, queues, ..] = fields[..] else { continue };
        if state == ESTABLISHED {
            traffic.at_server += usize::from(Some(local) == server.as_deref());
            traffic.is_under_way |= queues.contains(|digit| !matches!(digit, '0' | ':'));
        }
    }
    traffic
}

/// Sends a byte and waits until it comes back: everything up to the echo server works.
pub(crate) fn converse(address: SocketAddr) -> io::Result<()> {
    open(address).map(drop)
}

/// The same, and the connection stays open.
pub(crate) fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    echo(&mut stream)?;
    Ok(stream)
}

/// Sends a byte over an open connection and waits until it comes back.
pub(crate) fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"?")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::thread;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let (_held, address) = listener();
        let ports = Ports(Cell::new(address.port()));
        assert_ne!(ports.next().unwrap(), address);
        assert!(Ports::new().next().unwrap().port() < PORTS_OF_CONNECTIONS.0);
    }

    #[test]
    fn a_listener_belongs_to_the_process_that_holds_it() {
        let (held, address) = listener();
        let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(is_held_by(std::process::id(), address));
        assert!(!is_held_by(other.id(), address), "it only runs at the same time");
        drop(held);
        assert!(!is_held_by(std::process::id(), address));
        drop(other.stdin.take());
        other.wait().unwrap();
    }

    #[test]
    fn a_byte_that_nobody_has_read_is_under_way() {
        let (held, address) = listener();
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = held.accept().unwrap();
        client.write_all(b"?").unwrap();
        let own = client.local_addr().unwrap();
        let lines_of_ours = || {
            let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
            let is_ours = |line: &&str| {
                let ends = [in_table(address).unwrap(), in_table(own).unwrap()];
                line.contains("local_address") || ends.iter().all(|end| line.contains(end))
            };
            table.lines().filter(is_ours).map(|line| format!("{line}\n")).collect::<String>()
        };
        let unread = Traffic { at_server: 1, is_under_way: true };
        assert_eq!(traffic_in(&lines_of_ours(), address), unread);
        server.read_exact(&mut [0]).unwrap();
        while traffic_in(&lines_of_ours(), address).is_under_way {
            thread::yield_now(); // until it is acknowledged, too
        }
        drop((client, server));
        assert_eq!(traffic_in(&lines_of_ours(), address).at_server, 0);
    }

    #[test]
    fn a_listener_that_nobody_serves_is_no_conversation() {
        let (held, address) = listener();
        assert!(converse(address).is_err(), "the handshake alone");
        drop(held);
        assert_eq!(converse(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
