//! The socket settings that an operator may configure: TCP options and source addresses.
//!
//! Not here: what every relay needs (`socket`), the names of settings in a configuration file.
//! Accepted sockets inherit all settings from their listener, so that the client side costs nothing
//! per session. Invariant: an error names the setting that the kernel refused.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::{Socket, TcpKeepalive};

use crate::machine::{Congestion, Source, TcpOptions};

/// Connections of a listener that may wait for the end of their handshake with early data (TCP fast
/// open); further ones use an ordinary handshake.
const FAST_OPEN_WAITING: i32 = 1024;

/// `IP_LOCAL_PORT_RANGE` of linux/in.h, Linux 6.3.
const IP_LOCAL_PORT_RANGE: i32 = 51;

/// How a socket towards a server is set up.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions<'a> {
    /// Congestion control.
    pub congestion: &'a Congestion,
    /// TCP options.
    pub tcp: &'a TcpOptions,
    /// Its source address and ports.
    pub source: &'a Source,
    /// The address of the client, for a source that is the client's own.
    pub client: Option<SocketAddr>,
}

/// A socket setting that the kernel may refuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SocketSetting {
    /// Congestion control.
    Congestion,
    /// TCP keepalive.
    Keepalive,
    /// TCP user timeout.
    UserTimeout,
    /// The mark for routing and filters.
    Mark,
    /// The DSCP field of IP headers.
    Dscp,
    /// TCP fast open.
    FastOpen,
    /// An address of another machine.
    Transparent,
    /// The source address.
    Source,
    /// The range of source ports.
    SourcePorts,
}

impl fmt::Display for SocketSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Congestion => "congestion control",
            Self::Keepalive => "TCP keepalive",
            Self::UserTimeout => "the TCP user timeout",
            Self::Mark => "the socket mark",
            Self::Dscp => "DSCP",
            Self::FastOpen => "TCP fast open",
            Self::Transparent => "an address of another machine",
            Self::Source => "the source address",
            Self::SourcePorts => "the source port range",
        })
    }
}

/// A socket could not be set up.
#[derive(Debug)]
pub struct Refused {
    /// The setting that the kernel refused; `None` if the socket failed for another reason.
    pub setting: Option<SocketSetting>,
    /// The kernel's error.
    pub error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.setting {
            Some(setting) => write!(f, "the kernel refused {setting}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

impl From<io::Error> for Refused {
    /// An error that no setting caused.
    fn from(error: io::Error) -> Self {
        Self { setting: None, error }
    }
}

impl From<Refused> for io::Error {
    /// An error of the same kind; [`is_refusal`] recognises one that a setting caused.
    fn from(refused: Refused) -> Self {
        if refused.setting.is_none() {
            return refused.error;
        }
        Self::new(refused.error.kind(), refused)
    }
}

/// Whether a connect failed before it began because the kernel refused a socket setting.
pub fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Refused>())
}

/// For `map_err`: the kernel refused this setting.
pub(super) fn refused(setting: SocketSetting) -> impl FnOnce(io::Error) -> Refused {
    move |error| Refused { setting: Some(setting), error }
}

/// Applies the options that listeners and sockets towards servers have in common. Fast open differs
/// between the two and is set elsewhere.
pub(super) fn apply_tcp_options(
    socket: &Socket,
    is_ipv4: bool,
    tcp: &TcpOptions,
) -> Result<(), Refused> {
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
            .map_err(refused(SocketSetting::Keepalive))?;
    }
    if let Some(timeout) = tcp.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout)).map_err(refused(SocketSetting::UserTimeout))?;
    }
    if let Some(mark) = tcp.mark {
        socket.set_mark(mark).map_err(refused(SocketSetting::Mark))?;
    }
    if let Some(dscp) = tcp.dscp {
        // The lower two bits of the octet are ECN's (RFC 3168).
        let octet = u32::from(dscp) << 2;
        let outcome = if is_ipv4 { socket.set_tos_v4(octet) } else { socket.set_tclass_v6(octet) };
        outcome.map_err(refused(SocketSetting::Dscp))?;
    }
    Ok(())
}

/// Takes back on a listener what [`apply_tcp_options`] and its like may have set on it: what the
/// host has by default stands again.
pub(super) fn reset_tcp_options(socket: &Socket, is_ipv4: bool) -> io::Result<()> {
    let domain = if is_ipv4 { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let fresh = Socket::new(domain, socket2::Type::STREAM, None)?;
    let times = TcpKeepalive::new()
        .with_time(fresh.tcp_keepalive_time()?)
        .with_interval(fresh.tcp_keepalive_interval()?)
        .with_retries(fresh.tcp_keepalive_retries()?);
    socket.set_tcp_keepalive(&times)?;
    socket.set_keepalive(false)?;
    socket.set_tcp_user_timeout(None)?;
    socket.set_tcp_congestion(&fresh.tcp_congestion()?)?;
    // Marks need a capability, even to be taken away.
    if socket.mark()? != 0 {
        socket.set_mark(0)?;
    }
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 0)?;
    if is_ipv4 {
        socket.set_tos_v4(0)?;
        socket.set_ip_transparent_v4(false)
    } else {
        socket.set_tclass_v6(0)?;
        socket.set_ip_transparent_v6(false)
    }
}

/// Lets a listener accept data with the first packet.
pub(super) fn accept_fast(socket: &Socket) -> Result<(), Refused> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, FAST_OPEN_WAITING)
        .map_err(refused(SocketSetting::FastOpen))
}

/// Delays the first packet of a connection until it can carry data.
pub(super) fn connect_fast(socket: &Socket) -> Result<(), Refused> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)
        .map_err(refused(SocketSetting::FastOpen))
}

/// Lets a socket bind to an address of another machine.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`.
pub fn set_transparent(socket: &Socket, is_ipv4: bool) -> Result<(), Refused> {
    let outcome = if is_ipv4 {
        socket.set_ip_transparent_v4(true)
    } else {
        socket.set_ip_transparent_v6(true)
    };
    outcome.map_err(refused(SocketSetting::Transparent))
}

/// Binds a socket towards `to` to its source address and ports.
pub(super) fn bind_source(
    socket: &Socket,
    to: SocketAddr,
    (source, client): (&Source, Option<SocketAddr>),
) -> Result<(), Refused> {
    if let Some(ports) = source.ports.filter(|ports| ports.by_kernel) {
        let range = i32::from_ne_bytes(
            (u32::from(ports.last) << 16 | u32::from(ports.first)).to_ne_bytes(),
        );
        set(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range)
            .map_err(refused(SocketSetting::SourcePorts))?;
    }
    let Some(bound) = source.bound(to, client, || RandomState::new().build_hasher().finish())
    else {
        return Ok(());
    };
    if source.is_the_client() {
        set_transparent(socket, to.is_ipv4())?;
    }
    if bound.port() == 0 {
        // The port is chosen by the whole connection, so that many may come from the same one.
        set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
    } else {
        socket.set_reuse_address(true)
    }
    .and_then(|()| socket.bind(&bound.into()))
    .map_err(refused(if source.is_the_client() {
        SocketSetting::Transparent
    } else {
        SocketSetting::Source
    }))
}

/// Whether the kernel can draw a socket's source port from a range: from Linux 6.3 on.
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
