//! Tries whether the kernel allows connects to servers as configured.
//!
//! At the start, on sockets that are thrown away, after root was given up: what would fail for
//! every session later is refused now, with a sentence. While shards serve, `servers::alarms` tries
//! again when connects turn out to be impossible. Also determines whether the kernel or the shards
//! draw source ports. Not here: listeners, whose options are set when they are made (`sockets`).

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ringlane_core::ids::BackendId;
use ringlane_core::machine::sys::{self, ConnectOptions};
use ringlane_core::machine::{Address, SourcePorts};
use ringlane_core::settings::{Backend, Snapshot};

use super::problem::Problem;

/// The kernel's own source ports; it keeps to a socket's range within them alone.
const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// A client as good as any that is not of this machine (RFC 5737, RFC 3849).
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The servers of a backend can't be connected to as configured.
#[derive(Debug)]
pub struct ConnectError {
    backend: String,
    problem: Problem,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, problem } = self;
        write!(f, "backend \"{backend}\" cannot connect to its servers: {problem}")
    }
}

impl std::error::Error for ConnectError {}

/// Tries every backend's options, and determines what draws its source ports.
pub(in crate::control) fn check(snapshot: &mut Snapshot) -> Result<(), ConnectError> {
    for backend in &mut snapshot.backends {
        if let Some(ports) = &mut backend.source.ports {
            ports.by_kernel = can_draw(ports);
        }
    }
    for (id, backend) in (0..).map(BackendId).zip(&snapshot.backends) {
        let addresses = snapshot.servers_of(id).iter().map(|server| server.address.clone());
        try_families(backend, addresses)?;
    }
    Ok(())
}

/// Tries a backend's options for the families of these addresses. A server without an address may
/// get one of either family.
pub(in crate::control) fn try_families(
    backend: &Backend,
    addresses: impl IntoIterator<Item = Option<Address>>,
) -> Result<(), ConnectError> {
    let (mut v4, mut v6) = (false, false);
    for address in addresses {
        let is_v6 = matches!(address, Some(Address::Inet(SocketAddr::V6(_))));
        v4 |= !is_v6;
        v6 |= is_v6 || address.is_none();
    }
    if v4 {
        probe(backend, (Ipv4Addr::LOCALHOST, 1).into(), (CLIENT_V4, 0).into())?;
    }
    if v6 {
        probe(backend, (Ipv6Addr::LOCALHOST, 1).into(), (CLIENT_V6, 0).into())?;
    }
    Ok(())
}

fn probe(backend: &Backend, to: SocketAddr, client: SocketAddr) -> Result<(), ConnectError> {
    let Backend { congestion, tcp, source, .. } = backend;
    let options = ConnectOptions { congestion, tcp, source, client: Some(client) };
    sys::probe_connect(to, &options).map_err(|refused| ConnectError {
        backend: backend.name.clone(),
        problem: Problem::from_listen(refused, congestion),
    })
}

/// Whether the kernel draws from these ports.
fn can_draw(ports: &SourcePorts) -> bool {
    let own = fs::read_to_string(LOCAL_PORTS).unwrap_or_default();
    let mut own = own.split_whitespace().map_while(|port| port.parse::<u16>().ok());
    match (own.next(), own.next()) {
        (Some(first), Some(last)) => {
            first <= ports.first && ports.last <= last && sys::has_port_ranges()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ringlane_core::machine::{Source, SourceAddress};

    use super::*;
    use crate::control::report::status::tests::snapshot;

    fn with(source: Source) -> Result<Snapshot, String> {
        let mut snapshot = snapshot();
        snapshot.backends[0].source = source;
        check(&mut snapshot).map_err(|error| error.to_string())?;
        Ok(snapshot)
    }

    #[test]
    fn an_address_of_another_machine_is_refused_with_the_name_of_the_backend() {
        let address = SourceAddress::Fixed(Some(CLIENT_V4), None);
        let error = with(Source { address, ports: None }).unwrap_err();
        assert!(error.starts_with("backend \"postgres\" cannot connect"), "{error}");
        assert!(error.contains("no interface of this machine has that address"), "{error}");
        let address = SourceAddress::Fixed(Some(Ipv4Addr::LOCALHOST), None);
        with(Source { address, ports: None }).unwrap();
    }

    #[test]
    fn ports_outside_of_the_kernels_range_are_drawn_here() {
        let drawn_by_kernel = |first, last| {
            let ports = Some(SourcePorts { first, last, by_kernel: false });
            let snapshot = with(Source { address: SourceAddress::Host, ports }).unwrap();
            snapshot.backends[0].source.ports.unwrap().by_kernel
        };
        assert!(!drawn_by_kernel(1, 65_535));
        let own = fs::read_to_string(LOCAL_PORTS).unwrap();
        let own: Vec<u16> = own.split_whitespace().map(|port| port.parse().unwrap()).collect();
        assert_eq!(drawn_by_kernel(own[0], own[1]), sys::has_port_ranges());
    }

    #[test]
    fn a_server_without_an_address_may_get_one_of_either_family() {
        let mut snapshot = snapshot();
        let nowhere = SourceAddress::Fixed(None, Some(CLIENT_V6));
        snapshot.backends[0].source = Source { address: nowhere, ports: None };
        let v4 = Address::Inet((Ipv4Addr::LOCALHOST, 1).into());
        snapshot.servers.iter_mut().for_each(|server| server.address = Some(v4.clone()));
        check(&mut snapshot).unwrap();
        snapshot.servers[0].address = None;
        let error = check(&mut snapshot).unwrap_err().to_string();
        assert!(error.contains("no interface of this machine has that address"), "{error}");
    }
}
