//! Where sockets connect and listen, and the options that are set on them.
//!
//! Plain data. Not here: the system calls (`sys`). Invariant: the defaults set no option, so that a
//! session without any of this pays for none of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where something listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A stream socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which congestion control a side uses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Congestion {
    /// The host's, but a loss-based one for bulk on paths under about a millisecond, where a
    /// pacing one (bbr) would double the cost.
    #[default]
    Auto,
    /// The host's default, untouched.
    Host,
    /// This one.
    Named(String),
}

/// What the TCP sockets of one side are told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TcpOptions {
    /// Whether a silent connection is asked now and then if it is still there.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may go unacknowledged before the connection is given up (RFC 5482).
    pub user_timeout: Option<Duration>,
    /// Whether the first bytes may come with the first packet (RFC 7413).
    pub fast_open: bool,
    /// What the firewall and the routing rules of this machine know the packets by.
    pub mark: Option<u32>,
    /// What routers know the packets by (RFC 2474), 0 to 63.
    pub dscp: Option<u8>,
}

/// When a silent connection is asked if it is still there; `None`: as the host has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Keepalive {
    /// Silence before the first question, whole seconds.
    pub idle: Option<Duration>,
    /// Between questions, whole seconds.
    pub interval: Option<Duration>,
    /// Questions without an answer after which the connection is given up.
    pub count: Option<u32>,
}

/// Where connections to servers come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// The address.
    pub address: SourceAddress,
    /// The ports; where nothing is said, the kernel takes one of its own range.
    pub ports: Option<SourcePorts>,
}

/// Which address connections to servers come from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SourceAddress {
    /// The one that the kernel chooses by the route.
    #[default]
    Host,
    /// One per family; for a family without one the kernel chooses.
    Fixed(Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// The client's own (transparent mode), if it has one of the server's family.
    Client,
    /// The client's own, and its port.
    ClientAndPort,
}

/// Which ports connections to servers come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourcePorts {
    /// The lowest.
    pub first: u16,
    /// The highest, not below the lowest.
    pub last: u16,
    /// Whether the kernel can draw them. It does within its own range (`ip_local_port_range`) and
    /// from Linux 6.3 on; otherwise they are drawn here, and drawn again if they are taken.
    pub by_kernel: bool,
}

impl Source {
    /// Whether it goes by the client's address.
    pub const fn is_the_client(&self) -> bool {
        matches!(self.address, SourceAddress::Client | SourceAddress::ClientAndPort)
    }

    /// Whether another attempt may have more luck, since ports are drawn here.
    pub const fn draws(&self) -> bool {
        matches!(self.ports, Some(SourcePorts { by_kernel: false, .. }))
    }

    /// Where a socket towards `to` is bound, port 0 for the kernel's choice; `None`: nowhere.
    /// `number` draws the port.
    pub fn bound(
        &self,
        to: SocketAddr,
        client: Option<SocketAddr>,
        number: impl FnOnce() -> u64,
    ) -> Option<SocketAddr> {
        let fits = |ip: &IpAddr| ip.is_ipv4() == to.is_ipv4();
        let client = client.filter(|client| fits(&client.ip()));
        if let (SourceAddress::ClientAndPort, Some(client)) = (self.address, client) {
            return Some(client);
        }
        let address = match self.address {
            SourceAddress::Host => None,
            SourceAddress::Fixed(v4, _) if to.is_ipv4() => v4.map(IpAddr::V4),
            SourceAddress::Fixed(_, v6) => v6.map(IpAddr::V6),
            SourceAddress::Client | SourceAddress::ClientAndPort => client.map(|c| c.ip()),
        };
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        match self.ports.filter(|ports| !ports.by_kernel) {
            Some(ports) => Some((address.unwrap_or(any), ports.draw(number())).into()),
            None => address.map(|address| (address, 0).into()),
        }
    }
}

impl SourcePorts {
    fn draw(self, number: u64) -> u16 {
        let ports = u64::from(self.last.saturating_sub(self.first)) + 1;
        // Below 65,536.
        self.first.saturating_add((number % ports) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_is_of_the_servers_family_or_the_kernels_choice() {
        let fixed = SourceAddress::Fixed(Some(Ipv4Addr::new(10, 0, 0, 5)), None);
        let ports = |by_kernel| Some(SourcePorts { first: 20_000, last: 20_009, by_kernel });
        let (v4, v6) = ("10.0.0.9:5432", "[2001:db8::9]:5432");
        let client = Some("192.0.2.1:4000");
        for (address, ports, to, client, bound) in [
            (SourceAddress::Host, None, v4, client, None),
            (SourceAddress::Host, ports(true), v4, client, None),
            (SourceAddress::Host, ports(false), v4, client, Some("0.0.0.0:20003")),
            (SourceAddress::Host, ports(false), v6, client, Some("[::]:20003")),
            (fixed, None, v4, client, Some("10.0.0.5:0")),
            (fixed, None, v6, client, None),
            (fixed, ports(true), v4, client, Some("10.0.0.5:0")),
            (fixed, ports(false), v4, client, Some("10.0.0.5:20003")),
            (SourceAddress::Client, None, v4, client, Some("192.0.2.1:0")),
            (SourceAddress::Client, ports(false), v4, client, Some("192.0.2.1:20003")),
            (SourceAddress::Client, None, v6, client, None),
            (SourceAddress::Client, None, v4, None, None),
            (SourceAddress::ClientAndPort, None, v4, client, Some("192.0.2.1:4000")),
            (SourceAddress::ClientAndPort, None, v6, client, None),
        ] {
            let source = Source { address, ports };
            let found = source.bound(at(to), client.map(at), || 123_453);
            assert_eq!(found, bound.map(at), "{source:?} towards {to}");
        }
    }
}
