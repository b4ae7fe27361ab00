//! Telling sockets what the configuration wants of them, and where they come from.
//!
//! Not here: what every relay needs (`socket`). Accepted sockets inherit all of it from their
//! listener, so that the client side costs nothing per session. The kernel may refuse an option; which
//! one it was is said, so that an operator can be told.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::{Socket, TcpKeepalive};

use crate::machine::{Congestion, Source, TcpOptions};

/// Connections of a listener whose first bytes came early and that wait for the end of the handshake;
/// further ones are made in the ordinary way.
const FAST_OPEN_WAITING: i32 = 1024;

/// `IP_LOCAL_PORT_RANGE` of linux/in.h, Linux 6.3.
const IP_LOCAL_PORT_RANGE: i32 = 51;

/// What a socket towards a server is told.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions<'a> {
    /// Congestion control.
    pub congestion: &'a Congestion,
    /// TCP options.
    pub tcp: &'a TcpOptions,
    /// Where it comes from.
    pub source: &'a Source,
    /// Whom it is for, if it is to come from there.
    pub client: Option<SocketAddr>,
}

/// The kernel refused an option.
#[derive(Debug)]
pub struct Refused {
    /// The option, as the configuration has it.
    pub option: &'static str,
    /// The kernel's answer.
    pub error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel refuses {}: {}", self.option, self.error)
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for io::Error {
    /// Of the same kind, and known to be about an option if it is: see [`is_refusal`].
    fn from(refused: Refused) -> Self {
        if refused.option.is_empty() {
            return refused.error;
        }
        Self::new(refused.error.kind(), refused)
    }
}

/// Whether a connect failed before it began, since the kernel refused an option or a source address.
pub fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Refused>())
}

/// For `map_err`: it was this option.
pub(super) fn refused(option: &'static str) -> impl FnOnce(io::Error) -> Refused {
    move |error| Refused { option, error }
}

/// Tells a socket what either side may be told; fast open is another matter on each.
pub(super) fn tell(socket: &Socket, is_ipv4: bool, tcp: &TcpOptions) -> Result<(), Refused> {
    if let Some(keepalive) = tcp.keepalive {
        let mut times = TcpKeepalive::new();
        if let Some(idle) = keepalive.idle {
            times = times.with_time(idle);
        }
        if let Some(interval) = keepalive.interval {
            times = times.with_interval(interval);
        }
        if let Some(count) = keepalive.count {
            times = times.with_retries(count);
        }
        socket
            .set_keepalive(true)
            .and_then(|()| socket.set_tcp_keepalive(&times))
            .map_err(refused("tcp.keepalive"))?;
    }
    if let Some(timeout) = tcp.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout)).map_err(refused("tcp.user_timeout"))?;
    }
    if let Some(mark) = tcp.mark {
        socket.set_mark(mark).map_err(refused("tcp.mark"))?;
    }
    if let Some(dscp) = tcp.dscp {
        // The lower two bits of the octet are ECN's (RFC 3168).
        let octet = u32::from(dscp) << 2;
        let told = if is_ipv4 { socket.set_tos_v4(octet) } else { socket.set_tclass_v6(octet) };
        told.map_err(refused("tcp.dscp"))?;
    }
    Ok(())
}

/// Lets a listener take first bytes with the first packet.
pub(super) fn accept_fast(socket: &Socket) -> Result<(), Refused> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, FAST_OPEN_WAITING)
        .map_err(refused("tcp.fast_open"))
}

/// Holds the first packet of a connection back until it can carry bytes.
pub(super) fn connect_fast(socket: &Socket) -> Result<(), Refused> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1).map_err(refused("tcp.fast_open"))
}

/// Lets a socket have an address of another machine.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`.
pub fn be_transparent(socket: &Socket, is_ipv4: bool) -> Result<(), Refused> {
    let told = if is_ipv4 {
        socket.set_ip_transparent_v4(true)
    } else {
        socket.set_ip_transparent_v6(true)
    };
    told.map_err(refused("transparent"))
}

/// Says where a socket towards `to` comes from.
pub(super) fn come_from(
    socket: &Socket,
    to: SocketAddr,
    (source, client): (&Source, Option<SocketAddr>),
) -> Result<(), Refused> {
    if let Some(ports) = source.ports.filter(|ports| ports.by_kernel) {
        let range = i32::from_ne_bytes(
            (u32::from(ports.last) << 16 | u32::from(ports.first)).to_ne_bytes(),
        );
        set(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range)
            .map_err(refused("source_ports"))?;
    }
    let Some(bound) = source.bound(to, client, || RandomState::new().build_hasher().finish())
    else {
        return Ok(());
    };
    if source.is_the_client() {
        be_transparent(socket, to.is_ipv4())?;
    }
    if bound.port() == 0 {
        // The port is chosen by the whole connection, so that many may come from the same one.
        set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
    } else {
        socket.set_reuse_address(true)
    }
    .and_then(|()| socket.bind(&bound.into()))
    .map_err(refused(if source.is_the_client() { "transparent" } else { "source" }))
}

/// Whether sockets can be told to take a port of a range, which is so from Linux 6.3 on.
pub fn has_port_ranges() -> bool {
    let range = 40_001 << 16 | 40_000;
    let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    socket.is_ok_and(|socket| set(&socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range).is_ok())
}

fn set(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: the pointer names an integer of that length, which the kernel only reads.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
